"""Two runs side by side, from their long tables: one row per region and metric, or per marker, with Holm-adjusted p values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from workbench.contracts import MARKER_TASK, SEGMENTATION
from workbench.errors import InputError, Problem
from workbench.evaluation.comparison import holm, paired_difference, require_same_cases
from workbench.evaluation.delong import delong, mcnemar
from workbench.evaluation.intervals import RESAMPLES, Floats, Interval, mean_interval, subject_codes, weighted_interval
from workbench.evaluation.markers import Sample, metric_values, sample_of
from workbench.evaluation.metrics import Place, metrics_of, shown_in
from workbench.evaluation.replicates import Scores, auc_difference
from workbench.evaluation.summaries import with_available
from workbench.evaluation.thresholds import per_case
from workbench.labels import REGIONS

Thresholds = Mapping[tuple[str, str], float | Mapping[int, float]]
"""(marker, class) -> threshold, or fold -> threshold."""

SEGMENTATION_COLUMNS = (
    "region", "metric", "mean_a", "mean_b", "difference", "low", "high", "p", "p_holm", "n", "n_subjects", "n_undefined",
)  # fmt: skip
MARKER_COLUMNS = (
    "marker", "class", "metric", "value_a", "value_b", "difference", "low", "high", "p", "p_holm", "n", "n_positive", "estimable",
)  # fmt: skip


def compare_segmentation(
    a: pd.DataFrame, b: pd.DataFrame, *, split: str = "test", present: str = "", resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Paired comparison of every region and metric that both runs have.

    Args:
        a: metrics.parquet of the first run.
        b: of the second.
        split: the split to compare on.
        present: a modality subset, e.g. 't1+t2'; empty = each case with all its modalities.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        region, metric, mean_a, mean_b, difference (a minus b), low, high, p (Wilcoxon), p_holm (over all rows), n, n_subjects,
        n_undefined.

    Raises:
        InputError: cases that only one run has, or that were scored against different masks.
    """
    first, second = (split_rows(side, split, present) for side in (a, b))
    rows: list[dict[str, Any]] = []
    shared = [name for name in _pairs(first, "region", "metric") if name in set(_pairs(second, "region", "metric"))]
    for region, metric in shared:
        left, right = (
            side[(side["region"] == region) & (side["metric"] == metric)].set_index("case", drop=False)
            for side in (first, second)
        )
        require_same_cases(left.index, right.index)
        require_same_truth(left["n_truth"], right["n_truth"].reindex(left.index), region)
        found = paired_difference(left["value"], right["value"], left["subject"], resamples=resamples, seed=seed)
        rows.append({"region": region, "metric": metric, **asdict(found)})
    if not rows:
        return pd.DataFrame(columns=list(SEGMENTATION_COLUMNS))
    table = pd.DataFrame(rows)
    order = {name: rank for rank, name in enumerate((*REGIONS, *metrics_of(SEGMENTATION)))}
    table = table.sort_values(["region", "metric"], key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return table.assign(p_holm=holm(table["p"]))[list(SEGMENTATION_COLUMNS)]


def compare_markers(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    split: str = "test",
    present: str = "",
    thresholds_a: Thresholds | None = None,
    thresholds_b: Thresholds | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired comparison of every marker class that both runs have: AUC (DeLong), accuracy (McNemar), others (bootstrap).

    Args:
        a: markers.parquet of the first run.
        b: of the second.
        split: the split to compare on.
        present: a modality subset; empty = each case with all its modalities.
        thresholds_a: (marker, class) -> threshold of the first run, chosen on its validation cases, or fold -> threshold where
            each fold has its own; 0.5 for those not named.
        thresholds_b: likewise, of the second.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        marker, class, metric, value_a, value_b, difference (a minus b), low, high, p, p_holm (over all rows), n, n_positive,
        estimable. AUC has DeLong's interval, the others the bootstrap's. Where a run pools folds, its AUC is that of pairs of
        cases within a fold, with the bootstrap's interval (`replicates.auc_difference`). p is NaN where no test applies: for
        all but AUC, and for accuracy where subjects have several cases, which McNemar's test would count as independent.

    Raises:
        InputError: cases that only one run has, or whose truth differs between them.
    """
    first, second = (split_rows(side, split, present) for side in (a, b))
    rows: list[dict[str, Any]] = []
    shared = [name for name in _pairs(first, "marker", "class") if name in set(_pairs(second, "marker", "class"))]
    for marker, name in shared:
        left, right = (
            side[(side["marker"] == marker) & (side["class"].astype(str) == name) & side["truth"].notna()]
            .set_index("case", drop=False)
            for side in (first, second)
        )  # fmt: skip
        require_same_cases(left.index, right.index)
        right = right.reindex(left.index)
        require_same_truth(left["truth"], right["truth"], marker)
        cuts = [
            np.nan_to_num(per_case(side, (chosen or {}).get((marker, name), 0.5)), nan=0.5)
            for side, chosen in ((left, thresholds_a), (right, thresholds_b))
        ]
        rows += [{"marker": marker, "class": name, **row} for row in _marker_rows(left, right, cuts, resamples, seed)]
    if not rows:
        return pd.DataFrame(columns=list(MARKER_COLUMNS))
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"]))[list(MARKER_COLUMNS)]


def _marker_rows(
    left: pd.DataFrame, right: pd.DataFrame, cuts: list[np.ndarray], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """The metrics compared of one marker class in both runs."""
    one, two = sample_of(left), sample_of(right)
    common = {"n": one.truth.size, "n_positive": int(one.truth.sum()), "estimable": one.estimable}
    nan = float("nan")
    unknown = {"value_a": nan, "value_b": nan, "difference": nan, "low": nan, "high": nan, "p": nan}
    compared = shown_in(Place.COMPARISON, MARKER_TASK)
    if not one.estimable:
        return [{"metric": metric, **unknown, **common} for metric in compared]
    calls = [sample.probability >= cut for sample, cut in zip((one, two), cuts, strict=True)]
    repeated = subject_codes(one.subjects)[1] < one.truth.size
    p_accuracy = nan if repeated else mcnemar(one.truth, *calls).p
    means = {
        "accuracy": [(call == one.truth).astype(np.float64) for call in calls],
        "brier": [(sample.probability - one.truth) ** 2 for sample in (one, two)],
    }
    rows: list[dict[str, Any]] = []
    for metric in compared:
        if metric == "auc":
            found = _areas(one, two, _models(left, right), resamples, seed)
        elif metric in means:
            of_a, of_b = means[metric]
            interval = mean_interval(of_a - of_b, one.subjects, resamples=resamples, seed=seed)
            found = _bootstrapped(of_a.mean(), of_b.mean(), interval) | {"p": p_accuracy if metric == "accuracy" else nan}
        else:
            found = _whole(one, two, cuts, metric, resamples, seed)
        rows.append({"metric": metric, **common, **found})
    return rows


def _bootstrapped(first: float, second: float, interval: Interval) -> dict[str, Any]:
    bounds = {"difference": interval.value, "low": interval.low, "high": interval.high, "p": float("nan")}
    return {"value_a": float(first), "value_b": float(second), **bounds}


def _whole(one: Sample, two: Sample, cuts: list[np.ndarray], metric: str, resamples: int, seed: int) -> dict[str, Any]:
    """A metric that is no mean over cases: both runs on the same resamples of subjects, no test."""

    def both(weights: Floats) -> list[Floats]:
        return [metric_values(sample, weights, cut)[metric] for sample, cut in zip((one, two), cuts, strict=True)]

    first, second = both(np.ones((1, one.truth.size)))
    interval = weighted_interval(lambda weights: np.subtract(*both(weights)), one.subjects, resamples=resamples, seed=seed)
    return _bootstrapped(first[0], second[0], interval)


def _models(left: pd.DataFrame, right: pd.DataFrame) -> np.ndarray:
    """Which models scored each case: its folds in both runs, as text."""
    folds = [side["fold"].astype(str) if "fold" in side else pd.Series("", side.index) for side in (left, right)]
    return (folds[0] + " " + folds[1]).to_numpy().astype(str)


def _areas(one: Sample, two: Sample, models: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    """Both AUCs and their difference: by DeLong's test, or over the folds where several models scored the cases of a run."""
    if np.unique(models).size < 2:
        areas = delong(one.truth, one.probability, two.probability, one.subjects.tolist())
        values = {"value_a": areas.auc_a, "value_b": areas.auc_b, "difference": areas.difference}
        return values | {"low": areas.low, "high": areas.high, "p": areas.p}
    scores = [
        Scores(name, 0, one.truth[of], one.subjects[of], two.probability[of], one.probability[of])
        for name in np.unique(models)
        for of in [models == name]
    ]
    found = auc_difference(scores, resamples=resamples, seed=seed)
    values = {"value_a": found.second, "value_b": found.first, "difference": found.interval.value}
    return values | {
        "low": found.interval.low, "high": found.interval.high, "p": found.p, "estimable": found.interval.estimable
    }  # fmt: skip


def split_rows(table: pd.DataFrame, split: str, present: str = "") -> pd.DataFrame:
    """The rows of a split: of one modality subset, or each case with all it has where `present` is empty."""
    chosen = table[table["split"] == split]
    return chosen[chosen["present"] == present] if present else with_available(chosen)


def _pairs(table: pd.DataFrame, first: str, second: str) -> list[tuple[str, str]]:
    """Distinct pairs of two columns, in order of appearance."""
    return list(dict.fromkeys(zip(table[first].astype(str), table[second].astype(str), strict=True)))


def require_same_truth(a: pd.Series, b: pd.Series, what: str) -> None:
    """Refuse runs that were judged against different truths of the same cases."""
    left, right = a.to_numpy(np.float64), b.to_numpy(np.float64)
    differs = ~((left == right) | (np.isnan(left) & np.isnan(right)))
    if differs.any():
        raise InputError(
            Problem(
                case=str(a.index[differs][0]),
                channel=what,
                message=f"the two runs were judged against different truths ({int(differs.sum())} cases)",
                remedy="evaluate both runs on the same version of the cohort",
            )
        )
