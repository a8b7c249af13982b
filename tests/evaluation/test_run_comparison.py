"""Two runs side by side: every number from the statistics below, and which runs are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from judged_cases import markers, metrics

from workbench.errors import InputError
from workbench.evaluation import metrics as table_of_metrics
from workbench.evaluation.intervals import resample_weights
from workbench.evaluation.markers import auc_interval, metric_values, sample_of
from workbench.evaluation.metrics import METRICS, Place
from workbench.evaluation.run_comparison import compare_markers, compare_segmentation


def test_two_runs_side_by_side() -> None:
    first, second = metrics(16), metrics(16, seed=5)
    table = compare_segmentation(first, second)
    assert list(zip(table["region"], table["metric"], strict=True))[:2] == [("WT", "dice"), ("WT", "sensitivity")]
    dice = [t[(t["region"] == "WT") & (t["metric"] == "dice")].set_index("case")["value"] for t in (first, second)]
    assert table.loc[0, "difference"] == pytest.approx((dice[0] - dice[1]).mean())
    assert (table["p_holm"] >= table["p"]).all()
    same = compare_segmentation(first, first)
    assert (same["difference"] == 0).all()
    assert (same["p"] == 1).all()
    with pytest.raises(InputError, match="judged in the first run only: c15"):
        compare_segmentation(first, second[second["case"] != "c15"])
    with pytest.raises(InputError, match=r"case c0, channel .*judged against different truths \(16 cases\)"):
        compare_segmentation(first, second.assign(n_truth=7))
    assert compare_segmentation(first, second.iloc[:0]).empty


def test_two_runs_markers_side_by_side() -> None:
    first, second = markers(80, seed=1, skill=1.5), markers(80, seed=2, skill=0.3)
    table = compare_markers(first, second).set_index(["marker", "class", "metric"])
    auc = table.loc[("idh", "mutant", "auc")]
    expected = [auc_interval(side[side["marker"] == "idh"]).value for side in (first, second)]
    assert [auc["value_a"], auc["value_b"]] == pytest.approx(expected)
    assert auc["difference"] > 0.1
    assert auc["p"] < 0.01
    assert auc["p_holm"] >= auc["p"]
    brier = table.loc[("idh", "mutant", "brier")]
    assert brier["difference"] == pytest.approx(brier["value_a"] - brier["value_b"])
    assert brier["high"] < 0
    assert not compare_markers(first.iloc[:40], second.iloc[:40])["estimable"].any()
    with pytest.raises(InputError, match="judged in the second run only"):
        compare_markers(first[first["case"] != "test003"], second)
    unknown = [side.assign(truth=side["truth"].where(side["case"] != "test003")) for side in (first, second)]
    partly = compare_markers(unknown[0][unknown[0]["case"] != "test003"], unknown[1])
    pd.testing.assert_frame_equal(partly, compare_markers(*unknown))  # nobody needs to predict what cannot be judged
    swapped = second.assign(truth=second["truth"].where(second["case"] != "test003", 1 - second["truth"]))
    with pytest.raises(InputError, match=r"case test003, channel idh: .*different truths"):
        compare_markers(first, swapped)


def test_a_metric_that_is_no_mean_over_cases_is_compared_on_the_same_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [replace(m, shown=(*m.shown, Place.COMPARISON)) if m.name == "balanced_accuracy" else m for m in METRICS]
    monkeypatch.setattr(table_of_metrics, "METRICS", tuple(entries))
    first, second = (side[side["marker"] == "idh"] for side in (markers(80, seed=1, skill=1.5), markers(80, seed=2, skill=0.3)))
    chosen = {"thresholds_a": {("idh", "mutant"): 0.4}, "thresholds_b": {("idh", "mutant"): 0.5}}
    table = compare_markers(first, second, **chosen).set_index("metric")
    assert list(table.index) == ["auc", "accuracy", "balanced_accuracy", "brier"]
    row = table.loc["balanced_accuracy"]
    samples = [sample_of(side) for side in (first, second)]
    once = np.ones((1, len(samples[0].truth)))
    values = [metric_values(s, once, cut)["balanced_accuracy"][0] for s, cut in zip(samples, (0.4, 0.5), strict=True)]
    assert (row["value_a"], row["value_b"]) == pytest.approx(values)
    assert row["difference"] == pytest.approx(values[0] - values[1])
    draws = resample_weights(samples[0].subjects, 1000)
    shifts = np.subtract(*(metric_values(s, draws, c)["balanced_accuracy"] for s, c in zip(samples, (0.4, 0.5), strict=True)))
    assert (row["low"], row["high"]) == pytest.approx(np.quantile(shifts, [0.025, 0.975]), abs=0.02)
    assert np.isnan(row["p"])


@pytest.mark.parametrize("chosen", [{}, {("idh", "mutant"): {1: 0.4}}])
def test_where_validation_gave_no_threshold_decisions_are_not_estimable(chosen: dict) -> None:
    """None was chosen for the class, or none for the fold: never 0.5 in its place."""
    first, second = (side[side["marker"] == "idh"] for side in (markers(80, seed=1), markers(80, seed=2)))
    table = compare_markers(first, second, thresholds_a={("idh", "mutant"): 0.4}, thresholds_b=chosen).set_index("metric")
    accuracy = table.loc["accuracy"]
    assert not accuracy["estimable"]
    assert np.isnan([accuracy["value_a"], accuracy["difference"], accuracy["low"], accuracy["p"]]).all()
    assert accuracy["remark"] == "not estimable: no threshold was chosen, since validation lacks a class"
    assert table.loc[["auc", "brier"], "estimable"].all()
    assert compare_markers(first, second)["estimable"].all(), "at a half where nothing else is asked for"


def test_why_nothing_is_compared_is_said() -> None:
    few = markers(15)
    assert (compare_markers(few, few)["remark"].str.contains("subjects, 10 of each are needed")).all()
