"""Cancelling and dying: every process is gone within ten seconds, in every phase; only what did nothing yet is tried again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import zmq

from workbench.cohort.table import Cohort
from workbench.errors import RunError
from workbench.execution import notebook
from workbench.execution.kernel import stops_on_signals
from workbench.execution.notebook import RunFailedError
from workbench.files import read_json
from workbench.jobs.processes import RUN_VARIABLE, cancel, kill_processes, processes_of
from workbench.records.run_folder import RunFolder
from workbench.setup.opening import open_run
from workbench.setup.parameters import ExperimentParameters

SPEC = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
SMALL: dict[str, Any] = {
    "size": "demo", "spacing": 4.0, "epochs": 3, "steps_per_epoch": 400, "validate_every": 1, "resamples": 100, "maps": 0,
    "threads": 1, "width": 4, "levels": 3, "patch": 32, "subsets": "none",
}  # fmt: skip
LIMIT = 10.0


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "e", SPEC)


# -- without a kernel ------------------------------------------------------------------------------------------------------


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the starts of a kernel end with, in order; those that were made are taken away."""
    plan: list[Any] = []

    def run_cells(path: Path, partial: Path, parameters: Any, kernel: Any) -> BaseException | None:
        error, kernel.cell = plan.pop(0)
        kernel.close()
        return error

    monkeypatch.setattr(notebook, "_run_cells", run_cells)
    return plan


def execute(run: RunFolder) -> None:
    run.claim()
    notebook._execute(Path("unet.ipynb"), run, SimpleNamespace(method="unet"), 0.0)  # type: ignore[arg-type]


def test_a_kernel_that_dies_before_the_first_cell_is_started_once_more(run: RunFolder, starts: list[Any]) -> None:
    starts += [(RuntimeError("Kernel died before replying to kernel_info"), None), (None, (3, 5, "x"))]
    execute(run)
    assert (run.state, starts) == ("completed", [])


def test_once_and_no_more(run: RunFolder, starts: list[Any]) -> None:
    starts += [(RuntimeError("Kernel died before replying to kernel_info"), None)] * 3
    with pytest.raises(RunFailedError, match="before the first cell"):
        execute(run)
    assert (run.state, len(starts)) == ("failed", 1)


@pytest.mark.parametrize("error", [ValueError("odd path"), KeyError("python3"), zmq.ZMQError(36), RunError("set TMPDIR")])
@pytest.mark.parametrize("place", ["make_socket_folder", "papermill"])
def test_whatever_goes_wrong_while_a_kernel_starts_is_a_failed_run_with_its_reason(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    if place == "papermill":
        monkeypatch.setattr(notebook.papermill, "execute_notebook", fails)
    else:
        monkeypatch.setattr(f"workbench.execution.kernel.{place}", fails)
    monkeypatch.setattr(notebook, "check_ready", lambda *_: None)
    with pytest.raises(RunError, match=re.escape(str(error))):
        notebook.run_notebook("unet", {**SMALL, "cohort": str(tiny_cohort.folder), "runs": str(tmp_path)}, progress=False)
    [folder] = (tmp_path / "default").glob("*/spec.json")
    run = RunFolder.open(folder.parent)
    assert run.state == "failed"
    assert str(error) in run.status["error"]


@pytest.mark.parametrize("error", [RuntimeError("Kernel died"), OSError(28, "No space left on device")])
def test_what_has_begun_or_would_fail_again_is_not_retried(run: RunFolder, starts: list[Any], error: Exception) -> None:
    starts += [(error, (1, 0, "cohort = ''") if isinstance(error, RuntimeError) else None)] * 2
    with pytest.raises(RunFailedError):
        execute(run)
    assert len(starts) == 1
    assert run.status["failure"]["exception"] == type(error).__name__


@pytest.mark.parametrize(("ask", "state"), [("request_cancel", "cancelled"), ("request_pause", "interrupted")])
def test_a_request_decides_the_state_unless_all_was_done(run: RunFolder, starts: list[Any], ask: str, state: str) -> None:
    run.claim()
    getattr(run, ask)()
    starts += [(RuntimeError("stopped"), (1, 0, "x"))]
    with pytest.raises(RunError, match=state):
        notebook._execute(Path("unet.ipynb"), run, SimpleNamespace(method="unet"), 0.0)  # type: ignore[arg-type]
    assert (run.state, "failure" in run.status) == (state, False)
    execute_again = RunFolder.open(run.folder)
    execute_again.claim()
    getattr(execute_again, ask)()
    starts += [(None, (9, 9, "x"))]
    notebook._execute(Path("unet.ipynb"), execute_again, SimpleNamespace(method="unet"), 0.0)  # type: ignore[arg-type]
    assert run.state == "completed", "it was asked too late"


def test_a_run_that_was_cancelled_in_the_queue_is_not_taken_up_by_its_worker(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = SMALL | {"cohort": str(tiny_cohort.folder), "runs": str(tmp_path)}
    _, waiting = open_run(ExperimentParameters.build("unet", values))
    assert cancel(waiting) == "cancelled"
    monkeypatch.setenv("WORKBENCH_QUEUED", "1")
    with pytest.raises(RunError, match="was cancelled while it was queued"):
        notebook.run_notebook("unet", values)


def test_the_driver_keeps_the_run_from_going_stale_while_its_kernel_is_silent(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beating: list[bool] = []

    def silent(path: Path, run: RunFolder, *_: object) -> None:
        beating.append(any(thread.name == "heartbeat" for thread in threading.enumerate()))

    monkeypatch.setattr(notebook, "_execute", silent)
    notebook.run_notebook("unet", SMALL | {"cohort": str(tiny_cohort.folder), "runs": str(tmp_path)}, progress=False)
    assert beating == [True]


def test_signals_ask_to_stop_and_a_cancellation_stays_one(run: RunFolder, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite started in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with stops_on_signals(run):
        os.kill(os.getpid(), signal.SIGTERM)
        assert run.is_paused()
        run.request_cancel()
        os.kill(os.getpid(), signal.SIGHUP)
        assert run.should_stop()
        assert not run.is_paused()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_processes_in_sessions_of_their_own_belong_to_the_run_too(run: RunFolder) -> None:
    """As torchrun's workers, and data loading processes whose kernel was killed."""
    environment = os.environ | {RUN_VARIABLE: str(run.folder.resolve())}
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    child = subprocess.Popen(
        [sys.executable, "-c", stubborn], env=environment, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    stranger = subprocess.Popen(
        [sys.executable, "-c", stubborn], env=os.environ | {RUN_VARIABLE: "/another"}, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert stranger.stdout is not None
        child.stdout.readline()
        stranger.stdout.readline()
        assert [process.pid for process in processes_of(run)] == [child.pid]
        kill_processes(run)
        assert child.wait(timeout=5) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        for process in (child, stranger):
            process.kill()
            process.communicate()


# -- with kernels ----------------------------------------------------------------------------------------------------------


def begin(cohort: Cohort, runs: Path, **values: Any) -> tuple[subprocess.Popen[str], RunFolder]:
    given = SMALL | {"cohort": str(cohort.folder), "runs": str(runs)} | values
    _, run = open_run(ExperimentParameters.build("unet", given))
    parts = [sys.executable, "-m", "workbench.cli", "run", "unet", *(f"-p{name}={value}" for name, value in given.items())]
    return subprocess.Popen(parts, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True), run


def wait(done: Callable[[], bool], driver: subprocess.Popen[str], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert driver.poll() is None, driver.communicate()[1][-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def activity(run: RunFolder) -> str:
    path = run.folder / "progress.json"
    return str(read_json(path)["activity"]) if path.is_file() else ""


def assert_gone(run: RunFolder, before: list[int]) -> None:
    assert processes_of(run) == []
    alive = [pid for pid in before if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    assert alive == []


@pytest.mark.slow
def test_cancelled_in_training_with_data_workers_and_then_with_a_kernel_that_answers_nobody(
    tiny_cohort: Cohort, tmp_path: Path
) -> None:
    """The first saves a checkpoint and resumes from it; the second, stopped dead, is killed all the same."""
    driver, run = begin(tiny_cohort, tmp_path, workers=2)
    wait(lambda: (run.folder / "events.jsonl").is_file(), driver)
    family = [process.pid for process in processes_of(run)]
    assert len(family) >= 4, "driver, kernel, two data workers"
    start = time.monotonic()
    assert cancel(run) == "cancelled"
    assert time.monotonic() - start < LIMIT
    driver.communicate(timeout=20)
    assert_gone(run, family)
    saved = read_json(run.folder / "checkpoints" / "last.json")["state"]["step"]
    assert saved >= 1
    assert "cell 5" in (run.folder / "run.log").read_text()

    driver, run = begin(tiny_cohort, tmp_path, workers=2)
    wait(lambda: len(run.events()) > 0 and run.events()["step"].max() > saved + 5, driver)
    family = [process.pid for process in processes_of(run)]
    os.kill(run.status["kernel_pid"], signal.SIGSTOP)
    start = time.monotonic()
    assert cancel(run) == "cancelled"
    assert time.monotonic() - start < LIMIT
    driver.communicate(timeout=20)
    assert_gone(run, family)
    assert read_json(run.folder / "checkpoints" / "last.json")["state"]["step"] >= saved, "the earlier checkpoint is whole"


@pytest.mark.slow
def test_a_killed_kernel_and_a_killed_data_worker_say_so(tiny_cohort: Cohort, tmp_path: Path) -> None:
    driver, run = begin(tiny_cohort, tmp_path, workers=1)
    wait(lambda: (run.folder / "events.jsonl").is_file(), driver)
    kernel = psutil.Process(run.status["kernel_pid"])
    worker = max(kernel.children(recursive=True), key=lambda process: process.create_time())
    worker.kill()
    said = driver.communicate(timeout=60)[1]
    assert driver.returncode == 1
    assert "data loading process" in run.status["error"]
    assert run.status["failure"]["heading"] == "Training"
    assert "the last lines of" in said

    driver, run = begin(tiny_cohort, tmp_path, workers=1)
    wait(lambda: run.state == "running" and "kernel_pid" in run.status and activity(run) == "training", driver)
    os.kill(run.status["kernel_pid"], signal.SIGKILL)
    said = driver.communicate(timeout=60)[1]
    assert "(experiment.train()): the kernel was killed by SIGKILL: probably out of memory" in run.status["error"]
    assert run.status["error"] in said


@pytest.mark.slow
def test_cancelled_under_load_it_saves_and_leaves_no_process(tiny_cohort: Cohort, tmp_path: Path) -> None:
    """With twice as many busy processes as cores beside it; how long it took is printed, not asserted."""
    driver, run = begin(tiny_cohort, tmp_path, workers=0)
    wait(lambda: (run.folder / "events.jsonl").is_file(), driver)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        family = [process.pid for process in processes_of(run)]
        start = time.monotonic()
        assert cancel(run) == "cancelled"
        taken = time.monotonic() - start
        print(f"cancelled under load in {taken:.1f} s")
        driver.communicate(timeout=60)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert_gone(run, family)
    steps = run.events()["step"].max()
    assert steps < SMALL["epochs"] * SMALL["steps_per_epoch"], "it had ended by itself: the test shows nothing"
    assert read_json(run.folder / "checkpoints" / "last.json")["state"]["step"] >= 1
