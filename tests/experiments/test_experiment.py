"""What one run works with: who is learned from, what is counted on whom, and which weights are used in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.cohort.table import Cohort
from workbench.experiments.experiment import Experiment
from workbench.setup.parameters import ExperimentParameters
from workbench.steps.validation_score import Validation
from workbench.training.checkpoints import load_checkpoint

SMALL: dict[str, dict[str, Any]] = {
    "unet": {
        "width": 4, "levels": 3, "patch": 16, "sampling": "patch", "batch_size": 1, "epochs": 2, "steps_per_epoch": 1,
        "validate_every": 1, "ema": 0.0,
    },
    "densenet121": {"width": 4, "growth": 2, "markers": "idh,grade"},
}  # fmt: skip


def experiment(method: str, cohort: Cohort, runs: Path, **values: Any) -> Experiment:
    given = {"size": "demo", "spacing": 6.0, "threads": 1, "cohort": str(cohort.folder), "runs": str(runs)}
    return Experiment(ExperimentParameters.build(method, given | SMALL[method] | values), progress=False)


@pytest.mark.parametrize(("fold", "expected"), [(0, ("WT", "glioma")), (3, ("glioma",)), (4, ("glioma",))])
def test_label_sets_are_those_of_training_cases(
    fold: int, expected: tuple[str, ...], tiny_cohort: Cohort, tmp_path: Path
) -> None:
    """One case has a whole-tumour mask only: it trains in fold 0, validates in fold 3 and is tested in fold 4."""
    made = experiment("unet", tiny_cohort, tmp_path, fold=fold)
    assert made.split["TINY-00004-000"] == {0: "train", 3: "validation", 4: "test"}[fold]
    assert made.label_sets == expected


def test_class_weights_are_counted_on_training_cases(tiny_cohort: Cohort, tmp_path: Path) -> None:
    """Of seven training cases three are mutant and three of grade 4; of all twelve six and four."""
    made = experiment("densenet121", tiny_cohort, tmp_path)
    rows = made.cases_by_split["train"]
    assert sorted(rows["idh"]) == [0, 0, 0, 0, 1, 1, 1]
    assert sorted(rows["grade"]) == [2, 2, 3, 3, 4, 4, 4]
    weights = made.model.marker_weights
    assert weights["idh"].tolist() == pytest.approx([7 / (2 * 4), 7 / (2 * 3)])
    assert weights["grade"].tolist() == pytest.approx([7 / (2 * 4), 7 / (2 * 3)])


def test_oversampled_classes_weigh_the_same(tiny_cohort: Cohort, tmp_path: Path) -> None:
    """One of the three mutants is drawn twice: both rules together balance a marker once."""
    weights = experiment("densenet121", tiny_cohort, tmp_path, oversample="idh").model.marker_weights
    assert weights["idh"].tolist() == pytest.approx([1.0, 1.0])


def test_the_best_weights_are_used_not_the_last(tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who trained and by who opens the run afterwards alike."""
    scores = iter([0.9, 0.1])
    monkeypatch.setattr(Validation, "__call__", lambda self, model: next(scores))
    trained = experiment("unet", tiny_cohort, tmp_path).train()
    assert (trained.training["best_step"], trained.training["steps"], trained.training["best_score"]) == (1, 2, 0.9)
    best, last = (load_checkpoint(trained.run.checkpoint(name)).model for name in ("best", "last"))
    assert any(not torch.equal(best[name], last[name]) for name in best)
    for used in (trained, experiment("unet", tiny_cohort, tmp_path)):
        state = used.model.state_dict()
        assert all(torch.equal(state[name], best[name]) for name in best)
