"""Two runs side by side, from their long tables: one row per region and metric, or per marker, with Holm-adjusted p values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.contracts import MARKER_TASK, SEGMENTATION
from workbench.errors import InputError, Problem
from workbench.evaluation.comparison import corrected, paired_differences, require_same_cases
from workbench.evaluation.delong import delong, mcnemar
from workbench.evaluation.detection import GRID_DIAGONAL, with_penalty
from workbench.evaluation.intervals import RESAMPLES, Floats, Interval, difference_intervals, subject_codes, weighted_interval
from workbench.evaluation.markers import Sample, metric_values, sample_of
from workbench.evaluation.metrics import Better, Kind, Place, metrics_of, shown_in
from workbench.evaluation.metrics import metric as entry_of
from workbench.evaluation.paired_tests import DELONG, MCNEMAR, SIGN_FLIPS
from workbench.evaluation.replicates import Scores, auc_difference
from workbench.evaluation.summaries import with_available
from workbench.evaluation.thresholds import NO_THRESHOLD, per_case
from workbench.labels import REGIONS

Thresholds = Mapping[tuple[str, str], float | Mapping[int, float]]
"""(marker, class) -> threshold, or fold -> threshold."""

SEGMENTATION_COLUMNS = (
    "region", "metric", "mean_a", "mean_b", "difference", "low", "high", "p", "p_holm", "test", "too_few", "shift", "shift_low",
    "shift_high", "p_wilcoxon", "better", "worse", "n", "n_subjects", "n_undefined",
)  # fmt: skip
MARKER_COLUMNS = (
    "marker", "class", "metric", "value_a", "value_b", "difference", "low", "high", "p", "p_holm", "test", "n", "n_subjects",
    "n_positive", "estimable", "remark",
)  # fmt: skip


@dataclass(frozen=True)
class CaseScores:
    """What a run's cases scored in one split, a column per region and metric: read once, compared with many."""

    values: pd.DataFrame
    """Cases by (region, metric)."""
    truth: pd.DataFrame
    """Voxels of the region in the truth; NaN where the case was not judged by it."""
    subjects: pd.Series
    """Case -> subject."""

    @classmethod
    def of(
        cls,
        metrics: pd.DataFrame,
        split: str = "test",
        present: str = "",
        names: Sequence[str] = (),
        penalty: str = GRID_DIAGONAL,
    ) -> CaseScores:
        """From metrics.parquet: of one modality subset, or each case with all its modalities; only the metrics `names`, if given.

        `penalty` is what a distance to nothing counts as, of `detection.PENALTIES`.

        Raises:
            InputError: a case that was scored twice.
        """
        chosen = metrics[metrics["metric"].isin(list(names))] if names else metrics
        rows = split_rows(with_penalty(chosen, penalty), split, present)
        twice = rows.duplicated(["case", "region", "metric"])
        if twice.any():
            case = str(rows.loc[twice, "case"].iloc[0])
            raise InputError(Problem(case=case, message="the run has the case twice", remedy="compare one run at a time"))
        value, truth = (
            rows.pivot(index="case", columns=["region", "metric"], values=name).astype(np.float64)
            for name in ("value", "n_truth")
        )
        return cls(value, truth, rows.drop_duplicates("case").set_index("case")["subject"].reindex(value.index).astype(str))


def compare_segmentation(
    a: pd.DataFrame | CaseScores,
    b: pd.DataFrame | CaseScores,
    *,
    split: str = "test",
    present: str = "",
    seed: int = 0,
) -> pd.DataFrame:
    """Paired comparison of every region and metric that both runs have.

    Args:
        a: metrics.parquet of the first run, or its scores of this split.
        b: of the second.
        split: the split to compare on.
        present: a modality subset, e.g. 't1+t2'; empty = each case with all its modalities.
        seed: same seed, same p.

    Returns:
        region, metric, mean_a, mean_b, difference (a minus b), low, high, p (of that mean: `paired_tests.sign_flip`), p_holm
        (over all rows), test, too_few; shift with shift_low and shift_high (Hodges-Lehmann) and p_wilcoxon; better, worse: shares
        of subjects in whom the first is so, NaN where neither side is better; n, n_subjects, n_undefined.

    Raises:
        InputError: cases that only one run has, or that were scored against different masks.
    """
    first, second = (side if isinstance(side, CaseScores) else CaseScores.of(side, split, present) for side in (a, b))
    order = {name: rank for rank, name in enumerate((*REGIONS, *metrics_of(SEGMENTATION)))}
    both = first.values.columns.intersection(second.values.columns)
    pairs = zip(both.get_level_values(0).astype(str), both.get_level_values(1).astype(str), strict=True)
    shared = sorted(pairs, key=lambda name: [(order.get(part, len(order)), part) for part in name])
    if not shared:
        return pd.DataFrame(columns=list(SEGMENTATION_COLUMNS))
    for region, metric in shared:
        left, right = (side.truth[region, metric].dropna() for side in (first, second))
        require_same_cases(left.index, right.index)
        require_same_truth(left, right.reindex(left.index), region)
    names = pd.MultiIndex.from_tuples(shared)
    judged = first.truth[names].notna().any(axis=1)
    cases = judged.index[judged]
    left_values, right_values = (side.values[names].reindex(cases).to_numpy(np.float64) for side in (first, second))
    subjects = first.subjects.reindex(cases).to_numpy().astype(str)
    found = paired_differences(left_values, right_values, subjects, seed=seed)
    rows = []
    unjudged = first.truth[names].reindex(cases).isna().to_numpy().sum(axis=0)
    for (region, metric), one, without in zip(shared, found, unjudged, strict=True):
        shares = dict(zip(("better", "worse"), better_and_worse(metric, one.higher, one.lower), strict=True))
        row = {"region": region, "metric": metric, **asdict(one), **shares, "test": SIGN_FLIPS}
        rows.append(row | {"n_undefined": one.n_undefined - int(without)})
    table = pd.DataFrame(rows)
    return corrected(table)[list(SEGMENTATION_COLUMNS)]


def better_and_worse(metric: str, higher: float, lower: float) -> tuple[float, float]:
    """The shares of subjects with a higher and with a lower value as those better and worse; NaN where neither side is."""
    return {
        Better.HIGHER: (higher, lower), Better.LOWER: (lower, higher), Better.NEITHER: (float("nan"), float("nan")),
    }[entry_of(metric).better]  # fmt: skip


@dataclass(frozen=True)
class MarkerScores:
    """What a run's cases of known truth scored in one split, by marker and class: read once, compared with many."""

    rows: dict[tuple[str, str], pd.DataFrame]
    """(marker, class) -> rows of markers.parquet, by case."""
    samples: dict[tuple[str, str], Sample] = field(default_factory=dict)
    """Of those that were asked for."""

    @classmethod
    def of(cls, markers: pd.DataFrame, split: str = "test", present: str = "") -> MarkerScores:
        """From markers.parquet: of one modality subset, or each case with all its modalities."""
        chosen = split_rows(markers, split, present)
        chosen = chosen[chosen["truth"].notna()].astype({"marker": str, "class": str})
        parts = chosen.groupby(["marker", "class"], sort=False)
        return cls({(str(marker), str(name)): part.set_index("case", drop=False) for (marker, name), part in parts})

    def sample(self, key: tuple[str, str], cases: pd.Index) -> Sample:
        """The cases of a class in this order."""
        rows = self.rows[key]
        if not rows.index.equals(cases):
            return sample_of(rows.reindex(cases))
        if key not in self.samples:
            self.samples[key] = sample_of(rows)
        return self.samples[key]


def compare_markers(
    a: pd.DataFrame | MarkerScores,
    b: pd.DataFrame | MarkerScores,
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
        a: markers.parquet of the first run, or its scores of this split.
        b: of the second.
        split: the split to compare on.
        present: a modality subset; empty = each case with all its modalities.
        thresholds_a: (marker, class) -> threshold of the first run, chosen on its validation cases, or fold -> threshold where
            each fold has its own. What is not named has none, and its decisions are not estimable. None: 0.5 for all.
        thresholds_b: likewise, of the second.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        marker, class, metric, value_a, value_b, difference (a minus b), low, high, p, p_holm (over all rows), test, n,
        n_subjects, n_positive, estimable, remark (why there is no number; empty). AUC has DeLong's interval, the others the
        bootstrap's. Where a run pools folds, its AUC is that of pairs of cases within a fold, with the bootstrap's interval
        (`replicates.auc_difference`). p is NaN where no test applies: for all but AUC, and for accuracy where subjects have
        several cases, which McNemar's test would count as independent.

    Raises:
        InputError: cases that only one run has, or whose truth differs between them.
    """
    first, second = (side if isinstance(side, MarkerScores) else MarkerScores.of(side, split, present) for side in (a, b))
    rows: list[dict[str, Any]] = []
    for marker, name in (key for key in first.rows if key in second.rows):
        left, right = (side.rows[marker, name] for side in (first, second))
        require_same_cases(left.index, right.index)
        if not right.index.equals(left.index):
            right = right.reindex(left.index)
        require_same_truth(left["truth"], right["truth"], marker)
        cuts = [
            per_case(side, 0.5 if chosen is None else chosen.get((marker, name), {}))
            for side, chosen in ((left, thresholds_a), (right, thresholds_b))
        ]
        samples = [side.sample((marker, name), left.index) for side in (first, second)]
        found = _marker_rows(samples[0], samples[1], _models(left, right), cuts, resamples, seed)
        rows += [{"marker": marker, "class": name, **row} for row in found]
    if not rows:
        return pd.DataFrame(columns=list(MARKER_COLUMNS))
    table = pd.DataFrame(rows)
    return corrected(table)[list(MARKER_COLUMNS)]


def _marker_rows(
    one: Sample, two: Sample, models: np.ndarray, cuts: list[np.ndarray], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """The metrics compared of one marker class in both runs."""
    people = subject_codes(one.subjects)[1]
    common: dict[str, Any] = {
        "n": one.truth.size,
        "n_subjects": people,
        "n_positive": int(one.truth.sum()),
        "estimable": one.estimable,
    }
    common |= {"remark": f"not estimable: {one.too_few}" if one.too_few else ""}
    nan = float("nan")
    unknown = {"value_a": nan, "value_b": nan, "difference": nan, "low": nan, "high": nan, "p": nan, "test": ""}
    compared = shown_in(Place.COMPARISON, MARKER_TASK)
    if not one.estimable:
        return [{"metric": metric, **unknown, **common} for metric in compared]
    calls = [sample.probability >= cut for sample, cut in zip((one, two), cuts, strict=True)]
    repeated = people < one.truth.size
    means = {
        "accuracy": [(call == one.truth).astype(np.float64) for call in calls],
        "brier": [(sample.probability - one.truth) ** 2 for sample in (one, two)],
    }
    differences = np.stack([of_a - of_b for of_a, of_b in means.values()], axis=1)
    intervals = dict(zip(means, difference_intervals(differences, one.subjects), strict=True))
    rows: list[dict[str, Any]] = []
    for metric in compared:
        if metrics_of(MARKER_TASK)[metric].kind is Kind.DECISION and not np.isfinite(cuts).all():
            found = unknown | {"estimable": False, "remark": NO_THRESHOLD}
        elif metric == "auc":
            found = _areas(one, two, models, resamples, seed)
        elif metric in means:
            of_a, of_b = means[metric]
            found = _bootstrapped(of_a.mean(), of_b.mean(), intervals[metric])
            if metric == "accuracy" and not repeated:
                found |= {"p": mcnemar(one.truth, *calls).p, "test": MCNEMAR}
        else:
            found = _whole(one, two, cuts, metric, resamples, seed)
        rows.append({"metric": metric, **common, **found})
    return rows


def _bootstrapped(first: float, second: float, interval: Interval) -> dict[str, Any]:
    bounds = {"difference": interval.value, "low": interval.low, "high": interval.high, "p": float("nan"), "test": ""}
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
        return values | {"low": areas.low, "high": areas.high, "p": areas.p, "test": DELONG}
    scores = [
        Scores(name, 0, one.truth[of], one.subjects[of], two.probability[of], one.probability[of])
        for name in np.unique(models)
        for of in [models == name]
    ]
    found = auc_difference(scores, resamples=resamples, seed=seed)
    values = {"value_a": found.second, "value_b": found.first, "difference": found.interval.value}
    return values | {
        "low": found.interval.low, "high": found.interval.high, "p": found.p, "test": DELONG,
        "estimable": found.interval.estimable,
    }  # fmt: skip


def split_rows(table: pd.DataFrame, split: str, present: str = "") -> pd.DataFrame:
    """The rows of a split: of one modality subset, or each case with all it has where `present` is empty."""
    chosen = table[table["split"] == split]
    return chosen[chosen["present"] == present] if present else with_available(chosen)


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
