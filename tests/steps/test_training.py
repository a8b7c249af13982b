"""What is left of a training in the run folder: `training.json` at its end and not before, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.cohort.table import Cohort
from workbench.files import read_json, write_json
from workbench.records.run_folder import TRAINING_FILE, RunFolder
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.run_setup import RunSetup
from workbench.steps import training
from workbench.steps.training import learn, steps_done


@pytest.fixture
def setup_of(tiny_cohort: Cohort, tmp_path: Path) -> RunSetup:
    """A U-Net on the tiny cohort, never prepared."""
    values = {
        "size": "demo", "width": 4, "levels": 3, "patch": 16, "sampling": "patch", "threads": 1,
        "cohort": str(tiny_cohort.folder), "runs": str(tmp_path),
    }  # fmt: skip
    made = RunSetup(ExperimentParameters.build("unet", values), progress=False)
    made.prepared = None  # type: ignore[assignment]
    return made


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Function that lets every training end with a given word; what they were given is put into the list."""
    given: list[Any] = []

    def end(stopped: str) -> list[Any]:
        def train(*arguments: Any, **_: Any) -> Any:
            given.append(arguments)
            return SimpleNamespace(step=24, stopped=stopped, best_score=0.7, best_step=12, budget={"steps": 24})

        monkeypatch.setattr(training, "train", train)
        return given

    monkeypatch.setattr(training, "Sampler", lambda *_: SimpleNamespace(batch=None, augment=None))
    return end


def test_the_end_of_a_training_is_kept_with_its_notes_and_its_model(setup_of: RunSetup, ends: Callable[[str], list[Any]]) -> None:
    setup_of.notes.append("a remark")
    given = ends("finished")
    learn(setup_of)
    network, _, settings, _, validation = given[0]
    assert network is setup_of.network
    assert settings == setup_of.training_settings()
    assert len(validation) == 2
    document = read_json(setup_of.run.folder / TRAINING_FILE)
    assert (document["checkpoint"], document["steps"], document["best_step"]) == ("best", 24, 12)
    assert (document["stopped"], document["score"], document["best_score"]) == ("finished", "mean Dice", 0.7)
    assert "a remark" in document["notes"]
    assert document["model"] == {"modalities": ["t1", "t1c", "t2", "flair"], "classes": 4, "markers": [], "patch": [16, 16, 16]}
    assert setup_of.trained


def test_where_nothing_can_be_validated_the_last_weights_count(setup_of: RunSetup, ends: Callable[[str], list[Any]]) -> None:
    rows = setup_of.cases_by_split
    rows["validation"] = rows["validation"].assign(segmentation=None)
    given = ends("finished")
    learn(setup_of)
    assert given[0][4] is None
    assert setup_of.training["checkpoint"] == "last"


def test_a_cancelled_training_and_another_process_leave_nothing(setup_of: RunSetup, ends: Callable[[str], list[Any]]) -> None:
    ends("cancelled")
    learn(setup_of)
    assert not setup_of.trained
    setup_of.main = False
    ends("finished")
    learn(setup_of)
    assert not setup_of.trained


def test_steps_are_those_of_the_last_checkpoint(tmp_path: Path) -> None:
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    run = RunFolder.create(tmp_path / "e", spec)
    assert steps_done(run) == 0
    write_json(run.checkpoint("best").with_suffix(".json"), {"step": 4})
    assert steps_done(run) == 0
    write_json(run.checkpoint("last").with_suffix(".json"), {"step": 8})
    assert steps_done(run) == 8
    run.checkpoint("last").with_suffix(".json").write_text("{")
    assert steps_done(run) == 0, "it is being written"
