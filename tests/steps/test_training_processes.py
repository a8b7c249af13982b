"""A run whose training is shared by two processes: through the notebook, equal to one process, interrupted, failing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from workbench.cohort.table import Cohort
from workbench.errors import RunError
from workbench.experiments.experiment import Experiment
from workbench.files import read_json
from workbench.jobs.processes import processes_of
from workbench.records.run_folder import RunFolder
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.setup_notes import note_setup
from workbench.training.checkpoints import load_checkpoint

TINY = {
    "size": "demo", "spacing": 4.0, "epochs": 6, "steps_per_epoch": 2, "resamples": 100, "maps": 0, "subsets": "none", "width": 4,
    "levels": 3, "patch": 32, "device": "cpu",
}  # fmt: skip
TOLERANCE = 1e-5


def parameters(cohort: Cohort, runs: Path, **values: Any) -> ExperimentParameters:
    return ExperimentParameters.build("unet", TINY | {"cohort": str(cohort.folder), "runs": str(runs)} | values)


@pytest.fixture(scope="module")
def together(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """`workbench run unet -p processes=2`."""
    runs = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "workbench.cli", "run", "unet", "--cohort", str(tiny_cohort.folder), "--runs", str(runs)]
    values = TINY | {"processes": 2, "threads": 2}
    options = [text for name, value in values.items() for text in ("-p", f"{name}={value}")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return RunFolder.open(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """An experiment sets torch's threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def weights(run: RunFolder, name: str = "last") -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(run.checkpoint(name)).model)


def processes(run: RunFolder) -> dict[str, psutil.Process]:
    """The launcher and the training processes that live now, by 'launcher' or rank."""
    found = {}
    for process in processes_of(run, driver=False):
        with suppress(psutil.Error):
            found[process.environ().get("RANK", "launcher")] = process
    return found


@contextmanager
def after_first_steps(run: RunFolder, act: Callable[[], None]) -> Iterator[None]:
    """Do something once a loss has been recorded that was not there before."""
    before = len(run.events())
    over = threading.Event()

    def wait() -> None:
        while not over.wait(0.02):
            if len(run.events()) > before:
                act()
                return

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.notebook
def test_a_run_of_two_processes_equals_one_that_accumulates(
    together: RunFolder, tiny_cohort: Cohort, tmp_path: Path, one_thread: None
) -> None:
    assert together.state == "completed"
    budget = together.status["budget"]
    assert (budget["processes"], budget["threads"], budget["steps"]) == (2, 1, 12)
    assert together.spec["parameters"]["processes"] == 2
    assert not processes(together)

    alone = Experiment(parameters(tiny_cohort, tmp_path, accumulate=2, threads=1), progress=False).train().run
    assert alone.status["budget"]["processes"] == 1
    for count in ("samples", "flops", "parameters"):
        assert alone.status["budget"][count] == budget[count], count
    curves = alone.events().merge(together.events(), on=["name", "step"], how="outer", suffixes=("_alone", "_together"))
    assert not curves.isna().any(axis=None)
    assert {"train/objective", "validation/score"} <= set(curves["name"])
    assert (curves["value_alone"] - curves["value_together"]).abs().max() < TOLERANCE
    for name in ("last", "best"):
        expected, found = weights(alone, name), weights(together, name)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=TOLERANCE, atol=TOLERANCE, msg=key)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1200)  # four launches of three processes each, on a machine that may be busy
def test_whatever_interrupts_it_no_process_stays_and_the_resumed_run_is_the_same_to_the_bit(
    together: RunFolder, tiny_cohort: Cohort, tmp_path: Path, one_thread: None
) -> None:
    experiment = Experiment(parameters(tiny_cohort, tmp_path, processes=2, threads=2), progress=False)
    run = experiment.run
    interruptions: dict[str, Callable[[], None]] = {
        r"launcher of 2 training processes was killed by SIGKILL": lambda: processes(run)["launcher"].kill(),
        r"training process 1 of 2 .* was killed by SIGKILL": lambda: processes(run)["1"].kill(),
        r"was cancelled at step [1-9]": run.request_cancel,
    }
    for message, interrupt in interruptions.items():
        run.claim()
        with after_first_steps(run, interrupt), pytest.raises(RunError, match=message):
            experiment.train()
        deadline = time.monotonic() + 10
        while processes(run) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not processes(run), message
        assert not experiment.trained
        run.set_status("interrupted")
    run.claim()
    experiment.train()
    assert read_json(run.path("training.json"))["budget"]["processes"] == 2
    expected = weights(together)
    assert all(torch.equal(value, expected[key]) for key, value in weights(run).items())
    merged = run.events().merge(together.events(), on=["name", "step"], how="outer", suffixes=("", "_undisturbed"))
    assert merged["value"].equals(merged["value_undisturbed"])


@pytest.mark.slow
def test_what_went_wrong_in_a_process_is_said_with_its_rank(tiny_cohort: Cohort, tmp_path: Path, one_thread: None) -> None:
    diverging = parameters(tiny_cohort, tmp_path, processes=2, threads=2, learning_rate=1e30, clip=0.0, warmup=0.0)
    experiment = Experiment(diverging, progress=False)
    with pytest.raises(RunError, match=r"training process [01] of 2 .*not finite at optimiser step \d+.*lower the learning rate"):
        experiment.train()
    assert not experiment.trained


@pytest.mark.parametrize(("method", "said"), [("attention_unet", True), ("unet", False)])
def test_batch_normalisation_of_several_processes_is_said(
    method: str, said: bool, tiny_cohort: Cohort, tmp_path: Path, one_thread: None
) -> None:
    values = {"cohort": str(tiny_cohort.folder), "runs": str(tmp_path), "size": "demo", "width": 4, "processes": 2, "threads": 1}
    experiment = Experiment(ExperimentParameters.build(method, values), progress=False)
    note_setup(experiment)
    assert any("batch normalisation" in note for note in experiment.notes) == said
