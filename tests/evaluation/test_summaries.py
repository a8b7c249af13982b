"""Summary tables: what is pooled, what is kept apart, what is counted, on tables small enough to check by eye."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from judged_cases import FULL, markers, metrics
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from workbench.errors import InputError
from workbench.evaluation.intervals import mean_interval
from workbench.evaluation.markers import auc_interval, marker_metrics
from workbench.evaluation.proportions import median_interval
from workbench.evaluation.summaries import (
    MARKER_COLUMNS,
    SEGMENTATION_COLUMNS,
    class_table,
    headline,
    summarise_markers,
    summarise_segmentation,
    with_available,
)


def test_every_number_of_a_segmentation_row() -> None:
    table = metrics(16)
    summary = summarise_segmentation(table)
    assert tuple(summary.columns) == SEGMENTATION_COLUMNS
    assert list(zip(summary["region"], summary["metric"], strict=True)) == [
        ("WT", "dice"), ("WT", "sensitivity"), ("ET", "dice"), ("ET", "sensitivity"),
    ]  # fmt: skip
    dice = table[(table["region"] == "ET") & (table["metric"] == "dice")]
    row = summary.iloc[2]
    expected = mean_interval(dice["value"], dice["subject"], (0, 1))
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((expected.value, expected.low, expected.high))
    assert (row["n"], row["n_subjects"], row["n_undefined"], row["n_empty_truth"], row["n_nonempty"]) == (16, 8, 0, 4, 12)
    nonempty = dice[dice["n_truth"] > 0]
    assert row["mean_nonempty"] == pytest.approx(nonempty["value"].mean())
    assert row["low_nonempty"] < row["mean_nonempty"] < row["high_nonempty"]
    assert row["subjects_nonempty"] == nonempty["subject"].nunique()
    assert [row["q1"], row["median"], row["q3"]] == pytest.approx(np.quantile(nonempty["value"], [0.25, 0.5, 0.75]))
    middle = median_interval(nonempty["value"], nonempty["subject"])
    assert (row["median_low"], row["median_high"], row["penalty"]) == pytest.approx((middle.low, middle.high, ""), nan_ok=True)
    undefined = summary.iloc[3]
    assert (undefined["n"], undefined["n_undefined"], undefined["n_empty_truth"]) == (12, 4, 4)
    assert undefined["mean"] == undefined["mean_nonempty"]


def test_a_region_that_was_not_drawn_is_neither_empty_nor_undefined() -> None:
    table = metrics()
    coarse = table[~((table["case"] == "c1") & (table["region"] == "ET"))]  # case 1 has a whole-tumour mask only
    row = summarise_segmentation(coarse).iloc[2]
    assert (row["n"], row["n_undefined"], row["n_empty_truth"]) == (7, 0, 2)


def test_splits_and_subsets_are_kept_apart_with_the_complete_one_first() -> None:
    table = pd.concat([metrics(presents=("t1", FULL, "t1+t2")), metrics(6, seed=1, split="validation", presents=(FULL,))])
    summary = summarise_segmentation(table)
    order = summary[["split", "present"]].drop_duplicates().to_numpy().tolist()
    assert order == [["test", FULL], ["test", "t1+t2"], ["test", "t1"], ["validation", FULL]]
    alone = summarise_segmentation(table[(table["present"] == "t1+t2")])
    part = summary[summary["present"] == "t1+t2"].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, alone)


def test_available_takes_each_cases_largest_subset() -> None:
    table = metrics(presents=("t1", "t1+t2", FULL))
    lacking = table[~((table["case"] == "c2") & (table["present"] == FULL))]
    chosen = with_available(lacking)
    assert len(chosen) == 8 * 4
    assert set(chosen["present"]) == {"available"}
    expected = table[(table["present"] == FULL) & (table["case"] != "c2")]["value"].sum()
    expected += table[(table["present"] == "t1+t2") & (table["case"] == "c2")]["value"].sum()
    assert chosen["value"].sum() == pytest.approx(expected)
    tie = table[table["present"] == FULL].assign(present="t1+t2")
    assert len(with_available(pd.concat([tie, tie.assign(present="t1+flair")]))) == len(tie)
    assert (summarise_segmentation(lacking, by_present=False)["n_subjects"] == 4).all()


def test_a_case_scored_twice_is_refused_and_two_folds_are_pooled() -> None:
    table = metrics()
    with pytest.raises(InputError, match="case c0: scored twice"):
        summarise_segmentation(pd.concat([table, table]))
    pooled = summarise_segmentation(pd.concat([table, table.assign(fold=1)]))
    assert pooled["n"].tolist() == [16, 16, 16, 12]
    assert pooled["n_subjects"].tolist() == [4, 4, 4, 4]


def test_marker_rows_are_those_of_marker_metrics_and_grade_is_judged_as_a_whole_too() -> None:
    table = markers()
    summary = summarise_markers(table)
    assert tuple(summary.columns) == MARKER_COLUMNS
    idh = summary[summary["marker"] == "idh"].reset_index(drop=True)
    direct = marker_metrics(table[table["marker"] == "idh"])
    pd.testing.assert_frame_equal(idh[list(direct.columns)], direct)
    assert (idh["n_unknown"] == 1).all()
    grades = summary[summary["marker"] == "grade"]
    assert list(dict.fromkeys(grades["class"])) == ["2", "3", "4", "all"]
    whole = grades[grades["class"] == "all"].set_index("metric")
    called = class_table(table[table["marker"] == "grade"])
    assert whole.loc["accuracy", "value"] == pytest.approx(accuracy_score(called["truth"], called["predicted"]))
    assert whole.loc["balanced_accuracy", "value"] == pytest.approx(balanced_accuracy_score(called["truth"], called["predicted"]))
    assert whole["low"].lt(whole["value"]).all()
    assert whole["high"].gt(whole["value"]).all()
    assert set(called["truth"]) == {"2", "3", "4"}


def test_thresholds_reach_the_class_they_were_chosen_for() -> None:
    table = markers()
    summary = summarise_markers(table, thresholds={("idh", "mutant"): 0.8}, resamples=50)
    idh = summary[summary["marker"] == "idh"]
    assert (idh["threshold"] == 0.8).all()
    assert (
        idh.set_index("metric")["value"]["recall"]
        < summarise_markers(table, resamples=50).iloc[:12].set_index("metric")["value"]["recall"]
    )
    assert (summary.loc[summary["class"] == "2", "threshold"] == 0.5).all()


def test_too_few_cases_are_said_to_be_not_estimable() -> None:
    summary = summarise_markers(markers(15))
    assert not summary["estimable"].any()
    assert summary["value"].isna().all()
    assert (summary[summary["marker"] == "idh"]["n"] == 14).all()


def test_headline_is_short_and_complete() -> None:
    scored, predicted = metrics(16), markers()
    found = headline(scored, pd.concat([predicted, markers(12, split="validation")]))
    judged = ["dice WT", "dice ET", "found WT", "found ET", "false ET"]
    assert list(found) == [*judged, "auc idh", "auc grade 2", "auc grade 3", "auc grade 4"]
    dice = scored[(scored["region"] == "WT") & (scored["metric"] == "dice")]
    # several structures at once are summed in another order than one alone: equal to the last digits, which the processor decides
    expected = asdict(mean_interval(dice["value"], dice["subject"], (0, 1)))
    assert asdict(found["dice WT"]) == {
        name: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value for name, value in expected.items()
    }
    assert found["auc idh"] == auc_interval(predicted[predicted["marker"] == "idh"])
    assert (found["found ET"].value, found["false ET"].value, found["false ET"].n) == (1, 1, 4)
    few = headline(None, markers(12))
    assert not few["auc idh"].estimable
    assert few["auc idh"].n == 11
    assert headline(None, None) == {}
    assert headline(scored, predicted, split="external") == {}


def test_a_headline_is_never_one_case_without_the_region() -> None:
    """Nothing is ever found, and in one of six cases there is nothing to find: the mean Dice over all of them is 0.17."""
    nothing = [0, 0, 0, 0, 0, 1]
    head = {"case": list("abcdef"), "subject": list("abcdef"), "split": "test", "present": "t1", "region": "ET"}
    truth = {"n_truth": [9, 9, 9, 9, 9, 0], "n_prediction": 0}
    scored = pd.concat([
        pd.DataFrame(head | truth | {"metric": "dice", "value": nothing}),
        pd.DataFrame(head | truth | {"metric": "hd95", "value": [240.0, 250, 260, 270, 280, 0]}),
    ])  # fmt: skip
    summary = summarise_segmentation(scored, by_present=False).set_index("metric")
    assert summary.loc["dice", "mean"] == pytest.approx(1 / 6)
    found = headline(scored, None)
    assert (found["dice ET"].value, found["dice ET"].n) == (0, 5)
    assert (found["found ET"].value, found["found ET"].n) == (0, 5)
    assert (found["false ET"].value, found["false ET"].n) == (0, 1)
    assert found["hd95 ET"].value == 260
    assert np.isnan(found["dice ET"].low), "no interval of zero width"
    only = headline(scored[scored["n_truth"] == 0], None)
    assert not only["dice ET"].estimable
    assert "found ET" not in only


def test_a_distances_penalty_is_named_and_applied() -> None:
    head = {"case": list("abcdefgh"), "subject": list("abcdefgh"), "split": "test", "present": "t1", "region": "ET"}
    scored = pd.DataFrame(head | {"metric": "hd95", "value": [1.0, 2, 3, 4, 5, 6, 300, 300],
                                  "n_truth": [9] * 7 + [0], "n_prediction": [9] * 6 + [0, 9]})  # fmt: skip
    found = {name: summarise_segmentation(scored, penalty=name).iloc[0] for name in ("grid_diagonal", "brats", "exclude")}
    assert [row["mean"] for row in found.values()] == pytest.approx([621 / 8, 769 / 8, 3.5])
    assert [row["median"] for row in found.values()] == [4.0, 4.0, 3.5]
    assert [row["n_nonempty"] for row in found.values()] == [7, 7, 6]
    assert [row["penalty"] for row in found.values()] == list(found)


def test_the_mean_of_a_distance_has_bounds_of_many_subjects_only() -> None:
    def summary(subjects: int) -> pd.Series:
        rows = {"case": [f"c{k:03}" for k in range(subjects)], "value": np.linspace(1, 9, subjects)}
        common = {"split": "test", "present": "t1", "region": "WT", "metric": "hd95", "n_truth": 5, "n_prediction": 5}
        table = pd.DataFrame(rows).assign(**common)
        return summarise_segmentation(table.assign(subject=table["case"])).iloc[0]

    few, many = summary(99), summary(100)
    assert few["mean"] == pytest.approx(5)
    assert few[["low", "high", "low_nonempty", "high_nonempty"]].isna().all()
    assert few["median_low"] < 5 < few["median_high"]
    assert many["low"] < 5 < many["high"]
    assert many["low_nonempty"] < 5 < many["high_nonempty"]


def test_empty_tables_keep_their_columns() -> None:
    assert tuple(summarise_segmentation(metrics().iloc[:0]).columns) == SEGMENTATION_COLUMNS
    assert tuple(summarise_segmentation(metrics().iloc[:0], by_present=False).columns) == SEGMENTATION_COLUMNS
    assert tuple(summarise_markers(markers().iloc[:0], by_present=False).columns) == MARKER_COLUMNS


def test_text_columns_may_be_of_any_pandas_kind() -> None:
    table, predicted = metrics(), markers()
    for kind in ("string", "object", "category"):
        text = dict.fromkeys(("case", "subject", "split", "present", "region", "metric"), kind)
        pd.testing.assert_frame_equal(
            summarise_segmentation(table.astype(text), by_present=False, resamples=50).astype({"mean": float}),
            summarise_segmentation(table, by_present=False, resamples=50),
            check_dtype=False,
            check_column_type=False,
        )
        names = dict.fromkeys(("case", "subject", "split", "present", "marker", "class"), kind)
        found = summarise_markers(predicted.astype(names), resamples=50)
        assert found["value"].to_numpy() == pytest.approx(
            summarise_markers(predicted, resamples=50)["value"].to_numpy(), nan_ok=True
        )
