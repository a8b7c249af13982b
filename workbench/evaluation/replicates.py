"""Paired differences over several trainings of the same two conditions: folds, and seeds.

A *replicate* is one (fold, seed): two models, one per condition, that judged the same cases. A case's difference is its mean over
the replicates that judged it, the estimate is the mean over cases: a case weighs the same however many seeds are finished.

Intervals resample subjects; with several seeds they resample the seeds too, each draw of both kinds together (the pigeonhole
bootstrap: Owen 2007, Annals of Applied Statistics 1:386). A seed is drawn with all its folds. Since few seeds show too little of
their own spread, each draw's deviation from equal seed weights is stretched by sqrt(S / (S - 1)). P values treat the trained
models as given: they speak of other patients, not of other trainings. With one seed, so does the interval.

Simulated coverage of the nominal 95 % (40 subjects; the luck of the seeds' mean half as large as the standard error over
subjects, or as large): 2 seeds 97 and 95, 3 seeds 96 and 94, 5 seeds 95 and 96; with the seeds taken as given 92 and 86, 92 and
83, 91 and 87; one seed 90 and 81.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation import weighted
from workbench.evaluation.delong import auc_covariance, t_test
from workbench.evaluation.intervals import (
    MIN_PER_CLASS,
    RESAMPLES,
    Interval,
    bounds,
    difference_intervals,
    leave_out_weights,
    resample_weights,
    subject_codes,
)
from workbench.seeding import stream

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AucDifference:
    """Mean AUC of two conditions over replicates, and their difference (second minus first)."""

    first: float
    second: float
    interval: Interval
    p: float
    n_positive: int
    left_out: int
    """Folds with fewer than two subjects of a class: they compare nothing."""


@dataclass(frozen=True)
class Scores:
    """One replicate's scores of a marker class in both conditions, cases of known truth."""

    stratum: str
    """Cases of one stratum were scored by the same models: the fold, or '' where every fold judged the same cases."""
    seed: int
    positive: NDArray[np.bool_]
    subjects: NDArray[np.str_]
    first: Floats
    second: Floats


def seed_weights(seeds: NDArray[np.int64], resamples: int, seed: int) -> Floats:
    """(R, C): weight of each of the C replicates in each resample of seeds; ones where there is one seed only.

    Args:
        seeds: (C,) seed of each replicate.
        resamples: number R of resamples.
        seed: same seed, same draws.
    """
    names, codes = np.unique(seeds, return_inverse=True)
    count = len(names)
    if count < 2:
        return np.ones((resamples, len(seeds)))
    drawn = stream(seed, "bootstrap of seeds").multinomial(count, np.full(count, 1 / count), size=resamples)
    return (1 + np.sqrt(count / (count - 1)) * (drawn - 1.0))[:, codes]


def mean_difference(
    differences: Floats, subjects: NDArray[np.str_], seeds: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean over cases of their mean difference over replicates, with its interval over subjects (and seeds).

    Args:
        differences: (n cases, C replicates); NaN where a replicate did not judge the case.
        subjects: (n,) subject of each case.
        seeds: (C,) seed of each replicate.
        resamples: bootstrap resamples.
        seed: same seed, same interval.
    """
    judged = np.isfinite(differences)
    some = judged.any(axis=1)
    differences, judged, subjects = differences[some], judged[some], subjects[some]
    n, count = len(differences), subject_codes(subjects)[1]
    if not n:
        return Interval.unknown()
    filled, there = np.where(judged, differences, 0.0), judged.astype(np.float64)
    own = filled.sum(axis=1) / there.sum(axis=1)
    value = float(own.mean())
    if count < 2:
        return Interval(value, float("nan"), float("nan"), n, count)
    if np.unique(seeds).size < 2:
        return difference_intervals(own[:, None], subjects)[0]
    drawn, chosen = resample_weights(subjects, resamples, seed), seed_weights(seeds, resamples, seed)
    totals, weights = chosen @ filled.T, chosen @ there.T
    # a case of which no seed was drawn (or whose stretched weights cancel) stands for itself: its mean over what there is
    means = np.where(weights > 0.5, totals / np.where(weights > 0.5, weights, 1.0), own)
    draws = (drawn * means).sum(axis=1) / drawn.sum(axis=1)
    left_out = leave_out_weights(subjects)
    low, high = bounds(value, draws, left_out @ own / left_out.sum(axis=1), n_subjects=count)
    return Interval(value, low, high, n, count)


def auc_difference(scores: list[Scores], *, resamples: int = RESAMPLES, seed: int = 0) -> AucDifference:
    """AUC of the second condition minus that of the first, over folds and seeds.

    Scores of different folds come from different models and are not on one scale, so they are never pooled: the AUC counts pairs
    of a positive and a negative case *of the same fold*, all such pairs alike (each fold weighs by its number of pairs). Over the
    seeds of a fold the AUC is averaged. With one fold and one seed this is the ordinary AUC, and p is that of DeLong's test.
    With more, the variance is DeLong's of each fold's mean difference, summed over folds, whose patients are different.

    Args:
        scores: one entry per replicate; those of a stratum hold the same cases in the same order.
        resamples: bootstrap resamples of subjects, and of seeds where there are several.
        seed: same seed, same interval.
    """
    strata: dict[str, list[Scores]] = {}
    for entry in scores:
        strata.setdefault(entry.stratum, []).append(entry)
    usable = [entries for entries in strata.values() if _two_of_each(entries[0])]
    left_out = len(strata) - len(usable)
    n = sum(entries[0].positive.size for entries in usable)
    positives = sum(int(entries[0].positive.sum()) for entries in usable)
    nan = float("nan")
    if min(_subjects_of(usable, side) for side in (True, False)) < MIN_PER_CLASS:
        known = [entries[0].positive for entries in strata.values()]
        people = {subject for entries in strata.values() for subject in entries[0].subjects.tolist()}
        unknown = Interval.unknown(sum(side.size for side in known), len(people))
        return AucDifference(nan, nan, unknown, nan, sum(int(side.sum()) for side in known), left_out)
    subjects = np.concatenate([entries[0].subjects for entries in usable])
    edges = np.cumsum([0, *(entries[0].positive.size for entries in usable)])
    parts = [slice(low, high) for low, high in itertools.pairwise(edges)]

    def mean_auc(weights: Floats, luck: dict[int, Floats], side: str) -> Floats:
        total, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for entries, part in zip(usable, parts, strict=True):
            own, positive = weights[:, part], entries[0].positive
            count = own[:, positive].sum(axis=1) * own[:, ~positive].sum(axis=1)
            lucks = np.stack([luck[entry.seed] for entry in entries])
            lucks = np.where(lucks.sum(axis=0) > 0.5, lucks, 1.0)
            areas = np.stack([weighted.auc(own, positive, getattr(entry, side)) for entry in entries])
            area = (lucks * areas).sum(axis=0) / lucks.sum(axis=0)
            total += np.where(count > 0, area * count, 0.0)
            pairs += count
        return weighted.divide(total, pairs)

    seeds = np.array(sorted({entry.seed for entries in usable for entry in entries}))
    names = dict(zip(seeds.tolist(), seed_weights(seeds, resamples, seed).T, strict=True))
    one = {value: np.ones(1) for value in names}
    first, second = (float(mean_auc(np.ones((1, n)), one, side)[0]) for side in ("first", "second"))
    drawn, without = resample_weights(subjects, resamples, seed), leave_out_weights(subjects)
    draws = mean_auc(drawn, names, "second") - mean_auc(drawn, names, "first")
    still = {value: np.ones(len(without)) for value in names}
    jackknife = mean_auc(without, still, "second") - mean_auc(without, still, "first")
    count = subject_codes(subjects)[1]
    low, high = bounds(second - first, draws, jackknife, n_subjects=count)
    interval = Interval(second - first, low, high, n, count)
    return AucDifference(first, second, interval, _delong_p(usable, second - first), positives, left_out)


def _two_of_each(entry: Scores) -> bool:
    return all(np.unique(entry.subjects[entry.positive == side]).size >= 2 for side in (True, False))


def _subjects_of(usable: list[list[Scores]], side: bool) -> int:
    """Number of subjects of a class."""
    return len({name for entries in usable for name in entries[0].subjects[entries[0].positive == side].tolist()})


def _delong_p(usable: list[list[Scores]], difference: float) -> float:
    """Two-sided p of `delong.t_test`: DeLong's covariance within each stratum, of the mean over its seeds, weighted by pairs."""
    pairs = np.array([entries[0].positive.sum() * (~entries[0].positive).sum() for entries in usable], np.float64)
    variance, parts = 0.0, []
    for entries, share in zip(usable, pairs / pairs.sum(), strict=True):
        rows = np.stack([*(entry.second for entry in entries), *(entry.first for entry in entries)])
        contrast = share * np.repeat([1.0, -1.0], len(entries)) / len(entries)
        own, of_classes = auc_covariance(entries[0].positive, rows, entries[0].subjects).of_difference(contrast)
        variance += own
        parts += of_classes
    return t_test(difference, variance, parts)[2]
