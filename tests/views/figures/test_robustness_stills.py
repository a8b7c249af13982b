"""Pictures of missing sequences say whose means they show."""

from __future__ import annotations

import pandas as pd
import pytest

from workbench.evaluation.robustness import by_number
from workbench.views.figures.robustness import numbers_label
from workbench.views.figures.robustness_stills import number_still, subset_still


def scores(values: dict[str, dict[str, float]]) -> pd.DataFrame:
    """case -> subset -> Dice."""
    rows = [(case, case, "test", present, "WT", "dice", v) for case, of_case in values.items() for present, v in of_case.items()]
    return pd.DataFrame(rows, columns=["case", "subject", "split", "present", "region", "metric", "value"])


BOTH = {"t1": 0.4, "flair": 0.8, "t1+flair": 0.7}


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"a": BOTH, "b": BOTH, "c": {"t1": 0.0}}, "sequences shown, of cases that have 2"),  # c is no part of any mean
        ({"a": BOTH, "c": {"t1": 0.0}}, "sequences shown, each case with what it has"),
    ],
)
def test_means_by_number_say_which_cases_they_are_of(values: dict[str, dict[str, float]], label: str) -> None:
    table = by_number(scores(values), resamples=100).assign(series="run")
    assert numbers_label(table) == label
    (axes,) = number_still(table, title="", ylabel="Dice").axes
    assert axes.get_xlabel() == label


def test_dots_show_the_sequences_and_what_is_not_estimable_says_so() -> None:
    table = pd.DataFrame(
        [("t1", "WT", 0.4, 20), ("t1+flair", "WT", 0.8, 20), ("t1", "IDH", float("nan"), 8)],
        columns=["present", "column", "value", "n"],
    )
    figure = subset_still(
        table, subsets=["t1", "t1+flair"], modalities=["t1", "flair"], columns=["WT", "IDH"], title="unet", label="Dice",
        untrained=["t1"],
    )  # fmt: skip
    dots, cells = figure.axes[:2]
    filled = {(line.get_xdata()[0], line.get_ydata()[0]): line.get_color() != "white" for line in dots.lines}
    assert filled == {(0, 0): True, (1, 0): False, (0, 1): True, (1, 1): True}
    assert [label.get_text() for label in dots.get_yticklabels()] == ["† n 20", "n 20"]
    assert [text.get_text() for text in cells.texts] == ["0.40", "n. e.", "0.80", "n. e."]
