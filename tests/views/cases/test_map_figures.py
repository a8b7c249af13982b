"""Figures of what explanation maps say by region."""

from __future__ import annotations

import pandas as pd

from workbench.views.cases.map_figures import attribution_figure, weight_figure


def test_figures_say_what_the_tables_say(attribution: pd.DataFrame, weights: pd.DataFrame) -> None:
    heat = weight_figure(weights, title="x")
    assert heat is not None
    assert [text.get_text() for text in heat.axes[0].texts] == ["0.60", "0.25", "0.40", "0.75"]
    assert [label.get_text() for label in heat.axes[0].get_xticklabels()] == ["ET\nn 2", "outside\nn 1"]
    bars = attribution_figure(attribution, title="x")
    assert bars is not None
    assert sorted(round(patch.get_width(), 3) for patch in bars.axes[0].patches) == [0.25] * 3 + [0.3] * 3
    assert "gate, n 2" in " ".join(label.get_text() for label in bars.axes[0].get_yticklabels())
    assert weight_figure(pd.DataFrame(), title="x") is None
    assert attribution_figure(pd.DataFrame(), title="x") is None
