"""Collapse monitors: which sequences they read, and which of their numbers are recorded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from workbench.cohort.table import Cohort
from workbench.evaluation.collapse import Collapse
from workbench.experiments.experiment import Experiment
from workbench.setup.parameters import ExperimentParameters
from workbench.steps.collapse import TOKENS, collapse_scalars, measure_collapse


@pytest.fixture(scope="module")
def judged(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A run that is not shown FLAIR; neither prepared nor trained."""
    values = {
        "size": "demo", "spacing": 6.0, "patch": 16, "sampling": "patch", "threads": 1, "withhold": "flair",
        "cohort": str(tiny_cohort.folder), "runs": str(tmp_path_factory.mktemp("runs")),
    }  # fmt: skip
    made = Experiment(ExperimentParameters.build("unet", values), progress=False)

    def case(name: str) -> Any:
        present = [sequence in tiny_cohort.present(name) for sequence in tiny_cohort.modalities]
        images = np.ones((4, 20, 20, 20), np.float16) * np.reshape(present, (4, 1, 1, 1))
        return SimpleNamespace(
            name=name, shape=(20, 20, 20), modalities=tiny_cohort.modalities, present=present, images=lambda modalities: images
        )

    made.prepared = SimpleNamespace(case=case)  # type: ignore[assignment]
    return made


def test_the_monitors_of_collapse_do_not_read_it(judged: Experiment) -> None:
    read: list[torch.Tensor] = []
    model: Any = SimpleNamespace(
        arrange=lambda images, present, names: (images, present),
        token_features=lambda images, present: read.append(present) or torch.randn(1, 8, 4),
    )
    assert measure_collapse(judged, model, judged.cases_by_split["validation"]) is not None
    assert torch.cat(read)[:, :3].any(1).all()
    assert not torch.cat(read)[:, judged.modalities.index("flair")].any()


def test_a_long_case_weighs_no_more_than_a_short_one(judged: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr("workbench.steps.collapse.judge_collapse", lambda *of: given.extend(of))
    model: Any = SimpleNamespace(
        arrange=lambda images, present, names: (images, present),
        token_features=lambda images, present: torch.full((1, 4 * TOKENS, 3), float(present.sum())),
    )
    rows = judged.cases_by_split["validation"]
    measure_collapse(judged, model, rows)
    tokens, whole, parts, part_of, subjects = given
    assert tokens.shape == (TOKENS * len(rows), 3)
    assert whole[:, 0].tolist() == [3.0] * len(rows), "of each case all sequences at once"
    assert parts[:, 0].tolist() == [1.0] * 3 * len(rows), "and each alone"
    assert part_of == [number for number in range(len(rows)) for _ in range(3)]
    assert subjects == list(rows["subject"])


def test_a_method_without_token_features_is_not_monitored(judged: Experiment) -> None:
    model: Any = SimpleNamespace(
        arrange=lambda images, present, names: (images, present), token_features=lambda images, present: None
    )
    assert measure_collapse(judged, model, judged.cases_by_split["validation"]) is None


def test_what_is_no_number_is_not_recorded() -> None:
    found = Collapse(
        effective_rank=3.5, directions=64, between_subjects=0.25, within_subjects=np.nan, off_diagonal=0.5, subjects=2
    )
    assert collapse_scalars(found) == {
        "collapse/effective_rank": 3.5, "collapse/between_subjects": 0.25, "collapse/off_diagonal": 0.5,
    }  # fmt: skip
    assert collapse_scalars(None) == {}
