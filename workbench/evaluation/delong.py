"""Two marker predictions of the same cases: DeLong's test of their AUCs, McNemar's of their decisions.

Every difference is the first minus the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from workbench.errors import ParameterError
from workbench.evaluation.intervals import subject_codes
from workbench.evaluation.markers import MIN_PER_CLASS

EXACT_BELOW = 25
"""Discordant pairs below which McNemar's test is the exact binomial one."""


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
