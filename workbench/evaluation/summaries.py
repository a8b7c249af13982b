"""From the long tables of a run (metrics.parquet, markers.parquet) to the tables that people read.

The point estimates are means over cases, the 95 % intervals are by subject. Means over several folds pool their test cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.contracts import MARKERS, PRETRAINING, SEGMENTATION
from workbench.errors import InputError, Problem
from workbench.evaluation.detection import GRID_DIAGONAL, detection, penalty_text, with_penalty
from workbench.evaluation.intervals import MIN_PER_CLASS, RESAMPLES, Interval, mean_intervals, subject_codes
from workbench.evaluation.markers import auc_interval, marker_metrics
from workbench.evaluation.metrics import Kind, Place, metrics_of, shown_in
from workbench.evaluation.metrics import metric as entry_of
from workbench.evaluation.proportions import UNKNOWN, from_parts, median_interval, share_bounds
from workbench.labels import REGIONS

AVAILABLE = "available"
"""Stands in `present` where each case was judged with all the modalities it has."""

SEGMENTATION_COLUMNS = (
    "split", "present", "region", "metric", "mean", "low", "high", "n", "n_subjects", "n_undefined", "n_empty_truth",
    "mean_nonempty", "low_nonempty", "high_nonempty", "n_nonempty", "subjects_nonempty", "median", "median_low", "median_high",
    "q1", "q3", "penalty",
)  # fmt: skip
MARKER_COLUMNS = (
    "split", "present", "marker", "class", "metric", "value", "low", "high", "n", "n_positive", "n_subjects", "n_unknown",
    "estimable", "threshold", "remark",
)  # fmt: skip

_SPLITS = ("test", "external", "validation", "train")
ALL_CLASSES = "all"
"""`class` of the rows that judge a marker of several classes as a whole."""


MEAN_DISTANCE_SUBJECTS = 100
"""Subjects below which the mean of a distance has no interval; the median has one. A rare miss counts as the grid's diagonal, and
what was never seen cannot be resampled: of 6 to 30 subjects with 3 % misses 34 to 77 % of intervals held the truth."""


def with_available(table: pd.DataFrame) -> pd.DataFrame:
    """Only each case's rows with the most modalities, their `present` set to 'available': the ordinary, complete evaluation.

    A case that lacks a modality belongs with the others here, while in a table per modality subset it stands apart.
    """
    if table.empty:
        return table.assign(present=pd.Series(dtype="object"))
    key = ["case", "split"]
    subsets = table[[*key, "present"]].drop_duplicates()
    if not subsets.duplicated(key).any():  # one subset per case, as in a run's own tables: nothing to choose
        return table.reset_index(drop=True).assign(present=AVAILABLE)
    order = subsets.assign(missing=-subsets["present"].astype(str).str.count(r"\+")).sort_values(["missing", "present"])
    chosen = order.drop_duplicates(key)[[*key, "present"]]
    return table.merge(chosen, on=[*key, "present"]).assign(present=AVAILABLE)


def summarise_segmentation(
    metrics: pd.DataFrame,
    *,
    by_present: bool = True,
    penalty: str = GRID_DIAGONAL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per split, modality subset, region and metric.

    Args:
        metrics: rows of metrics.parquet: case, subject, split, present, region, metric, value, n_truth (and fold, where several).
        by_present: a row per modality subset; False: only 'available', see `with_available`.
        penalty: what a distance to nothing counts as, of `detection.PENALTIES`.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        split, present, region, metric; mean, low, high over the n cases in which the metric is defined (of n_subjects subjects;
        n_undefined cases are left out; of distances no bounds below `MEAN_DISTANCE_SUBJECTS`); n_empty_truth: cases without the
        structure, which the empty rule scored;
        mean_nonempty, low_nonempty, high_nonempty, n_nonempty, subjects_nonempty: the same over the cases that do have the
        structure, and of these the median with median_low and median_high (`proportions.median_interval`) and the quartiles q1
        and q3; penalty: the policy of a distance, empty of other metrics. Whether a structure was found at all says `detection`.

    Raises:
        InputError: a case scored twice under one split, subset, region and metric.
    """
    if not by_present:
        metrics = with_available(metrics)
    metrics = with_penalty(metrics, penalty)
    if metrics.empty:
        return pd.DataFrame(columns=list(SEGMENTATION_COLUMNS))
    rows: list[dict[str, Any]] = []
    for key, part in metrics.groupby(["split", "present"], sort=False):
        split, present = tuple(key)
        found = _summary_rows(part, resamples, seed)
        rows += [
            {"split": split, "present": present, **row, "penalty": penalty if penalty_text(row["metric"], penalty) else ""}
            for row in found
        ]
    return _ordered(
        pd.DataFrame(rows)[list(SEGMENTATION_COLUMNS)], {"region": tuple(REGIONS), "metric": tuple(metrics_of(SEGMENTATION))}
    )


def _summary_rows(part: pd.DataFrame, resamples: int, seed: int) -> list[dict[str, Any]]:
    """The rows of one split and modality subset, all from the same resamples."""
    key = ["fold", "case"] if "fold" in part else ["case"]
    repeated = part.duplicated([*key, "region", "metric"])
    if repeated.any():
        twice = str(part.loc[repeated, "case"].iloc[0])
        raise InputError(
            Problem(case=twice, message="scored twice under one region and metric", remedy="summarise one run at a time")
        )
    values = part.pivot(index=key, columns=["region", "metric"], values="value")
    truth = part.pivot(index=key, columns=["region", "metric"], values="n_truth").to_numpy(np.float64)
    subjects = part.drop_duplicates(key).set_index(key)["subject"].reindex(values.index).to_numpy().astype(str)
    scores = values.to_numpy(np.float64)
    limits = [entry_of(str(tuple(name)[1])).limits for name in values.columns]
    both = np.hstack([scores, np.where(truth > 0, scores, np.nan)])
    intervals = mean_intervals(both, subjects, limits * 2, resamples=resamples, seed=seed)
    distances = [entry_of(str(tuple(name)[1])).kind is Kind.DISTANCE for name in values.columns] * 2
    for index, (distance, found) in enumerate(zip(distances, intervals, strict=True)):
        if distance and found.n_subjects < MEAN_DISTANCE_SUBJECTS:
            intervals[index] = replace(found, low=float("nan"), high=float("nan"))
    rows = []
    for index, name in enumerate(values.columns):
        region, metric = tuple(name)
        every, some = intervals[index], intervals[index + len(values.columns)]
        there = np.isfinite(scores[:, index]) & (truth[:, index] > 0)
        middle = median_interval(scores[there, index], subjects[there])
        quartiles = np.quantile(scores[there, index], [0.25, 0.75]) if there.any() else (np.nan, np.nan)
        # A region that a case's annotators could not draw has no row at all, hence no n_truth: neither empty nor undefined.
        judged = np.isfinite(truth[:, index])
        rows.append(
            {
                "region": region,
                "metric": metric,
                "mean": every.value,
                "low": every.low,
                "high": every.high,
                "n": every.n,
                "n_subjects": every.n_subjects,
                "n_undefined": int(np.sum(judged & ~np.isfinite(scores[:, index]))),
                "n_empty_truth": int(np.sum(truth[:, index] == 0)),
                "mean_nonempty": some.value,
                "low_nonempty": some.low,
                "high_nonempty": some.high,
                "n_nonempty": some.n,
                "subjects_nonempty": some.n_subjects,
                "median": middle.value,
                "median_low": middle.low,
                "median_high": middle.high,
                "q1": float(quartiles[0]),
                "q3": float(quartiles[1]),
            }
        )
    return rows


def leading(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `summarise_segmentation` with the number that leads: of the cases that have the region the median of a distance,
    the mean of anything else; of pretraining the mean of all cases.

    Returns:
        The same rows; value, low, high, n, n_subjects of that number, statistic: 'mean' or 'median', and the old mean, low, high
        and n over all cases as value_all, low_all, high_all, n_all.
    """
    entries = [entry_of(str(name)) for name in table["metric"]]
    middle = np.array([entry.kind is Kind.DISTANCE for entry in entries], bool)
    there = np.array([entry.task == SEGMENTATION for entry in entries], bool)
    found = table.rename(columns={"mean": "value_all", "low": "low_all", "high": "high_all", "n": "n_all"})
    chosen = {
        "value": ("median", "mean_nonempty", "value_all"), "low": ("median_low", "low_nonempty", "low_all"),
        "high": ("median_high", "high_nonempty", "high_all"), "n": ("n_nonempty", "n_nonempty", "n_all"),
        "n_subjects": ("subjects_nonempty", "subjects_nonempty", "n_subjects"),
    }  # fmt: skip
    numbers = {
        name: found[of_median].where(middle, found[of_mean].where(there, found[of_all]))
        for name, (of_median, of_mean, of_all) in chosen.items()
    }
    return found.assign(**numbers, statistic=np.where(middle, "median", "mean"))


def summarise_markers(
    markers: pd.DataFrame,
    *,
    by_present: bool = True,
    thresholds: float | Mapping[tuple[str, str], float] = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per split, modality subset, marker, class and metric; see `evaluation.markers` for the metrics.

    A marker of several classes (grade 2, 3, 4) is judged one class against the rest, and as a whole in rows of class 'all':
    accuracy and balanced accuracy of the likeliest class.

    Args:
        markers: rows of markers.parquet.
        by_present: a row per modality subset; False: only 'available', see `with_available`.
        thresholds: one for all, or (marker, class) -> threshold, as chosen on validation; 0.5 for those not named.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        split, present, marker, class, metric, value, low, high, n, n_positive, n_subjects, n_unknown, estimable, threshold,
        remark.
    """
    if not by_present:
        markers = with_available(markers)
    tables = []
    for key, part in markers.groupby(["split", "present", "marker"], sort=False):
        common = dict(zip(("split", "present", "marker"), map(str, tuple(key)), strict=True))
        for name, rows in part.groupby("class", sort=False):
            chosen = thresholds.get((common["marker"], str(name)), 0.5) if isinstance(thresholds, Mapping) else thresholds
            table = marker_metrics(rows, threshold=float(chosen), resamples=resamples, seed=seed)
            tables.append(table.assign(**common, **{"class": str(name)}, threshold=float(chosen)))
        if part["class"].nunique() > 1:
            table = multiclass_metrics(part)
            tables.append(table.assign(**common, **{"class": ALL_CLASSES}, threshold=np.nan))
    if not tables:
        return pd.DataFrame(columns=list(MARKER_COLUMNS))
    return _ordered(pd.concat(tables, ignore_index=True)[list(MARKER_COLUMNS)], {"marker": MARKERS})


def class_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Per case of known truth its true and its likeliest class: case, subject, truth, predicted.

    Args:
        frame: rows of markers.parquet of one marker with several classes, one split and modality subset.
    """
    known = frame[frame["truth"].notna()]
    probability = known.pivot(index="case", columns="class", values="probability")
    truth = known.pivot(index="case", columns="class", values="truth").reindex(probability.index)
    names = probability.columns.to_numpy().astype(str)
    subjects = known.drop_duplicates("case").set_index("case")["subject"].reindex(probability.index)
    return pd.DataFrame(
        {
            "case": probability.index.astype(str),
            "subject": subjects.to_numpy().astype(str),
            "truth": names[truth.to_numpy(np.float64).argmax(axis=1)] if len(truth) else [],
            "predicted": names[probability.to_numpy(np.float64).argmax(axis=1)] if len(truth) else [],
        }
    )


def multiclass_metrics(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and balanced accuracy (mean recall over the classes) of the likeliest class, with intervals as in `proportions`.

    Not estimable unless each class has `MIN_PER_CLASS` subjects; `n_positive` counts the cases called rightly.
    """
    table = class_table(frame)
    unknown = frame.loc[frame["truth"].isna(), "case"].nunique()
    truth, subjects = (table[name].to_numpy().astype(str) for name in ("truth", "subject"))
    right = truth == table["predicted"].to_numpy().astype(str)
    members = {name: truth == name for name in sorted(frame["class"].astype(str).unique())}
    few = {name: n for name, of in members.items() if (n := np.unique(subjects[of]).size) < MIN_PER_CLASS}
    remark = "; ".join(f"{n} subjects of class {name}, {MIN_PER_CLASS} are needed" for name, n in few.items())
    found = dict.fromkeys(("accuracy", "balanced_accuracy"), (float("nan"), *UNKNOWN))
    if not few:
        recalls = [float(right[of].mean()) for of in members.values()]
        mean = float(np.mean(recalls))
        ends = [share_bounds(right[of], subjects[of]) for of in members.values()]
        parts = [
            (mean + (low - own) / len(ends), mean + (high - own) / len(ends))
            for own, (low, high) in zip(recalls, ends, strict=True)
        ]
        found = {
            "accuracy": (float(right.mean()), *share_bounds(right, subjects)),
            "balanced_accuracy": (mean, *from_parts(mean, *parts)),
        }
    counts = (len(table), int(right.sum()), subject_codes(subjects)[1], unknown)
    rows = [(metric, *numbers, *counts, not few, remark) for metric, numbers in found.items()]
    names = ["metric", "value", "low", "high", "n", "n_positive", "n_subjects", "n_unknown", "estimable", "remark"]
    return pd.DataFrame(rows, columns=names)


def headline(
    metrics: pd.DataFrame | None,
    markers: pd.DataFrame | None,
    split: str = "test",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """The few numbers of a run that a list of runs shows, each case with all its modalities.

    Returns:
        'dice WT' (mean over the cases that have the region), 'hd95 WT' (their median), ..., 'found WT' (share of them in which it
        was found), 'false WT' (share of the others in which it was not there and predicted), ..., 'reconstruction_l1 brain'
        (pretraining), ..., 'auc idh', ..., 'auc grade 4' -> interval; what is not estimable says so and has its n.
    """
    result: dict[str, Interval] = {}
    if metrics is not None and not metrics.empty:
        shown = shown_in(Place.HEADLINE, SEGMENTATION, PRETRAINING)
        chosen = metrics[(metrics["split"] == split) & metrics["metric"].isin(shown)]
        table = summarise_segmentation(chosen, by_present=False, resamples=resamples, seed=seed)
        for row in leading(table).to_dict("records"):
            bounds = (row["value"], row["low"], row["high"])
            result[f"{row['metric']} {row['region']}"] = Interval(*bounds, row["n"], row["n_subjects"], estimable=row["n"] > 0)
        for row in detection(with_available(chosen)).to_dict("records"):
            for name, of in (("found", "with"), ("false", "without")):
                if row[f"n_{of}"]:
                    bounds = (row[name], row[f"{name}_low"], row[f"{name}_high"])
                    result[f"{name} {row['region']}"] = Interval(*bounds, row[f"n_{of}"], row[f"subjects_{of}"])
    if markers is not None and not markers.empty:
        chosen = with_available(markers[markers["split"] == split])
        order = {name: index for index, name in enumerate(MARKERS)}
        for marker in sorted(chosen["marker"].astype(str).unique(), key=lambda name: order.get(name, len(order))):
            part = chosen[chosen["marker"] == marker]
            for name, rows in part.groupby("class"):
                title = f"auc {marker} {name}" if marker == "grade" else f"auc {marker}"
                result[title] = auc_interval(rows)
    return result


def _ordered(table: pd.DataFrame, orders: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Rows in the house's order: test first, most modalities first, regions, metrics and markers as they are defined."""
    keys = pd.DataFrame(index=table.index)
    for column, order in {"split": _SPLITS, **orders}.items():
        ranks = {name: rank for rank, name in enumerate(order)}
        keys[column] = [ranks.get(str(name), len(ranks)) for name in table[column]]
    keys["present"] = -table["present"].astype(str).str.count(r"\+")
    keys["subset"] = table["present"].astype(str)
    return table.loc[keys.sort_values(["split", "present", "subset", *orders], kind="stable").index].reset_index(drop=True)
