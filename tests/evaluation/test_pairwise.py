"""All pairs of runs: equal to the two-run comparison, one family, refusals beside results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from workbench.evaluation.ablation import Cell
from workbench.evaluation.comparison import holm
from workbench.evaluation.pairwise import pairwise_deltas
from workbench.evaluation.run_comparison import compare_markers, compare_segmentation

CASES = [f"s{index:02d}" for index in range(36)]
HEAD = {"case": CASES, "subject": CASES, "split": "test", "present": "t1", "fold": [index % 3 for index in range(36)]}
TRUTH = np.array([0.0, 0.0, 1.0, 1.0] * 9)


def run(title: str, seed: int, shift: float = 0.0) -> Cell:
    rng = np.random.default_rng(seed)
    metrics = pd.DataFrame(HEAD | {"region": "WT", "metric": "dice", "value": rng.beta(8, 2, 36) + shift, "n_truth": 5})
    logit = 1.5 * (TRUTH - 0.5) + rng.normal(0, 1, 36)
    markers = pd.DataFrame(
        HEAD | {"marker": "idh", "class": "mutant", "truth": TRUTH, "logit": logit, "probability": expit(logit)}
    )
    return Cell("", title, 0, seed, f"e/{title}", metrics, markers, "abc", 100.0)


def whole(cell: Cell) -> Cell:
    """The run as one of a single fold."""
    return replace(cell, metrics=cell.metrics.assign(fold=0), markers=cell.markers.assign(fold=0))


RUNS = [run("a", 1), run("b", 2, -0.1), run("c", 3)]


def test_each_pair_is_what_the_comparison_of_two_runs_gives() -> None:
    found = pairwise_deltas([whole(r) for r in RUNS], outcomes=["dice", "auc"], resamples=200)
    assert list(dict.fromkeys(found.table["arm"])) == ["a − b", "a − c", "b − c"]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        a, b = RUNS[first], RUNS[second]
        rows = found.table[found.table["arm"] == f"{a.arm} − {b.arm}"].set_index("metric")
        voxels = compare_segmentation(a.metrics, b.metrics).iloc[0]
        for ours, theirs in (("difference", "difference"), ("low", "low"), ("high", "high"), ("p", "p"), ("value", "mean_a")):
            assert rows.loc["dice", ours] == pytest.approx(voxels[theirs])
        areas = compare_markers(whole(a).markers, whole(b).markers).set_index("metric").loc["auc"]
        assert rows.loc["auc", ["difference", "p"]].tolist() == pytest.approx(areas[["difference", "p"]].tolist())
    assert found.table["p_holm"].tolist() == pytest.approx(holm(found.table["p"]))
    assert found.family == 6
    folds = pairwise_deltas(RUNS[:2], outcomes=["auc"], resamples=200).table.iloc[0]
    areas = compare_markers(RUNS[0].markers, RUNS[1].markers, resamples=200).set_index("metric").loc["auc"]
    for ours, theirs in (("difference", "difference"), ("low", "low"), ("high", "high"), ("p", "p"), ("value", "value_a")):
        assert folds[ours] == pytest.approx(areas[theirs]), "folds that are pooled: pairs within a fold, in both"


def test_pooled_folds_are_not_ranked_against_each_other() -> None:
    """Probabilities of fold k are shifted by k in one run only: within the folds nothing changes."""
    shifted = RUNS[0].markers.assign(probability=expit(RUNS[0].markers["logit"] + 3 * RUNS[0].markers["fold"]))
    both = [RUNS[0], replace(RUNS[0], arm="shifted", markers=shifted)]
    line = pairwise_deltas(both, outcomes=["auc"], resamples=50).table.iloc[0]
    assert line["difference"] == pytest.approx(0)
    pooled = pairwise_deltas([whole(r) for r in both], outcomes=["auc"], resamples=50).table.iloc[0]
    assert pooled["difference"] > 0.05, "as one fold they would be"


def test_folds_count_on_one_side_and_on_the_compared_split_alone() -> None:
    """One run pools three shifted models, the other is one; external cases of a pooled run are no fold of its test cases."""
    shifted = RUNS[0].markers.assign(probability=expit(RUNS[0].markers["logit"] + 3 * RUNS[0].markers["fold"]))
    pooled = replace(RUNS[0], arm="pooled", markers=shifted)
    line = pairwise_deltas([pooled, whole(RUNS[0])], outcomes=["auc"], resamples=50).table.iloc[0]
    assert line["difference"] == pytest.approx(0)
    voxels = [pairwise_deltas([one, whole(RUNS[1])], outcomes=["dice"], resamples=50).table for one in (pooled, whole(RUNS[0]))]
    pd.testing.assert_frame_equal(*(table.drop(columns=["arm", "cells", "planned"]) for table in voxels))
    external = shifted.head(5).assign(case=lambda rows: "x" + rows["case"], split="external", fold=-1)
    both = [replace(pooled, markers=pd.concat([shifted, external])), RUNS[0]]
    found = pairwise_deltas(both, outcomes=["auc"], resamples=50)
    assert found.table["difference"].iloc[0] == pytest.approx(0)
    assert found.arms["planned"].iloc[0] == 3


def test_validation_cases_of_pooled_folds_are_refused_and_the_other_pairs_stand() -> None:
    def validated(cell: Cell) -> Cell:
        return replace(cell, metrics=cell.metrics.assign(split="validation"), markers=None)

    found = pairwise_deltas(
        [validated(RUNS[0]), *(validated(whole(r)) for r in RUNS[1:])], split="validation", resamples=20
    )  # fmt: skip
    assert [line.partition(": ")[0] for line in found.refused] == ["a − b", "a − c"]
    assert "not compared over folds" in found.refused[0]
    assert set(found.table["arm"]) == {"b − c"}
    assert len(pairwise_deltas([validated(r) for r in RUNS[:2]], split="validation").table) == 0


def test_a_pair_that_cannot_be_compared_is_refused_and_the_others_stand() -> None:
    others = RUNS[2].metrics[RUNS[2].metrics["case"] != "s07"], RUNS[2].markers[RUNS[2].markers["case"] != "s07"]
    found = pairwise_deltas([*RUNS[:2], replace(RUNS[2], metrics=others[0], markers=others[1])], resamples=50)
    refused = found.arms.set_index("arm")["refused"]
    assert refused["a − b"] == ""
    assert "s07" in refused["a − c"]
    assert "s07" in refused["b − c"]
    assert set(found.table["arm"]) == {"a − b"}
    elsewhere = pairwise_deltas([RUNS[0], replace(RUNS[1], fingerprint="other")], resamples=20)
    assert "different cohorts" in elsewhere.arms["refused"].iloc[0]
    assert len(elsewhere.table) == 0


def test_budgets_are_said_and_one_run_has_no_pair() -> None:
    found = pairwise_deltas([RUNS[0], replace(RUNS[1], samples=200.0)], outcomes=["dice"], resamples=20)
    assert "unequal budget" in found.table["remark"].iloc[0]
    assert len(pairwise_deltas(RUNS[:1]).arms) == 0
