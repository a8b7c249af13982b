"""Binary-classification metrics with case weights, for many sets of weights at once.

Each function takes weights (R, n), one row per resample or leave-one-out set, and returns (R,): with all weights one it is the
ordinary metric, with the counts of a bootstrap resample it is the metric of that resample. NaN means "not defined".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Floats = NDArray[np.float64]


class Counts(NamedTuple):
    """Weighted confusion counts, each (R,) or scalar."""

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats


def divide(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Elementwise quotient, NaN where the denominator is zero."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def counts(weights: Floats, truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Counts:
    """Weighted confusion counts of a yes/no prediction."""
    cells = np.stack([truth & predicted, ~truth & predicted, truth & ~predicted, ~truth & ~predicted], axis=1)
    return Counts(*(weights @ cells.astype(np.float64)).T)


def confusion_metrics(found: Counts) -> dict[str, Floats]:
    """Accuracy, balanced accuracy, precision, negative predictive value, recall, specificity, F1 and MCC.

    Where nothing is called positive, precision is NaN (likewise the negative predictive value where everything is), F1 is 0 by
    its formula 2 TP / (2 TP + FP + FN), and MCC is 0, its limit (as in scikit-learn).
    """
    tp, fp, fn, tn = found
    recall, specificity = divide(tp, tp + fn), divide(tn, tn + fp)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    mcc = divide(tp * tn - fp * fn, np.sqrt(product))
    return {
        "accuracy": divide(tp + tn, tp + fp + fn + tn),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": divide(tp, tp + fp),
        "npv": divide(tn, tn + fn),
        "recall": recall,
        "specificity": specificity,
        "f1": divide(2 * tp, 2 * tp + fp + fn),
        "mcc": np.where(product == 0, 0.0, mcc),
    }


def auc(weights: Floats, truth: NDArray[np.bool_], score: Floats) -> Floats:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    positive = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    return divide(np.sum(positive * (below + negative / 2), axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def average_precision(weights: Floats, truth: NDArray[np.bool_], score: Floats) -> Floats:
    """Mean over the positives of the precision at their score (ties share it), as in scikit-learn; NaN without a positive."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    drawn = weights[:, order]
    positive = np.add.reduceat(drawn * truth[order], starts, axis=1)
    called = np.cumsum(np.add.reduceat(drawn, starts, axis=1), axis=1)
    precision = np.divide(np.cumsum(positive, axis=1), called, out=np.zeros_like(called), where=called > 0)
    return divide(np.sum(positive * precision, axis=1), positive.sum(axis=1))


def brier(weights: Floats, truth: NDArray[np.bool_], probability: Floats) -> Floats:
    """Mean squared difference of probability and truth (Brier 1950)."""
    return divide(weights @ (probability - truth) ** 2, weights.sum(axis=1))


def brier_skill(weights: Floats, truth: NDArray[np.bool_], probability: Floats) -> Floats:
    """1 - Brier score / that of guessing the prevalence for every case: 1 perfect, 0 no better; NaN where a class is missing."""
    rate = divide(weights @ truth.astype(np.float64), weights.sum(axis=1))
    return 1 - divide(brier(weights, truth, probability), rate * (1 - rate))


def log_losses(truth: NDArray[np.bool_], logit: Floats) -> Floats:
    """Negative log-likelihood of each case (n,), in nats, from finite log-odds."""
    return np.logaddexp(0.0, np.where(truth, -logit, logit))


def equal_mass_bins(probability: Floats, bins: int) -> NDArray[np.intp]:
    """Bin 0..bins-1 of each case, so that bins hold equally many cases; equal probabilities share a bin."""
    ordered = np.sort(probability)
    rank = np.searchsorted(ordered, probability, side="left")
    return np.minimum(rank * min(bins, probability.size) // max(probability.size, 1), bins - 1)


def calibration_error(weights: Floats, truth: NDArray[np.bool_], probability: Floats, bins: int = 10) -> Floats:
    """Expected calibration error over equal-mass bins, whose edges are those of the unweighted cases.

    Sum over bins of (share of cases) x |mean probability - observed frequency| (Naeini et al. 2015, AAAI), with bins of equal
    mass in place of equal width: with tens of cases most equal-width bins are empty.
    """
    gap = weights @ (bin_members(probability, bins) * (probability - truth)[:, None])
    return divide(np.abs(gap).sum(axis=1), weights.sum(axis=1))


def bin_members(probability: Floats, bins: int = 10) -> Floats:
    """(n, bins): 1 where a case lies in one of the `equal_mass_bins`."""
    return np.equal.outer(equal_mass_bins(probability, bins), np.arange(bins)).astype(np.float64)


def separable(weights: Floats, truth: NDArray[np.bool_], score: Floats) -> NDArray[np.bool_]:
    """(R,): whether a threshold on the score splits the classes without overlap (or a class is missing): no finite slope."""
    drawn = weights > 0
    lowest = {value: np.where(drawn & (truth == value), score, np.inf).min(axis=1) for value in (True, False)}
    highest = {value: np.where(drawn & (truth == value), score, -np.inf).max(axis=1) for value in (True, False)}
    return (lowest[True] >= highest[False]) | (lowest[False] >= highest[True])


def calibration_slope(weights: Floats, truth: NDArray[np.bool_], logit: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept (R,) of the logistic regression of truth on logit, by Newton steps of bounded length.

    NaN where the data are separable (the slope is unbounded) or the steps do not converge.
    """
    if not logit.size:
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    scale = float(np.std(logit)) or 1.0
    x = (logit - logit.mean()) / scale
    intercept, slope = np.zeros(len(weights)), np.zeros(len(weights))
    total = weights.sum(axis=1)
    done = np.zeros(len(weights), bool)
    for _ in range(60):
        p = expit(intercept[:, None] + slope[:, None] * x)
        residual, variance = weights * (truth - p), weights * p * (1 - p)
        g0, g1 = residual.sum(axis=1), residual @ x
        h00, h01, h11 = variance.sum(axis=1), variance @ x, variance @ x**2
        done = np.maximum(np.abs(g0), np.abs(g1)) < 1e-9 * total
        if done.all():
            break
        determinant = h00 * h11 - h01**2
        step = np.stack([divide(h11 * g0 - h01 * g1, determinant), divide(h00 * g1 - h01 * g0, determinant)])
        step = np.nan_to_num(step, posinf=0.0, neginf=0.0) / np.maximum(1.0, np.hypot(*step) / 2.0)
        intercept, slope = intercept + step[0], slope + step[1]
    unusable = ~done | separable(weights, truth, logit)
    slope, intercept = slope / scale, intercept - slope * logit.mean() / scale
    return np.where(unusable, np.nan, slope), np.where(unusable, np.nan, intercept)


def calibration_in_the_large(weights: Floats, truth: NDArray[np.bool_], logit: Floats) -> Floats:
    """Calibration intercept (R,): the shift a for which the mean of sigmoid(logit + a) is the observed frequency.

    The logistic regression with the logit as offset, i.e. the slope held at 1 (Van Calster et al. 2019, BMC Medicine 17:230).
    Newton steps inside a bracket that shrinks. NaN where a class is missing.
    """
    if not logit.size:
        return np.full(len(weights), np.nan)
    total = weights.sum(axis=1)
    rate = divide(weights @ truth.astype(np.float64), total)
    undefined = ~((rate > 0) & (rate < 1))
    rate = np.where(undefined, 0.5, rate)
    centre = np.log(rate / (1 - rate))
    low, high = centre - logit.max(), centre - logit.min()
    shift = (low + high) / 2
    for _ in range(60):
        p = expit(shift[:, None] + logit)
        excess = rate - divide(np.sum(weights * p, axis=1), total)
        low, high = np.where(excess >= 0, shift, low), np.where(excess <= 0, shift, high)
        newton = shift + divide(excess * total, np.sum(weights * p * (1 - p), axis=1))
        moved = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        if np.nanmax(np.abs(moved - shift), initial=0.0) < 1e-11:
            break
        shift = moved
    return np.where(undefined, np.nan, shift)
