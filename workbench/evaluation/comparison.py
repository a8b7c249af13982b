"""Is one run better than another? Paired tests over the same subjects, with the size of the difference always beside the p value.

Every difference is the first minus the second. Subjects that only one of the two has are an error, never dropped in silence:
a comparison over different patients compares the patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from workbench.errors import InputError, ParameterError, Problem
from workbench.evaluation.intervals import RESAMPLES, mean_interval, subject_codes
from workbench.evaluation.markers import MIN_PER_CLASS

EXACT_BELOW = 25
"""Discordant pairs below which McNemar's test is the exact binomial one."""


@dataclass(frozen=True)
class PairedDifference:
    """Mean paired difference (first minus second) with its 95 % subject-bootstrap interval and Wilcoxon's p."""

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float
    """Wilcoxon signed-rank test on the subjects' mean differences, two-sided; 1 where all are zero."""
    n: int
    """Cases in which both have a value."""
    n_subjects: int
    n_undefined: int
    """Cases left out since the metric is not defined in one or both."""


@dataclass(frozen=True)
class DeLong:
    """Two correlated AUCs and the test of their difference. NaN where a class has fewer than two subjects."""

    auc_a: float
    auc_b: float
    difference: float
    low: float
    high: float
    z: float
    p: float
    variances: tuple[float, float]
    covariance: float
    n: int
    n_positive: int
    estimable: bool
    """Whether there are at least `MIN_PER_CLASS` cases of each class."""


@dataclass(frozen=True)
class McNemar:
    """Paired comparison of yes/no decisions: cases that only one of the two got right."""

    only_a: int
    only_b: int
    statistic: float
    p: float
    exact: bool
    n: int


def paired_difference(
    a: pd.Series, b: pd.Series, subjects: pd.Series | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference:
    """Compare a metric of two runs case by case.

    Args:
        a: value per case, the index holds the cases; NaN = not defined.
        b: likewise, of the other run; any order.
        subjects: case -> subject; each case is its own subject without.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same interval.

    Raises:
        InputError: cases that only one of the two has, or that occur twice; the message names them.
    """
    require_same_cases(a.index, b.index)
    b = b.reindex(a.index)
    left, right = a.to_numpy(np.float64), b.to_numpy(np.float64)
    names = (a.index if subjects is None else subjects.reindex(a.index)).to_numpy().astype(str)
    both = np.isfinite(left) & np.isfinite(right)
    left, right, names = left[both], right[both], names[both]
    interval = mean_interval(left - right, names, resamples=resamples, seed=seed)
    mean_a, mean_b = (float(np.mean(side)) if side.size else float("nan") for side in (left, right))
    per_subject = pd.Series(left - right).groupby(names).mean().to_numpy(np.float64)
    return PairedDifference(
        mean_a=mean_a,
        mean_b=mean_b,
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p=signed_rank(per_subject),
        n=int(both.sum()),
        n_subjects=subject_codes(names)[1],
        n_undefined=int((~both).sum()),
    )


def require_same_cases(a: pd.Index, b: pd.Index) -> None:
    """Refuse two runs that were not judged on the same cases.

    Raises:
        InputError: names the cases that only one has, or that one has twice.
    """
    for side, index in (("first", a), ("second", b)):
        if index.has_duplicates:
            twice = str(index[index.duplicated()][0])
            raise InputError(
                Problem(case=twice, message=f"the {side} run has the case twice", remedy="compare one run at a time")
            )
    problems = []
    for side, missing in (("first", a.difference(b)), ("second", b.difference(a))):
        if len(missing):
            listed = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
            problems.append(
                Problem(
                    message=f"{len(missing)} cases were judged in the {side} run only: {listed}",
                    remedy="compare runs of the same cohort, fold and split, or filter both to the cases they share",
                )
            )
    if problems:
        raise InputError(*problems)


def signed_rank(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; zeros are left out; 1 where all are zero, NaN without any difference.

    Exact up to 50 differences, ties with their mean rank (SciPy approximates there, and is far too sure of few differences),
    otherwise the normal approximation with a tie correction.
    """
    values = differences[np.isfinite(differences)]
    if not values.size:
        return float("nan")
    values = values[np.abs(values) > 1e-12]
    if not values.size:
        return 1.0
    if values.size > 50:
        return float(stats.wilcoxon(values, method="approx").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(values))).astype(int)  # doubled: mean ranks are halves
    ways = np.ones(1)  # number of sign patterns for each sum of the positive ranks
    for rank in ranks:
        ways = np.append(ways, np.zeros(rank)) + np.append(np.zeros(rank), ways)
    positive = int(ranks[values > 0].sum())
    return float(min(1.0, 2 * ways[: min(positive, ranks.sum() - positive) + 1].sum() / ways.sum()))


def delong(truth: ArrayLike, a: ArrayLike, b: ArrayLike, subjects: Sequence[str] | None = None) -> DeLong:
    """DeLong's test (1988) of two predictors' AUCs on the same cases, in the midrank form of Sun and Xu (2014, IEEE SPL 21:1389).

    With several cases per subject the variance is that of Obuchowski (1997, Biometrics 53:567), in which a subject's cases
    stay together; with one case per subject both are the same.

    Args:
        truth: (n,) 0/1; NaN = unknown, left out.
        a: (n,) scores of the first predictor: probabilities or logits.
        b: (n,) scores of the second.
        subjects: subject of each case; each its own without.
    """
    target = np.asarray(truth, np.float64)
    known = np.isfinite(target)
    positive = target[known] > 0.5
    scores = np.stack([np.asarray(a, np.float64)[known], np.asarray(b, np.float64)[known]])
    if not np.isfinite(scores).all():
        raise ParameterError("DeLong's test needs a finite score of both predictors for every case of known truth")
    m, n = int(positive.sum()), int((~positive).sum())
    estimable = min(m, n) >= MIN_PER_CLASS
    nan = float("nan")
    if min(m, n) == 0:
        return DeLong(nan, nan, nan, nan, nan, nan, nan, (nan, nan), nan, positive.size, m, estimable)
    auc, covariance = auc_covariance(positive, scores, None if subjects is None else np.asarray(subjects)[known])
    difference = float(auc[0] - auc[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    low = high = z = p = nan
    if np.isfinite(variance):
        spread = float(np.sqrt(max(variance, 0.0)))
        reach = float(stats.norm.ppf(0.975)) * spread
        low, high = difference - reach, difference + reach
        # Equal predictors have neither difference nor variance: nothing speaks against their equality.
        z = (
            difference / spread
            if spread > 1e-12
            else (0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference)))
        )
        p = float(2 * stats.norm.sf(abs(z)))
    variances = (float(covariance[0, 0]), float(covariance[1, 1]))
    return DeLong(
        float(auc[0]), float(auc[1]), difference, low, high, z, p, variances, float(covariance[0, 1]), positive.size, m, estimable
    )


def auc_covariance(positive: np.ndarray, scores: np.ndarray, subjects: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (k,) of k predictors of the same n cases and their covariance (k, k) after DeLong, clustered as in `delong`.

    The covariance is NaN where a class has fewer than two subjects.

    Args:
        positive: (n,) bool, both classes present.
        scores: (k, n) finite.
        subjects: (n,) subject of each case; each its own without.
    """
    codes = np.arange(positive.size) if subjects is None else subject_codes(subjects)[0]
    placements = _placements(scores, positive)
    auc = placements[:, positive].mean(axis=1)
    return auc, _covariance(placements, auc, positive, codes)


def mcnemar(truth: ArrayLike, predicted_a: ArrayLike, predicted_b: ArrayLike) -> McNemar:
    """McNemar's test of two yes/no predictions (n,) of the same cases; NaN truth is left out.

    Exact with fewer than `EXACT_BELOW` discordant pairs, else chi-squared with continuity correction; p is 1 without any.
    """
    target = np.asarray(truth, np.float64)
    known = np.isfinite(target)
    positive = target[known] > 0.5
    right_a, right_b = (np.asarray(side)[known].astype(bool) == positive for side in (predicted_a, predicted_b))
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(~right_a & right_b))
    exact = only_a + only_b < EXACT_BELOW
    if only_a + only_b == 0:
        return McNemar(0, 0, 0.0, 1.0, True, positive.size)
    table = [[int(np.sum(right_a & right_b)), only_a], [only_b, int(np.sum(~right_a & ~right_b))]]
    found = statsmodels_mcnemar(table, exact=exact, correction=True)
    return McNemar(only_a, only_b, float(found.statistic), float(found.pvalue), exact, positive.size)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's step-down adjustment (1979) of p values (k,); NaN stays NaN and does not count as a test."""
    values = np.asarray(p_values, np.float64)
    tested = np.isfinite(values)
    adjusted = np.full(values.shape, np.nan)
    if tested.any():
        adjusted[tested] = multipletests(values[tested], method="holm")[1]
    return adjusted


def _placements(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(k, n): for a positive, the share of negatives below it; for a negative, of positives above it; ties count half."""
    m, n = int(positive.sum()), int((~positive).sum())
    result = np.empty_like(scores)
    every = stats.rankdata(scores, axis=1)
    result[:, positive] = (every[:, positive] - stats.rankdata(scores[:, positive], axis=1)) / n
    result[:, ~positive] = 1 - (every[:, ~positive] - stats.rankdata(scores[:, ~positive], axis=1)) / m
    return result


def _covariance(placements: np.ndarray, auc: np.ndarray, positive: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(k, k) covariance of the AUCs, summing a subject's placements; NaN where a class has fewer than two subjects."""
    m, n = int(positive.sum()), int((~positive).sum())
    excess = placements - auc[:, None]
    size = int(codes.max()) + 1
    sums = {side: np.stack([np.bincount(codes, row * (positive == side), size) for row in excess]) for side in (True, False)}
    groups = {side: np.unique(codes[positive == side]).size for side in (True, False)}
    if min(groups.values()) < 2:
        return np.full((len(auc), len(auc)), np.nan)
    total = groups[True] / ((groups[True] - 1) * m**2) * sums[True] @ sums[True].T
    total = total + groups[False] / ((groups[False] - 1) * n**2) * sums[False] @ sums[False].T
    mixed = sums[True] @ sums[False].T * size / (max(size - 1, 1) * m * n)
    return np.asarray(total + mixed + mixed.T)
