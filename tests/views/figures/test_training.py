"""Training curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.views.figures.training import thin, training_curves


def test_training_figures() -> None:
    events = pd.DataFrame(
        {"name": ["train/dice", "train/dice", "train/learning_rate", "validation/dice", "validation/dice"],
         "step": [1, 2, 1, 1, 2], "value": [1.0, 0.5, 0.1, 0.3, 0.2]}
    )  # fmt: skip
    figures = training_curves(events, title="unet")
    assert set(figures) == {"loss", "score"}
    assert [element.label for element in figures["loss"]] == ["dice"]
    assert "best 0.300 at step 1" in [element.label for element in figures["score"]]
    assert training_curves(events.iloc[:0]) == {}


def test_thin_keeps_the_mean() -> None:
    rows = pd.DataFrame({"step": np.arange(10000), "value": np.arange(10000.0)})
    assert len(thin(rows, 100)) == 100
    assert thin(rows, 100)["value"].mean() == pytest.approx(rows["value"].mean())
