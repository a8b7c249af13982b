"""How far probabilities can be believed: intervals of scores and of the calibration line in closed form, and ECE against chance.

Scores (Brier, log loss, Brier skill) have a jackknife over subjects on the logarithm of the loss, with Student's t: losses are
skewed, and a loss is never below 0. Where no error was seen, unseen ones are allowed for. Simulated coverage with 10 to 40
positives among 30 to 500: 92 to 98 (bootstrap 86 to 99).

Slope and intercept have Wald's interval; their variance is that of the logistic model times the design effect of the subjects'
residuals (`proportions`), or the robust one over subjects (Liang and Zeger 1986, Biometrika 73:13), whichever is larger: the one
is too small where the model is wrong, the other with few subjects. Simulated coverage 93 to 98.

ECE is above 0 for a calibrated model too, by chance alone: about 0.10 with 100 cases. So its interval says nothing; what counts
is its excess over what a calibrated model shows at the same probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit

from workbench.evaluation import weighted
from workbench.evaluation.intervals import LEVEL, RESAMPLES, Floats, bounds, in_chunks, resampled, subject_codes
from workbench.evaluation.proportions import UNKNOWN, Bounds, effective_number, wilson
from workbench.seeding import stream

_Z = float(stats.norm.ppf((1 + LEVEL) / 2))


def loss_bounds(losses: ArrayLike, if_wrong: ArrayLike, subjects: Sequence[str] | ArrayLike) -> Bounds:
    """95 % interval of a mean loss, 0 or more per case (n,).

    Args:
        losses: of each case.
        if_wrong: what each case's loss would be with the other truth. Where no case lies on the wrong side (no loss is larger
            than this), errors that were not seen are allowed for: the upper bound is at least the mean with as many errors as
            Wilson's interval of none among the subjects holds.
        subjects: subject of each case.

    Returns:
        Unknown where every truth gives the same loss (all probabilities 0.5).
    """
    each, other = np.asarray(losses, np.float64), np.asarray(if_wrong, np.float64)
    codes, count = subject_codes(subjects)
    if count < 2:
        return UNKNOWN
    value = float(each.mean())
    low, high = _log_bounds(value, _left_out(each, codes))
    if not (each > other).any():
        unseen = value + _unseen(codes) * float(np.mean(other - each))
        low, high = (low, max(high, unseen)) if np.isfinite(low) else (float(each.min()), unseen)
    return (low, high) if high - low > 1e-9 else UNKNOWN


def skill_bounds(truth: ArrayLike, probability: ArrayLike, subjects: Sequence[str] | ArrayLike) -> Bounds:
    """95 % interval of the Brier skill score (`weighted.brier_skill`), from that of the loss relative to guessing."""
    y, p = np.asarray(truth, np.float64), np.asarray(probability, np.float64)
    codes, count = subject_codes(subjects)
    guessed = float(y.mean() * (1 - y.mean()))
    if count < 2 or not guessed > 0:
        return UNKNOWN
    each, rate = (p - y) ** 2, _left_out(y, codes)
    low, high = _log_bounds(float(each.mean()) / guessed, weighted.divide(_left_out(each, codes), rate * (1 - rate)))
    plain = np.array(loss_bounds(each, (p - (1 - y)) ** 2, codes)) / guessed
    if not np.isfinite(low):
        low, high = plain
    elif not (each > (p - (1 - y)) ** 2).any():
        high = max(high, plain[1])
    return 1 - high, 1 - low


def _unseen(codes: NDArray[np.intp]) -> float:
    """Share of errors that subjects without one may still have."""
    return wilson(0.0, effective_number(np.zeros(codes.size), codes, informative=0))[1]


def _left_out(values: Floats, codes: NDArray[np.intp]) -> Floats:
    """(S,) mean of the values without each subject in turn."""
    return np.asarray(weighted.divide(values.sum() - np.bincount(codes, values), values.size - np.bincount(codes)))


def _log_bounds(value: float, left_out: Floats) -> Bounds:
    """Interval of a positive statistic from its values without each subject, on the logarithmic scale, by Student's t."""
    if not (value > 0 and np.isfinite(left_out).all() and (left_out > 0).all()):
        return UNKNOWN
    logs, count = np.log(left_out), left_out.size
    spread = float(np.sqrt((count - 1) * np.var(logs)))
    if spread < 1e-12:
        return UNKNOWN
    reach = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * spread
    return value * float(np.exp(-reach)), value * float(np.exp(reach))


def line_bounds(truth: ArrayLike, logit: ArrayLike, subjects: Sequence[str] | ArrayLike) -> tuple[Bounds, Bounds]:
    """95 % intervals of the calibration slope and of the calibration intercept (with the slope held at 1).

    Each unknown where its value is: `weighted.calibration_slope`, `weighted.calibration_in_the_large`.

    Args:
        truth: (n,) bool.
        logit: (n,) finite log-odds.
        subjects: subject of each case.
    """
    y, x = np.asarray(truth, bool), np.asarray(logit, np.float64)
    codes = subject_codes(subjects)[0]
    once = np.ones((1, y.size))
    slope, joint = (float(found[0]) for found in weighted.calibration_slope(once, y, x))
    shift = float(weighted.calibration_in_the_large(once, y, x)[0])
    design = np.stack([np.ones_like(x), x], axis=1)
    of_slope = _wald(slope, design, y - expit(joint + slope * x), codes)
    of_shift = _wald(shift, design[:, :1], y - expit(shift + x), codes)
    return of_slope, of_shift


def _wald(value: float, design: Floats, residual: Floats, codes: NDArray[np.intp]) -> Bounds:
    """Interval of the last coefficient of a logistic regression, whose residuals are truth minus fitted probability."""
    if not np.isfinite(value):
        return UNKNOWN
    spread = float(np.sqrt(line_covariance(design, residual, codes)[-1, -1]))
    return value - _Z * spread, value + _Z * spread


def line_covariance(design: Floats, residual: Floats, subjects: Sequence[str] | ArrayLike) -> Floats:
    """Covariance (k, k) of the coefficients of a logistic regression over subjects.

    That of the model times the design effect of the residuals, or the robust one, whichever gives the last coefficient more.

    Args:
        design: (n, k).
        residual: (n,) truth minus fitted probability.
        subjects: subject of each case.
    """
    codes, count = subject_codes(subjects)
    fitted = np.abs(residual)
    inverse = np.linalg.pinv(design.T @ (design * (fitted * (1 - fitted))[:, None]))
    scores = np.stack([np.bincount(codes, column * residual, count) for column in design.T], axis=1)
    robust = inverse @ (scores.T @ scores) @ inverse * count / max(count - 1, 1)
    model = inverse * residual.size / effective_number(residual, codes)
    return np.asarray(robust if robust[-1, -1] > model[-1, -1] else model)


@dataclass(frozen=True)
class CalibrationError:
    """ECE beside what a calibrated model would show."""

    value: float
    calibrated: float
    """Mean ECE of models that are calibrated at these probabilities."""
    calibrated_range: Bounds
    """Between which 95 % of those lie; unknown where all agree, i.e. all probabilities are 0 or 1."""
    excess: float
    excess_bounds: Bounds
    """95 % interval of the expected ECE of samples of this size less that of a calibrated model."""


def calibration_error(
    truth: ArrayLike,
    probability: ArrayLike,
    subjects: Sequence[str] | ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CalibrationError:
    """ECE (`weighted.calibration_error`), what chance makes of it, and the rest.

    Truths of a calibrated model are drawn from the probabilities, one number in [0, 1] per subject for all its cases: a patient's
    marker is the same at every session. The interval of the excess is the percentile interval over resampled subjects, moved by
    the bootstrap's bias, which every resample adds to an ECE; where no error was seen, unseen ones are allowed for.

    Args:
        truth: (n,) bool.
        probability: (n,) in [0, 1].
        subjects: subject of each case.
        resamples: of subjects, and draws of truths.
        seed: same seed, same numbers.
    """
    y, p = np.asarray(truth, bool), np.asarray(probability, np.float64)
    codes, count = subject_codes(subjects)
    value = float(weighted.calibration_error(np.ones((1, y.size)), y, p)[0])
    chance, member = stream(seed, "calibrated"), weighted.bin_members(p)
    drawn = np.concatenate(
        [
            np.abs(((chance.random((size, count))[:, codes] < p) - p) @ member).sum(axis=1) / y.size
            for size in in_chunks(resamples, y.size)
        ]
    )
    low, high = (float(end) for end in np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    expected = float(drawn.mean())
    draws = resampled(lambda weights: weighted.calibration_error(weights, y, p), subjects, resamples, seed)
    below, above = (end - expected for end in bounds(value, draws, method="recentred", n_subjects=count))
    if not (np.abs(p - y) > 0.5).any():
        above = max(above, value - expected + _unseen(codes) * float(np.mean(np.abs(2 * p - 1))))
    chance_range = (low, high) if low < high else UNKNOWN
    return CalibrationError(value, expected, chance_range, value - expected, (below, above))
