"""`workbench extend`: what it refuses without a kernel, and a child that equals itself, run through the same road."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.execution import extension
from workbench.execution.extension import extend_run
from workbench.experiments.experiment import Experiment
from workbench.experiments.reopening import reopen
from workbench.files import write_json
from workbench.records.index import list_runs
from workbench.records.run_folder import RunFolder
from workbench.setup.opening import open_run
from workbench.setup.parameters import ExperimentParameters
from workbench.training.checkpoints import load_checkpoint

SMALL: dict[str, Any] = {
    "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "resamples": 100, "maps": 0,
    "threads": 1, "width": 4, "levels": 3, "patch": 32, "subsets": "none", "ema": 0.9,
}  # fmt: skip


def parameters(cohort: Cohort, runs: Path, **values: Any) -> ExperimentParameters:
    return ExperimentParameters.build("unet", SMALL | {"cohort": str(cohort.folder), "runs": str(runs)} | values)


@pytest.fixture
def finished(tiny_cohort: Cohort, tmp_path: Path) -> RunFolder:
    """A run folder that says it is completed and has the description of a last checkpoint, without any training."""
    _, run = open_run(parameters(tiny_cohort, tmp_path))
    run.claim()
    run.set_status("completed")
    write_json(run.path("checkpoints", "last.json"), {"state": {"step": 2}, "settings": {"steps_per_epoch": 2}})
    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been executed."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(extension, "run_notebook", lambda method, values, **rest: calls.append({"values": values} | rest))
    return calls


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "'epochs' is missing"),
        ({"epochs": "1"}, "has done 1 epochs already"),
        ({"epochs": "-1"}, "has done 1 epochs already"),
        ({"epochs": "many"}, "'epochs' = 'many'"),
        ({"epochs": "2", "width": "8"}, "'width' cannot change when a run is extended.*width=4"),
        ({"epochs": "2", "seed": "1"}, "'seed' cannot change"),
        ({"epochs": "2", "widht": "8"}, "'widht' is unknown to unet"),
        ({"epochs": "2", "pretrained": "x"}, "was given no such file"),
    ],
)
def test_what_cannot_change_is_refused_by_name(
    finished: RunFolder, asked: list[dict[str, Any]], given: dict[str, str], reason: str
) -> None:
    with pytest.raises(ParameterError, match=reason):
        extend_run(finished.folder, given)
    assert asked == []


def test_a_parent_that_is_not_completed_or_lost_its_checkpoint_is_refused(
    finished: RunFolder, tiny_cohort: Cohort, tmp_path: Path
) -> None:
    _, waiting = open_run(parameters(tiny_cohort, tmp_path, seed=5))
    with pytest.raises(RunError, match="is queued: only a completed run"):
        extend_run(waiting.folder, {"epochs": "2"})
    (finished.folder / "checkpoints" / "last.json").unlink()
    with pytest.raises(RunError, match="last checkpoint is gone"):
        extend_run(finished.folder, {"epochs": "2"})


def test_the_child_is_named_by_its_parent_and_its_parameters(
    finished: RunFolder, asked: list[dict[str, Any]], tiny_cohort: Cohort, tmp_path: Path
) -> None:
    extend_run(finished.folder, {"epochs": "2", "patience": "3"})
    derived = asked[0]["derived"]
    assert derived == {"kind": "extended", "parents": [finished.spec["run"]], "after": 2}
    chosen = ExperimentParameters.build("unet", asked[0]["values"])
    _, child = open_run(chosen, derived=derived)
    _, plain = open_run(chosen)
    _, longer = open_run(chosen.model_copy(update={"epochs": 3}), derived=derived)
    names = {run.folder.name for run in (finished, child, plain, longer)}
    assert len(names) == 4, "a run of that length from the start is another run"
    assert child.spec["derived"] == derived
    assert child.spec["parameters"]["patience"] == 3
    assert child.cohort_path == finished.cohort_path


@pytest.mark.slow
def test_an_extended_run_goes_on_and_equals_itself(tiny_cohort: Cohort, tmp_path: Path) -> None:
    """The road of a notebook without its kernel: prepare, train, evaluate; the child twice, once interrupted by forgetting."""
    short = parameters(tiny_cohort, tmp_path)
    parent = Experiment(short, progress=False).prepare().train().evaluate()
    before = {path: path.read_bytes() for path in parent.run.folder.rglob("*") if path.is_file()}
    derived = {"kind": "extended", "parents": [parent.run.spec["run"]], "after": 2}
    longer = parameters(tiny_cohort, tmp_path, epochs=3)
    child = Experiment(longer, progress=False, derived=derived).train().evaluate()
    assert child.run.state == "completed"
    events = child.run.events()
    mine = events[events["name"] == "train/objective"]
    assert mine["step"].tolist() == [1, 2, 3, 4, 5, 6], "the parent's curve and its own"
    old = parent.run.events()
    assert mine["value"].tolist()[:2] == old[old["name"] == "train/objective"]["value"].tolist()
    assert child.training["budget"]["samples"] == 3 * parent.training["budget"]["samples"]
    assert any("Extended from run" in note for note in child.training["notes"])
    weights = load_checkpoint(child.run.checkpoint("last")).model
    metrics = child.run.metrics()
    assert repr(reopen(child.run.folder)) == repr(child)

    shutil.rmtree(child.run.folder)
    again = Experiment(longer, progress=False, derived=derived).train().evaluate()
    found = load_checkpoint(again.run.checkpoint("last")).model
    assert all(bool((value == found[name]).all()) for name, value in weights.items())
    pd.testing.assert_frame_equal(metrics, again.run.metrics())
    assert {path: path.read_bytes() for path in parent.run.folder.rglob("*") if path.is_file()} == before
    rows = {row.run: row for row in list_runs(tmp_path)}
    assert len(rows) == 2
    assert rows[f"default/{again.run.folder.name}"].derived["parents"] == [parent.run.folder.name]

    grandchild = Experiment(
        parameters(tiny_cohort, tmp_path, epochs=4), progress=False,
        derived={"kind": "extended", "parents": [again.run.folder.name], "after": 6},
    ).train()  # fmt: skip
    assert grandchild.training["steps"] == 8
