"""Missing sequences: names of subsets and judgements, the heat map, and means by number of sequences."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

from workbench.views.figures.robustness import (
    cell_colours,
    judgement_title,
    number_figure,
    numbers_label,
    score_title,
    subset_heatmap,
    subset_title,
    unequal_cases,
)
from workbench.views.theme import colour


def test_names() -> None:
    assert subset_title("t1c+flair") == "T1c + FLAIR"
    assert subset_title("t1c", ["t1c"]) == "T1c †"
    assert judgement_title("hd95:ET") == "HD95 (mm), ET"
    assert judgement_title("auc:idh:mutant") == "AUC, IDH mutation"
    assert score_title("dice:WT") == "Dice, WT"
    assert score_title("auc:idh:mutant") == "probability of the true class, IDH mutation"


def test_runs_judged_on_other_cases_are_no_comparison() -> None:
    def run(*cases: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        masks = pd.DataFrame({"split": "test", "case": cases})
        return masks, masks.iloc[:0]

    assert unequal_cases({"a": run("1", "2"), "b": run("2", "1", "1")}, "test") == ""
    assert unequal_cases({"a": run("1", "2"), "b": run()}, "test") == "", "a run without masks is judged by its markers only"
    assert "(a 2, b 1, 1 of them in common)" in unequal_cases({"a": run("1", "2"), "b": run("2")}, "test")
    assert unequal_cases({"a": run("1", "2"), "b": run("2")}, "external") == ""


def test_a_number_is_written_in_what_reads_on_its_colour() -> None:
    assert cell_colours(np.array([0.0, 0.5, 0.6, 2.0]), 0, 1) == ["white", "white", "black", "black"]
    assert cell_colours(np.array([5.0]), 5, 5) == ["white"]


def test_heatmap_has_the_first_subset_on_top_and_no_cell_without_a_number() -> None:
    table = pd.DataFrame(
        [("t1", "WT", 0.4, 0.3, 0.5, 20, 9), ("t1+flair", "WT", 0.8, np.nan, np.nan, 20, 20),
         ("t1", "ET", np.nan, np.nan, np.nan, 3, 3)],
        columns=["present", "column", "value", "low", "high", "n", "n_subjects"],
    )  # fmt: skip
    figure = subset_heatmap(table, subsets=["t1", "t1+flair"], columns=["WT", "ET"], title="x", untrained=["t1"])
    options = figure.opts.get("plot").kwargs
    assert dict(options["yticks"]) == {1: "T1 †", 0: "T1 + FLAIR"}
    assert dict(options["xticks"]) == {0: "WT", 1: "ET"}
    (cells,) = (part for part in figure if isinstance(part, hv.HeatMap | hv.Rectangles | hv.QuadMesh) and len(part.vdims) > 1)
    assert len(cells) == 2
    assert sorted(cells.dframe()["interval"]) == ["0.300 to 0.500, rough", "no interval"]
    assert hv.renderer("bokeh").get_plot(figure).state is not None


@pytest.mark.parametrize(("order", "expected"), [((), 0), (("a", "b"), 1)])
def test_means_by_number_keep_a_runs_colour(order: tuple[str, ...], expected: int) -> None:
    table = pd.DataFrame({"series": "b", "number": [1, 2], "mean": [0.4, 0.6], "low": [0.3, np.nan], "high": [0.5, np.nan],
                          "n": 9, "complete": True})  # fmt: skip
    figure = number_figure(table, title="x", ylabel="Dice", order=order)
    line = next(part for part in figure if isinstance(part, hv.Curve))
    assert line.opts.get("style").kwargs["color"] == colour(expected)
    assert figure.opts.get("plot").kwargs["xlabel"] == numbers_label(table) == "sequences shown, of cases that have 2"
