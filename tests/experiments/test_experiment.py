"""An experiment to its end: which weights are used. What it works with stands in tests/setup/test_run_setup.py."""

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
