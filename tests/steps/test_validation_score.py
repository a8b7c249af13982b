"""The score that chooses the checkpoint, where validation cases lack masks or markers, or show less than they have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.experiments.experiment import Experiment
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.run_setup import RunSetup
from workbench.steps import validation_score
from workbench.steps.validation_score import Validation


def score_of(
    rows: pd.DataFrame, logits: Mapping[str, tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch, grade_classes: int = 2
) -> Validation:
    """The score of a model that gives these logits of IDH and grade, case by case."""
    experiment: Any = SimpleNamespace(
        told_apart=lambda name, cases: RunSetup.told_apart(experiment, name, cases), segments=False,
        parameters=SimpleNamespace(
            sampling="whole", precision="float32", window_batch=1, options=lambda: {"grade_classes": grade_classes}
        ),
        cases_by_split={"validation": rows}, markers=("idh", "grade"), modalities=("t1c",), learned_modalities=("t1c",),
        patch=(8, 8, 8), device="cpu", run=SimpleNamespace(raise_on_stop=lambda: None),
        prepared=SimpleNamespace(
            case=lambda name: SimpleNamespace(name=name, labels=lambda: None, label_set="", modalities=("t1c",))
        ),
    )  # fmt: skip
    monkeypatch.setattr(
        validation_score, "predict_case",
        lambda _, case, **__: SimpleNamespace(logits=None, markers=dict(zip(("idh", "grade"), logits[case.name], strict=True))),
    )  # fmt: skip
    return Validation(experiment)


@pytest.mark.parametrize("known", ["Int8", "object"])
def test_a_case_whose_marker_is_unknown_does_not_count(known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nullable columns give pd.NA, whose comparison is neither true nor false; a mask is unknown in one case too."""
    rows = pd.DataFrame({
        "case": list("abcd"), "segmentation": [None, "m", None, None],
        "idh": pd.Series([0, 1, None, 0], dtype=known), "grade": pd.Series([None, 4, 2, 3], dtype=known),
    })  # fmt: skip
    logits = {"a": (-2.0, 0.0), "b": (1.0, 3.0), "c": (9.0, 5.0), "d": (2.0, 1.0)}
    score = score_of(rows, logits, monkeypatch)
    assert len(score) == 4
    # idh: b against a and d, one of two pairs won; grade 4: b against c and d, one of two won
    assert score(None) == pytest.approx(0.5)


def test_high_logits_of_grade_mean_grade_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs are won; turned round, or with another grade as the positive one, the score is another."""
    rows = pd.DataFrame({"case": list("abcd"), "segmentation": None, "idh": [0, 1, 1, 1], "grade": [4, 2, 3, 4]})
    logits = {"a": (-1.0, 2.0), "b": (1.0, -1.0), "c": (2.0, 1.0), "d": (3.0, 4.0)}
    assert score_of(rows, logits, monkeypatch)(None) == 1.0
    reverse = {case: (-idh, -grade) for case, (idh, grade) in logits.items()}
    assert score_of(rows, reverse, monkeypatch)(None) == 0.0


@pytest.mark.parametrize(("grades", "scored"), [([2, 3, 2, 3], 0), ([4, 4, 4, 4], 0), ([2, 3, 4, 3], 4)])
def test_grade_has_the_two_classes_4_and_the_rest(grades: list[int], scored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"case": list("abcd"), "segmentation": None, "idh": 1, "grade": grades})
    assert len(score_of(rows, {}, monkeypatch)) == scored


def test_three_grades_are_scored_each_against_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A softmax: what is added to all logits of a case changes nothing, although it turns the order of the raw ones round."""
    rows = pd.DataFrame({"case": list("abc"), "segmentation": None, "idh": 0, "grade": [2, 3, 4]})
    logits = {"a": (0.0, (9.0, 5.0, 4.0)), "b": (0.0, (0.0, 3.0, 1.0)), "c": (0.0, (-5.0, -4.0, -3.0))}
    assert score_of(rows, logits, monkeypatch, grade_classes=3)(None) == 1.0
    turned = logits | {"a": logits["c"], "c": logits["a"]}
    # log-odds of grade 2: -2.3 for a, -3.1 for b, 3.7 for c; of 3: -1.1, 1.7, -4.0; of 4: 0.7, -2.0, -5.0
    assert score_of(rows, turned, monkeypatch, grade_classes=3)(None) == pytest.approx((0.5 + 1 + 0) / 3)


def test_a_grade_of_three_counts_where_any_two_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"case": list("ab"), "segmentation": None, "idh": 1, "grade": [2, 3]})
    assert len(score_of(rows, {}, monkeypatch)) == 0
    assert len(score_of(rows, {}, monkeypatch, grade_classes=3)) == 2


def test_withheld_sequences_are_not_seen(tiny_cohort: Cohort, tmp_path: Path) -> None:
    """Training never shows them: a checkpoint chosen with them would be chosen by what is tested."""
    values = {
        "cohort": str(tiny_cohort.folder), "runs": str(tmp_path), "size": "demo", "spacing": 6.0, "width": 4, "levels": 3,
        "patch": 32, "threads": 1, "withhold": "flair",
    }  # fmt: skip
    experiment = Experiment(ExperimentParameters.build("unet", values), progress=False)
    assert (experiment.modalities, experiment.learned_modalities) == (("t1", "t1c", "t2", "flair"), ("t1", "t1c", "t2"))
    assert experiment.cases_by_split["validation"]["flair"].notna().all(), "the cases have it"
    shown = []
    model = experiment.model.eval()
    model.register_forward_pre_hook(lambda _, given: shown.append((given[1].tolist(), bool(given[0][:, 3].any()))))
    score = Validation(experiment)
    assert 0.0 <= score(model) <= 1.0
    assert shown == [([[True, True, True, False]], False)] * len(score)
