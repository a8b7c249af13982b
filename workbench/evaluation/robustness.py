"""What missing sequences do to a method: every subset, the mean per number of sequences, and where one more sequence hurts.

Cases that do not have a region say nothing of how well it is drawn and are left out; whether it is found says `detection`.
All from the long tables of a subset evaluation (columns of metrics.parquet and markers.parquet, a row per case and `present`).
Tables of 15 rows and means by number of sequences follow mmFormer (MICCAI 2022) and its successors; the rate at which an added
sequence makes things worse is reported beside them, since a mean over cases hides it. Intervals are by subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from workbench.contracts import MARKERS, SEGMENTATION
from workbench.evaluation.intervals import RESAMPLES, difference_intervals, mean_intervals
from workbench.evaluation.markers import auc_interval
from workbench.evaluation.metrics import TRUE_CLASS, Better, metric, metrics_of
from workbench.evaluation.proportions import proportion
from workbench.evaluation.summaries import leading, summarise_segmentation
from workbench.labels import REGIONS

TOLERANCE = 0.01
"""A pair counts as made worse from this fall of Dice (or of the probability of the true class) on: less is noise."""
TOLERANCES = {"mm": 1.0, "ml": 1.0}
"""The same by unit: of distances a rise by a voxel's edge, of the volume error whatever its sign."""


def split_names(present: str) -> tuple[str, ...]:
    """'t1+flair' -> ('t1', 'flair')."""
    return tuple(present.split("+"))


def subset_order(present: Iterable[str], modalities: Sequence[str]) -> list[str]:
    """Subsets as tables list them: fewest sequences first, then in the order of `modalities`."""
    rank = {name: index for index, name in enumerate(modalities)}
    return sorted(
        set(present), key=lambda text: (len(split_names(text)), [rank.get(name, len(rank)) for name in split_names(text)])
    )


def segmentation_by_subset(metrics: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """The number of each metric that leads, per split, subset and region, with its 95 % interval; see `summaries.leading`.

    A subset's cases are those that have all its sequences: n differs between subsets where sequences were not acquired.
    """
    return leading(summarise_segmentation(metrics, by_present=True, resamples=resamples, seed=seed))


def markers_by_subset(markers: pd.DataFrame) -> pd.DataFrame:
    """AUC per split, subset, marker and class: split, present, marker, class, value, low, high, n, n_subjects, n_positive,
    estimable."""
    rows = []
    for key, part in markers.groupby(["split", "present", "marker", "class"], sort=False):
        found = auc_interval(part)
        split, present, marker, name = (str(item) for item in tuple(key))
        rows.append(
            {
                "split": split, "present": present, "marker": marker, "class": name, "value": found.value, "low": found.low,
                "high": found.high, "n": found.n, "n_subjects": found.n_subjects,
                "n_positive": int(part["truth"].sum()), "estimable": found.estimable,
            }
        )  # fmt: skip
    columns = ["split", "present", "marker", "class", "value", "low", "high", "n", "n_subjects", "n_positive", "estimable"]
    return pd.DataFrame(rows, columns=columns)


def marker_scores(markers: pd.DataFrame) -> pd.DataFrame:
    """The probability that each case's true class was given, as rows like those of metrics.parquet.

    `region` is the marker (of several classes: 'grade'), `metric` is `TRUE_CLASS`; cases of unknown truth are left out.
    """
    known = markers[markers["truth"].notna()]
    if known.empty:
        return pd.DataFrame(columns=["case", "subject", "split", "present", "region", "metric", "value", "n_truth"])
    several = known.groupby("marker")["class"].transform("nunique") > 1
    one = known[~several]
    value = np.where(one["truth"] == 1, one["probability"], 1 - one["probability"])
    parts = [one.assign(value=value), known[several & (known["truth"] == 1)].assign(value=lambda rows: rows["probability"])]
    table = pd.concat(parts, ignore_index=True).rename(columns={"marker": "region"})
    return table.assign(metric=TRUE_CLASS, n_truth=1)[
        ["case", "subject", "split", "present", "region", "metric", "value", "n_truth"]
    ]


def by_number(scores: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Mean over all subsets of 1, 2, 3, ... sequences.

    Only cases that have as many sequences as any case has take part where there are any of them in at least two subjects
    (`complete`), so that the same cases stand behind every number; else each case with what it has.

    Args:
        scores: case, subject, split, present, region, metric, value: rows of metrics.parquet or of `marker_scores`.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        split, region, metric, number, mean, low, high, n (cases), n_subjects, complete.
    """
    rows = []
    there = _there(scores)
    counted = there.assign(number=there["present"].str.count(r"\+") + 1)
    for key, part in counted.groupby(["split", "region", "metric"], sort=False):
        most = part.groupby("case")["number"].transform("max")
        whole = part[most == part["number"].max()]
        complete = whole["subject"].nunique() >= 2
        chosen = whole if complete else part
        means = chosen.groupby(["case", "subject", "number"])["value"].mean().unstack("number")
        intervals = mean_intervals(
            means.to_numpy(np.float64),
            means.index.get_level_values("subject").to_numpy().astype(str),
            [metric(str(tuple(key)[2])).limits] * means.shape[1],
            resamples=resamples,
            seed=seed,
        )
        for number, found in zip(means.columns, intervals, strict=True):
            split, region, name = (str(item) for item in tuple(key))
            rows.append(
                {
                    "split": split, "region": region, "metric": name, "number": int(number), "mean": found.value,
                    "low": found.low, "high": found.high, "n": found.n, "n_subjects": found.n_subjects,
                    "complete": bool(complete),
                }
            )  # fmt: skip
    return pd.DataFrame(
        rows, columns=["split", "region", "metric", "number", "mean", "low", "high", "n", "n_subjects", "complete"]
    )


def added_sequence(scores: pd.DataFrame, *, tolerance: float | None = None) -> pd.DataFrame:
    """What one more sequence does: over all pairs of subsets that differ by it, per case.

    Args:
        scores: as for `by_number`.
        tolerance: a change for the worse by more than this counts as harm; None: `tolerance_of` each metric.

    Returns:
        split, region, metric, added ('any' = all of them together), pairs, n (cases), n_subjects; gain: mean change with gain_low
        and gain_high, positive = better (of the volume error: nearer to none); harmed: mean share of a case's pairs that got
        worse, with harmed_low and harmed_high by Wilson's formula (`proportions.share_bounds`), which knows an upper bound where
        none got worse.
    """
    rows = []
    for key, part in _there(scores).groupby(["split", "region", "metric"], sort=False):
        split, region, name = (str(item) for item in tuple(key))
        entry = metric(name)
        signless = part.assign(value=part["value"].abs()) if entry.signed else part
        pairs = _pairs(signless, -1.0 if entry.signed or entry.better is Better.LOWER else 1.0)
        limit = tolerance_of(name) if tolerance is None else tolerance
        if pairs.empty:
            continue
        for added, group in [("any", pairs), *pairs.groupby("added", sort=False)]:
            judged = group.assign(harmed=np.where(group["change"].isna(), np.nan, group["change"] < -limit))
            means = judged.groupby(["case", "subject"])[["change", "harmed"]].mean().dropna()
            people = means.index.get_level_values("subject").to_numpy().astype(str)
            gain = difference_intervals(means[["change"]].to_numpy(np.float64), people)[0]
            harmed = proportion(means["harmed"].to_numpy(np.float64), people)
            rows.append(
                {
                    "split": split, "region": region, "metric": name, "added": str(added),
                    "pairs": int(judged["change"].notna().sum()), "n": gain.n, "n_subjects": gain.n_subjects,
                    "gain": gain.value, "gain_low": gain.low,
                    "gain_high": gain.high, "harmed": harmed.value, "harmed_low": harmed.low, "harmed_high": harmed.high,
                }
            )  # fmt: skip
    columns = [
        "split", "region", "metric", "added", "pairs", "n", "n_subjects", "gain", "gain_low", "gain_high", "harmed", "harmed_low",
        "harmed_high",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _there(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of cases that have the region; of a pretraining or marker all."""
    return scores[scores["n_truth"] > 0] if "n_truth" in scores else scores


def tolerance_of(name: str) -> float:
    """The change for the worse that is still noise: that of the metric's unit in `TOLERANCES`, else `TOLERANCE`."""
    return TOLERANCES.get(metric(name).unit, TOLERANCE)


def _pairs(part: pd.DataFrame, sign: float) -> pd.DataFrame:
    """case, subject, added, change (positive = better): every subset beside the one without one of its sequences."""
    values = {
        (str(case), frozenset(split_names(p))): v for case, p, v in part[["case", "present", "value"]].itertuples(index=False)
    }
    subject = dict(zip(part["case"].astype(str), part["subject"].astype(str), strict=True))
    rows = []
    for (case, shown), value in values.items():
        for name in shown:
            before = values.get((case, shown - {name}))
            if before is not None:
                rows.append((case, subject[case], name, sign * (value - before)))
    table = pd.DataFrame(rows, columns=["case", "subject", "added", "change"])
    return table.sort_values(["added", "case"], kind="stable").reset_index(drop=True)


def judgements(metrics: pd.DataFrame, markers: pd.DataFrame) -> list[str]:
    """What a subset evaluation can be judged by: 'dice:WT', 'hd95:WT', ..., 'auc:idh:mutant', ..., in the house's order."""
    found = {(str(name), str(region)) for name, region in metrics[["metric", "region"]].drop_duplicates().to_numpy()}
    voxels = [f"{name}:{region}" for name in metrics_of(SEGMENTATION) for region in REGIONS if (name, region) in found]
    known = markers[["marker", "class"]].drop_duplicates().to_numpy()
    return voxels + [f"auc:{marker}:{name}" for marker, name in sorted(known, key=lambda row: (MARKERS.index(row[0]), row[1]))]


def by_subset(
    metrics: pd.DataFrame, markers: pd.DataFrame, judged: str, split: str, *, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """One of `judgements` per subset: present, value, low, high, n, n_subjects; nothing where it was not measured."""
    kind, name, *rest = judged.split(":")
    if kind == "auc":
        rows = markers[(markers["split"] == split) & (markers["marker"] == name) & markers["class"].isin(rest)]
        table = markers_by_subset(rows)
    else:
        rows = metrics[(metrics["split"] == split) & (metrics["metric"] == kind) & (metrics["region"] == name)]
        table = segmentation_by_subset(rows, resamples=resamples)
    return table[["present", "value", "low", "high", "n", "n_subjects"]]


def scores_of(metrics: pd.DataFrame, markers: pd.DataFrame, judged: str, split: str) -> pd.DataFrame:
    """The per-case rows behind one of `judgements`, for `by_number` and `added_sequence`; of a marker the probability of the true
    class, since a single case has no AUC."""
    kind, name, *_ = judged.split(":")
    if kind == "auc":
        return marker_scores(markers[(markers["split"] == split) & (markers["marker"] == name)])
    return metrics[(metrics["split"] == split) & (metrics["metric"] == kind) & (metrics["region"] == name)]
