"""The score that chooses the checkpoint, where validation cases lack masks or markers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from workbench.steps import validation_score
from workbench.steps.validation_score import Validation


@pytest.mark.parametrize("known", ["Int8", "object"])
def test_a_case_whose_marker_is_unknown_does_not_count(known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nullable columns give pd.NA, whose comparison is neither true nor false; a mask is unknown in one case too."""
    rows = pd.DataFrame({
        "case": list("abcd"), "segmentation": [None, "m", None, None],
        "idh": pd.Series([0, 1, None, 0], dtype=known), "grade": pd.Series([None, 4, 2, 3], dtype=known),
    })  # fmt: skip
    logits = {"a": (-2.0, 0.0), "b": (1.0, 3.0), "c": (9.0, 5.0), "d": (2.0, 1.0)}
    experiment: Any = SimpleNamespace(
        parameters=SimpleNamespace(method="densenet121", sampling="whole", precision="float32"),
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
    score = Validation(experiment)
    assert len(score) == 4
    # idh: b against a and d, one of two pairs won; grade 4: b against c and d, one of two won
    assert score(None) == pytest.approx(0.5)
