"""Forest plot of paired differences: its lines, its axis, what stands beside it."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pandas as pd

from workbench.evaluation.ablation import Deltas
from workbench.views.figures.forest import axis_ticks, beside, column_titles, direction, forest_figure, forest_rows, limits


def test_every_arm_has_a_line_and_a_reason_where_it_has_no_number(deltas: Deltas) -> None:
    rows = forest_rows(deltas, "unet", "dice", "WT").set_index("label")
    assert rows["note"].to_dict() == {"no_attention": "", "wider": "refused", "no_dropout": "no finished pair of runs yet"}
    assert rows.loc["no_attention", ["difference", "low", "high", "p_holm", "n"]].tolist() == [-0.1, -0.15, -0.05, 0.02, 60]
    assert rows["difference"].isna().tolist() == [False, True, True]
    assert forest_rows(deltas, "unet", "auc", "idh:mutant")["note"].iloc[0] == "not estimable"
    assert forest_rows(deltas, "unet", "dice", "TC")["note"].iloc[0] == "not judged by this"
    assert forest_rows(deltas, "other", "dice", "WT").empty


def test_the_best_stands_first_by_effect() -> None:
    line = {"block": "b", "of": "WT", "low": 0.0, "high": 0.0, "p": 1.0, "p_holm": 1.0, "better": 0.5, "worse": 0.5, "n": 9,
            "n_subjects": 9}  # fmt: skip
    rows = [line | {"arm": arm, "metric": metric, "difference": difference}
            for metric in ("dice", "hd95") for arm, difference in (("a", -1.0), ("b", 2.0))]  # fmt: skip
    arms = [{"block": "b", "arm": arm, "cells": 1, "planned": 1, "refused": "", "remark": ""} for arm in ("none", "a", "b")]
    deltas = Deltas(pd.DataFrame(rows), pd.DataFrame(arms))
    assert forest_rows(deltas, "b", "dice", "WT")["label"].tolist() == ["none", "a", "b"]
    assert forest_rows(deltas, "b", "dice", "WT", "effect")["label"].tolist() == ["b", "a", "none"]
    assert forest_rows(deltas, "b", "hd95", "WT", "effect")["label"].tolist() == ["a", "b", "none"], "less is better"
    assert direction("dice") == ("← worse", "better →")
    assert direction("hd95") == ("← better", "worse →")


def test_axis_holds_all_intervals_and_both_sides_of_zero(deltas: Deltas) -> None:
    low, high = limits(forest_rows(deltas, "unet", "dice", "WT"))
    assert low < -0.15
    assert 0 < high < 0.15
    assert limits(pd.DataFrame({"difference": [np.nan], "low": [np.nan], "high": [np.nan]}))[0] < 0
    places, texts = zip(*axis_ticks(-0.16, 0.05), strict=True)
    np.testing.assert_allclose(places, (-0.15, -0.1, -0.05, 0.0, 0.05), atol=1e-12)
    assert texts == ("−0.15", "−0.1", "−0.05", "0", "0.05")


def test_texts_beside_the_lines(deltas: Deltas) -> None:
    rows = forest_rows(deltas, "unet", "dice", "WT")
    assert [beside(row) for _, row in rows.iterrows()] == [
        ("−0.100 (−0.150 to −0.050)", "0.020", "10, 85 %", "60", "2/2"),
        ("refused", "", "", "", "1/2"),
        ("no finished pair of runs yet", "", "", "", "0/2"),
    ]
    assert column_titles(rows) == ["difference (95 %)", "p (Holm)", "better, worse", "n", "runs"]
    single = rows.assign(planned=1)
    assert column_titles(single)[-1] == ""
    assert column_titles(rows.assign(better=np.nan))[2] == "", "an AUC has no better subjects"
    assert beside(single.iloc[0])[-1] == ""


def test_a_point_is_filled_where_the_difference_is_clear(deltas: Deltas) -> None:
    filled = {}
    for metric in ("dice", "hd95"):
        figure = forest_figure(forest_rows(deltas, "unet", metric, "WT"), metric=metric, of="WT")
        points = [part for part in figure if isinstance(part, hv.Points) and len(part)]
        assert len(points) == 1
        style = points[0].opts.get("style").kwargs
        filled[metric] = style["fill_color"] == style["line_color"]
        assert hv.renderer("bokeh").get_plot(figure).state is not None
    assert filled == {"dice": True, "hd95": False}
