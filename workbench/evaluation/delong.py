"""The AUC of a marker prediction and its interval; two predictions of the same cases: DeLong's test of their AUCs, McNemar's of
their decisions.

Every difference is the first minus the second.

DeLong's test takes its p from Student's t with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2:110): the variance
is the sum of the positives' and the negatives' part, each known from so many subjects. Simulated false alarms at 5 % with 15
positives among 500: normal distribution 5.5 (7.3 with two to ten cases per subject), this 3.9 (5.8); 12 among 40: 6.8 and 5.1.
Near an AUC of 1 it is cautious (0 to 3).

The interval of one AUC is Newcombe's score interval (2006, Statistics in Medicine 25:559, method 5), which is right up to an AUC
of 1, where DeLong's variance is 0: simulated coverage of AUC 0.98 with 15 positives 97 to 98, of the logit of the AUC with
DeLong's variance 71 to 90, of the bootstrap 82. The interval of a difference is made of the two and of their correlation (Zou and
Donner 2008, Statistics in Medicine 27:1693): coverage of 0.98 against 0.87 with 15 positives among 500 is 96, by t 87.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from workbench.errors import ParameterError
from workbench.evaluation.intervals import LEVEL, MIN_PER_CLASS, subject_codes
from workbench.evaluation.proportions import UNKNOWN, Bounds, effective_number

EXACT_BELOW = 25
"""Discordant pairs below which McNemar's test is the exact binomial one."""

_NO_VARIANCE = 1e-24
"""Up to which a variance is rounding."""


@dataclass(frozen=True)
class DeLong:
    """Two correlated AUCs and the test of their difference. NaN where a class has fewer than two subjects.

    The interval is NaN where the variance is 0: predictions that rank alike, or all wrong and all right.
    """

    auc_a: float
    auc_b: float
    difference: float
    low: float
    high: float
    t: float
    df: float
    """Satterthwaite's degrees of freedom."""
    p: float
    variances: tuple[float, float]
    covariance: float
    n: int
    n_positive: int
    estimable: bool
    """Whether there are at least `MIN_PER_CLASS` subjects of each class."""


@dataclass(frozen=True)
class AucCovariance:
    """AUCs of k predictors on the same cases and how they vary."""

    auc: np.ndarray
    """(k,)"""
    covariance: np.ndarray
    """(k, k); NaN where a class has fewer than two subjects."""
    parts: tuple[tuple[np.ndarray, int], ...]
    """What the positives and the negatives contribute, (k, k), with its degrees of freedom: their subjects less one."""

    def of_difference(self, weights: ArrayLike) -> tuple[float, list[tuple[float, int]]]:
        """Variance of a weighted sum of the AUCs, and its parts with their degrees of freedom, for `satterthwaite`."""
        w = np.asarray(weights, np.float64)
        return float(w @ self.covariance @ w), [(float(w @ part @ w), freedom) for part, freedom in self.parts]


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
    names = np.arange(positive.size).astype(str) if subjects is None else np.asarray(subjects).astype(str)[known]
    m, n = int(positive.sum()), int((~positive).sum())
    estimable = min(np.unique(names[positive]).size, np.unique(names[~positive]).size) >= MIN_PER_CLASS
    nan = float("nan")
    if min(m, n) == 0:
        return DeLong(nan, nan, nan, nan, nan, nan, nan, nan, (nan, nan), nan, positive.size, m, estimable)
    found = auc_covariance(positive, scores, names)
    difference = float(found.auc[0] - found.auc[1])
    variance, parts = found.of_difference([1, -1])
    t, df, p = t_test(difference, variance, parts)
    low, high = _difference_bounds(positive, scores, names, found) if np.isfinite(p) and variance > _NO_VARIANCE else UNKNOWN
    variances = (float(found.covariance[0, 0]), float(found.covariance[1, 1]))
    first, second = map(float, found.auc)
    return DeLong(
        first, second, difference, low, high, t, df, p, variances,
        float(found.covariance[0, 1]), positive.size, m, estimable,
    )  # fmt: skip


def _difference_bounds(positive: np.ndarray, scores: np.ndarray, names: np.ndarray, found: AucCovariance) -> Bounds:
    """Interval of the first AUC minus the second, from those of both and their correlation."""
    (low_a, high_a), (low_b, high_b) = (auc_bounds(positive, score, names) for score in scores)
    a, b = found.auc
    spread = float(np.sqrt(found.covariance[0, 0] * found.covariance[1, 1]))
    together = float(np.clip(found.covariance[0, 1] / spread, -1, 1)) if spread > _NO_VARIANCE else 0.0

    def reach(of_a: float, of_b: float) -> float:
        return float(np.sqrt(max(0.0, of_a**2 + of_b**2 - 2 * together * of_a * of_b)))

    return float(a - b - reach(a - low_a, high_b - b)), float(a - b + reach(high_a - a, b - low_b))


def satterthwaite(parts: Iterable[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own; NaN where all are 0."""
    listed = [(part, freedom) for part, freedom in parts if part > 0]
    total = sum(part for part, _ in listed)
    return float(total**2 / sum(part**2 / freedom for part, freedom in listed)) if listed else float("nan")


def t_test(difference: float, variance: float, parts: Iterable[tuple[float, int]]) -> tuple[float, float, float]:
    """Student's test that a difference is 0, with Satterthwaite's degrees of freedom.

    Args:
        difference: an estimate.
        variance: its variance.
        parts: of which the variance is made, with the degrees of freedom of each.

    Returns:
        t, degrees of freedom, two-sided p. Without variance p is 1 where there is no difference either, and unknown where there
        is: nothing tells how far chance reaches.
    """
    nan = float("nan")
    if not np.isfinite(variance):
        return nan, nan, nan
    if variance <= _NO_VARIANCE:
        return (0.0, nan, 1.0) if abs(difference) < 1e-12 else (nan, nan, nan)
    t, df = difference / float(np.sqrt(variance)), satterthwaite(parts)
    return t, df, float(2 * stats.t.sf(abs(t), df))


def auc_bounds(truth: ArrayLike, score: ArrayLike, subjects: Sequence[str] | ArrayLike) -> Bounds:
    """95 % interval of one AUC: all areas t with (AUC - t)^2 <= z^2 r V(t); unknown where a class is missing.

    V is Newcombe's variance of an area t for the effective numbers of positives and negatives (`effective_numbers`), and
    r = max(1, DeLong's variance / V(AUC)): classes of unequal spread, which V does not know, widen the interval.

    Args:
        truth: (n,) bool.
        score: (n,) finite.
        subjects: subject of each case.
    """
    positive, values = np.asarray(truth, bool), np.asarray(score, np.float64)
    if not positive.any() or positive.all():
        return UNKNOWN
    m, n = effective_numbers(positive, values, subjects)
    found = auc_covariance(positive, values[None], np.asarray(subjects))
    area = float(found.auc[0])
    typical = (m + n) / 2 - 1

    def variance(t: float) -> float:
        return t * (1 - t) * (1 + typical * (1 - t) / (2 - t) + typical * t / (1 + t)) / (m * n)

    ratio = float(found.covariance[0, 0]) / variance(area) if 0 < area < 1 else 1.0
    widening = float(stats.norm.ppf((1 + LEVEL) / 2)) ** 2 * max(1.0, ratio if np.isfinite(ratio) else 1.0)

    def beyond(t: float) -> float:
        return (area - t) ** 2 - widening * variance(t)

    edge = 1e-12
    low = float(brentq(beyond, 0, min(area, 1 - edge), xtol=edge)) if area > 0 else 0.0
    high = float(brentq(beyond, max(area, edge), 1, xtol=edge)) if area < 1 else 1.0
    return low, high


def effective_numbers(positive: np.ndarray, score: np.ndarray, subjects: Sequence[str] | ArrayLike) -> tuple[float, float]:
    """How many independent positives and negatives there are, by how alike the ranks of a subject's scores are in its class."""
    names = np.asarray(subjects)
    sides = []
    for side in (positive, ~positive):
        ranks = stats.rankdata(score[side])
        sides.append(effective_number(stats.norm.ppf((ranks - 0.5) / ranks.size), names[side]))
    return sides[0], sides[1]


def auc_covariance(positive: np.ndarray, scores: np.ndarray, subjects: np.ndarray | None = None) -> AucCovariance:
    """AUCs of k predictors of the same n cases and their covariance after DeLong, clustered as in `delong`.

    Args:
        positive: (n,) bool, both classes present.
        scores: (k, n) finite.
        subjects: (n,) subject of each case; each its own without.
    """
    codes = np.arange(positive.size) if subjects is None else subject_codes(subjects)[0]
    placements = _placements(scores, positive)
    auc = placements[:, positive].mean(axis=1)
    return AucCovariance(auc, *_covariance(placements, auc, positive, codes))


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


def _covariance(
    placements: np.ndarray, auc: np.ndarray, positive: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, tuple[tuple[np.ndarray, int], ...]]:
    """(k, k) covariance of the AUCs, summing a subject's placements; and what each class contributes, with its freedom."""
    excess = placements - auc[:, None]
    size = int(codes.max()) + 1
    cases = {side: int(np.sum(positive == side)) for side in (True, False)}
    sums = {side: np.stack([np.bincount(codes, row * (positive == side), size) for row in excess]) for side in (True, False)}
    groups = {side: np.unique(codes[positive == side]).size for side in (True, False)}
    if min(groups.values()) < 2:
        return np.full((len(auc), len(auc)), np.nan), ()
    parts = tuple(
        (groups[side] / ((groups[side] - 1) * cases[side] ** 2) * sums[side] @ sums[side].T, groups[side] - 1)
        for side in (True, False)
    )
    mixed = sums[True] @ sums[False].T * size / (max(size - 1, 1) * cases[True] * cases[False])
    return np.asarray(parts[0][0] + parts[1][0] + mixed + mixed.T), parts
