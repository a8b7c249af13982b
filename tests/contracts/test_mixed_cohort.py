"""Every method on a cohort of five lesions in which no case has all sequences: it trains, resumes, reads one sequence alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench.cohort.phantom.writer import make_phantom
from workbench.cohort.table import Cohort
from workbench.contracts import PRETRAINING, SEGMENTATION
from workbench.errors import RunError
from workbench.experiments.experiment import Experiment
from workbench.inference.predict import predict_case
from workbench.inference.subsets import predict_subsets
from workbench.models.catalogue import card, list_models
from workbench.setup.parameters import ExperimentParameters, applicable

QUICK = {
    "size": "demo", "spacing": 4.0, "epochs": 2, "steps_per_epoch": 1, "validate_every": 2, "resamples": 100, "maps": 0,
    "threads": 1, "batch_size": 2, "subsets": "none", "sampling": "patch", "markers": "none", "warmup": 0.0,
}  # fmt: skip
METHODS = [entry.name for entry in list_models() if entry.network and (SEGMENTATION in entry.tasks or PRETRAINING in entry.tasks)]


def tiny() -> dict[str, tuple[dict[str, Any], tuple[int, int, int]]]:
    """The smallest form of each method, from the contract suite."""
    spec = importlib.util.spec_from_file_location("contract_methods", Path(__file__).with_name("test_methods.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.TINY


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """A mixed phantom of 20 subjects at 4 mm."""
    cohort = make_phantom(
        tmp_path_factory.mktemp("mixed") / "cohort", subjects=20, spacing=4.0, seed=0, lesion="mixed", progress=False
    )
    there = cohort.cases[list(cohort.modalities)].notna()
    assert not there.all(axis=1).any(), "no case has all sequences"
    assert there.any().all()
    assert cohort.cases["lesion"].nunique() == 5
    return cohort


def experiment(method: str, cohort: Cohort, folder: Path) -> Experiment:
    options, shape = tiny()[method]
    whole = {} if PRETRAINING in card(method).tasks else {"sampling": "whole", "patch": 64}  # one window per case
    values = {**QUICK, "patch": max(shape), **whole, **options, "cohort": str(cohort.folder), "runs": str(folder)}
    return Experiment(
        ExperimentParameters.build(method, {k: v for k, v in values.items() if k in applicable(method)}), progress=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_resumes_and_reads_one_sequence_alone(
    method: str, mixed: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = experiment(method, mixed, tmp_path / "whole").train()
    broken = experiment(method, mixed, tmp_path / "broken")
    asked: list[int] = []
    monkeypatch.setattr(type(broken.run), "should_stop", lambda self: bool(asked.append(1)) or len(asked) == 2)
    with pytest.raises(RunError, match="cancelled at step 1"):
        broken.train()
    monkeypatch.undo()
    broken.train()
    for (name, left), (_, right) in zip(whole.model.state_dict().items(), broken.model.state_dict().items(), strict=True):
        assert torch.equal(left, right), f"{name} differs after a resume"
    if PRETRAINING in card(method).tasks:
        assert whole.evaluate().encoder.is_file()
        return
    model = whole.model.eval()
    for lesion, rows in whole.cohort.cases.groupby("lesion"):
        case = whole.prepared.case(str(rows["case"].iloc[0]))
        there = [name for name, has in zip(case.modalities, case.present, strict=True) if has]
        found = predict_case(model, case, modalities=whole.modalities, patch=whole.patch, whole=True, present=there[-1:])
        assert found.present == (there[-1],), lesion
        assert found.logits is not None
        assert np.isfinite(found.logits).all(), f"{there[-1]} alone, {lesion}"
    sets = [(name,) for name in there] + [tuple(there)]
    together = list(predict_subsets(model, case, sets, modalities=whole.modalities, patch=whole.patch, whole=True))
    np.testing.assert_allclose(together[len(there) - 1].logits, found.logits, rtol=1e-3, atol=1e-3)
