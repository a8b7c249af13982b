"""Missing sequences in numbers: worked out by hand on two cases, and what each rule leaves out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.evaluation.metrics import TRUE_CLASS
from workbench.evaluation.robustness import (
    added_sequence,
    by_number,
    marker_scores,
    markers_by_subset,
    segmentation_by_subset,
    split_names,
    subset_order,
)


def scores(values: dict[str, dict[str, float]], metric: str = "dice") -> pd.DataFrame:
    """case -> subset -> value."""
    return pd.DataFrame(
        [
            {"case": case, "subject": case, "split": "test", "present": present, "region": "WT", "metric": metric, "value": value,
             "n_truth": 5}
            for case, of_case in values.items()
            for present, value in of_case.items()
        ]
    )  # fmt: skip


TWO = {"a": {"t1": 0.4, "flair": 0.8, "t1+flair": 0.7}, "b": {"t1": 0.2, "flair": 0.6, "t1+flair": 0.9}}


def row(table: pd.DataFrame, **where: object) -> pd.Series:
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    (index,) = table.index
    return table.loc[index]


def test_means_by_number_average_a_cases_subsets_first() -> None:
    table = by_number(scores(TWO), resamples=100)
    assert list(table["number"]) == [1, 2]
    assert list(table["mean"]) == pytest.approx([(0.6 + 0.4) / 2, 0.8])
    assert set(table["n"]) == {2}
    assert table["complete"].all()


def test_means_by_number_stand_on_the_same_cases_where_there_are_complete_ones() -> None:
    more = TWO | {"c": {"t1": 0.0}}
    assert list(by_number(scores(more), resamples=100)["n"]) == [2, 2], "a case that has one sequence only is no part of it"
    lone = {"a": TWO["a"], "c": {"t1": 0.0}}
    table = by_number(scores(lone), resamples=100)
    assert list(table["n"]) == [2, 1]
    assert not table["complete"].any()


def test_an_added_sequence_is_judged_over_pairs_and_cases() -> None:
    table = added_sequence(scores(TWO))
    t1 = row(table, added="t1")  # flair -> t1+flair: -0.1 in a, +0.3 in b
    assert (t1["gain"], t1["harmed"], t1["pairs"], t1["n"]) == (pytest.approx(0.1), 0.5, 2, 2)
    flair = row(table, added="flair")
    assert (flair["gain"], flair["harmed"]) == (pytest.approx((0.3 + 0.7) / 2), 0.0)
    assert row(table, added="any")["harmed"] == pytest.approx(0.25), "one of four pairs"
    assert row(added_sequence(scores(TWO), tolerance=0.2), added="t1")["harmed"] == 0.0, "within the tolerance"


def test_a_larger_distance_is_worse() -> None:
    table = added_sequence(scores(TWO, "hd95"))
    assert row(table, added="flair")["harmed"] == 0.0, "half a millimetre is noise"
    assert row(added_sequence(scores(TWO, "hd95"), tolerance=0.01), added="flair")["harmed"] == 1.0
    assert row(table, added="flair")["gain"] == pytest.approx(-0.5)


def test_a_volume_error_nearer_to_none_is_better_whatever_its_sign() -> None:
    table = added_sequence(scores({"a": {"t1": -6.0, "t1+flair": 2.0}, "b": {"t1": 1.0, "t1+flair": -5.0}}, "volume_error"))
    found = row(table, added="flair")
    assert (found["gain"], found["harmed"]) == (0.0, 0.5), "4 ml better in a, 4 ml worse in b"


def test_a_pair_with_an_undefined_value_is_no_pair() -> None:
    broken = {"a": TWO["a"] | {"flair": float("nan")}, "b": TWO["b"]}
    t1 = row(added_sequence(scores(broken)), added="t1")
    assert (t1["pairs"], t1["n"], t1["harmed"]) == (1, 1, 0.0)


def test_each_subset_counts_the_cases_that_have_it() -> None:
    table = segmentation_by_subset(scores(TWO | {"c": {"t1": 0.9}}), resamples=100)
    assert row(table, present="t1")["n"] == 3
    assert row(table, present="t1+flair")["n"] == 2
    assert row(table, present="t1")["value"] == pytest.approx(0.5)


def markers(n: int = 24) -> pd.DataFrame:
    truth = np.arange(n) % 2
    parts = []
    for present, probability in (("t1", np.full(n, 0.5)), ("t1+flair", np.where(truth == 1, 0.9, 0.2))):
        parts.append(
            pd.DataFrame(
                {
                    "case": [f"c{i}" for i in range(n)], "subject": [f"s{i}" for i in range(n)], "split": "test",
                    "present": present, "marker": "idh", "class": "mutant", "truth": truth.astype(float),
                    "probability": probability, "logit": np.log(probability / (1 - probability)),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_markers_by_subset_say_when_there_are_too_few() -> None:
    table = markers_by_subset(markers())
    assert row(table, present="t1+flair")["value"] == 1.0
    assert row(table, present="t1")["value"] == 0.5
    few = markers_by_subset(markers(12))
    assert not few["estimable"].any()
    assert few["value"].isna().all()


def test_marker_scores_are_the_probability_of_the_true_class() -> None:
    rows = markers(4)
    rows.loc[0, "truth"] = np.nan
    found = marker_scores(rows)
    assert set(found["metric"]) == {TRUE_CLASS}
    assert sorted(found.loc[found["present"] == "t1+flair", "value"]) == pytest.approx([0.8, 0.8, 0.9, 0.9])
    assert len(found) == 7, "of unknown truth there is nothing to say"
    grades = pd.concat([rows.iloc[1:2].assign(**{"marker": "grade", "class": c, "truth": t, "probability": p})
                        for c, t, p in (("2", 0.0, 0.1), ("3", 1.0, 0.3), ("4", 0.0, 0.6))])  # fmt: skip
    assert list(marker_scores(grades)["value"]) == [0.3]


def test_subsets_are_listed_fewest_first_in_the_order_of_the_sequences() -> None:
    names = ("t1", "t1c", "flair")
    assert subset_order(["t1+flair", "flair", "t1+t1c+flair", "t1", "t1+t1c", "t1"], names) == [
        "t1", "flair", "t1+t1c", "t1+flair", "t1+t1c+flair",
    ]  # fmt: skip
    assert split_names("t1+flair") == ("t1", "flair")
