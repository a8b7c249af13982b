from __future__ import annotations

import pandas as pd

from workbench.views.figures.importance import importance_figure

COLUMNS = ["marker", "feature", "drop", "deviation", "n", "n_positive"]


def test_bars_are_the_largest_drops_and_few_cases_are_said_to_be_few() -> None:
    many = [("idh", f"feature {index}", index / 100, 0.01, 40, 15) for index in range(14)]
    few = [("codel", "volume", 0.2, 0.1, 12, 2), ("codel", "useless", 0.0, 0.0, 12, 2)]
    figure = importance_figure(pd.DataFrame(many + few, columns=COLUMNS), title="a run", shown=5)
    assert figure is not None
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == [f"feature {index}" for index in (9, 10, 11, 12, 13)]
    assert [bar.get_width() for bar in first.patches] == [0.09, 0.1, 0.11, 0.12, 0.13]
    assert first.get_title() == "IDH mutation, n+ = 15, n- = 25"
    assert "too few to trust (needs 10 of each)" in second.get_title()
    assert [text.get_text() for text in second.get_yticklabels()] == ["volume"]


def test_nothing_to_show_is_said() -> None:
    assert importance_figure(pd.DataFrame(columns=COLUMNS), title="a run") is None
    flat = pd.DataFrame([("idh", "volume", 0.0, 0.0, 40, 20)], columns=COLUMNS)
    figure = importance_figure(flat, title="a run")
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == ["no feature changes the AUC"]
