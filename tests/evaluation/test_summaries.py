"""Summary tables: what is pooled, what is kept apart, what is counted, on tables small enough to check by eye."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from workbench.errors import InputError
from workbench.evaluation.intervals import mean_interval
from workbench.evaluation.markers import auc_interval, marker_metrics
from workbench.evaluation.run_comparison import compare_markers, compare_segmentation
from workbench.evaluation.summaries import (
    MARKER_COLUMNS,
    SEGMENTATION_COLUMNS,
    class_table,
    headline,
    summarise_markers,
    summarise_segmentation,
    with_available,
)

FULL = "t1+t1c+t2+flair"


def metrics(cases: int = 8, *, presents: tuple[str, ...] = (FULL,), seed: int = 0, split: str = "test") -> pd.DataFrame:
    """Two cases per subject; every fourth case has no ET, and its sensitivity is undefined there."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(cases):
        for present in presents:
            for region in ("ET", "WT"):
                empty = region == "ET" and index % 4 == 0
                for metric in ("dice", "sensitivity"):
                    value = (np.nan if metric == "sensitivity" else 0.0) if empty else rng.uniform(0.6, 1)
                    rows.append(
                        (f"c{index}", f"s{index // 2}", "north", 0, split, present, region, metric, value, 0 if empty else 50, 60)
                    )
    names = ["case", "subject", "site", "fold", "split", "present", "region", "metric", "value", "n_truth", "n_prediction"]
    return pd.DataFrame(rows, columns=names)


def markers(n: int = 60, *, seed: int = 0, split: str = "test", skill: float = 1.0) -> pd.DataFrame:
    """IDH and a three-class grade; the truth does not depend on the seed."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    truth, grade = fixed.random(n) < 0.5, fixed.integers(2, 5, n)
    rows = []
    for index in range(n):
        who = {
            "case": f"{split}{index:03d}",
            "subject": f"{split}{index:03d}",
            "site": "north",
            "fold": 0,
            "split": split,
            "present": FULL,
        }
        logit = rng.normal() + skill * (2 * truth[index] - 1)
        known = np.nan if index == 7 else float(truth[index])
        rows.append({**who, "marker": "idh", "class": "mutant", "truth": known, "logit": logit, "probability": expit(logit)})
        scores = rng.normal(size=3) + 2 * skill * (np.arange(2, 5) == grade[index])
        probability = np.exp(scores) / np.exp(scores).sum()
        for place, name in enumerate("234"):
            row = {"truth": float(grade[index] == int(name)), "logit": scores[place], "probability": probability[place]}
            rows.append({**who, "marker": "grade", "class": name, **row})
    return pd.DataFrame(rows)


def test_every_number_of_a_segmentation_row() -> None:
    table = metrics()
    summary = summarise_segmentation(table)
    assert tuple(summary.columns) == SEGMENTATION_COLUMNS
    assert list(zip(summary["region"], summary["metric"], strict=True)) == [
        ("WT", "dice"), ("WT", "sensitivity"), ("ET", "dice"), ("ET", "sensitivity"),
    ]  # fmt: skip
    dice = table[(table["region"] == "ET") & (table["metric"] == "dice")]
    row = summary.iloc[2]
    expected = mean_interval(dice["value"], dice["subject"])
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((expected.value, expected.low, expected.high))
    assert (row["n"], row["n_subjects"], row["n_undefined"], row["n_empty_truth"], row["n_nonempty"]) == (8, 4, 0, 2, 6)
    nonempty = dice[dice["n_truth"] > 0]
    assert row["mean_nonempty"] == pytest.approx(nonempty["value"].mean())
    assert row["low_nonempty"] < row["mean_nonempty"] < row["high_nonempty"]
    undefined = summary.iloc[3]
    assert (undefined["n"], undefined["n_undefined"], undefined["n_empty_truth"]) == (6, 2, 2)
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
    scored, predicted = metrics(), markers()
    found = headline(scored, pd.concat([predicted, markers(12, split="validation")]))
    assert list(found) == ["dice WT", "dice ET", "auc idh", "auc grade 2", "auc grade 3", "auc grade 4"]
    dice = scored[(scored["region"] == "WT") & (scored["metric"] == "dice")]
    # several structures at once are summed in another order than one alone: equal to the last digits, which the processor decides
    expected = asdict(mean_interval(dice["value"], dice["subject"]))
    assert asdict(found["dice WT"]) == {
        name: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value for name, value in expected.items()
    }
    assert found["auc idh"] == auc_interval(predicted[predicted["marker"] == "idh"])
    few = headline(None, markers(12))
    assert not few["auc idh"].estimable
    assert few["auc idh"].n == 11
    assert headline(None, None) == {}
    assert headline(scored, predicted, split="external") == {}


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
