"""Probabilities made right in two ways, by a temperature or by Platt's map, fitted on validation logits only.

A fitted temperature or Platt map is a new artefact that names its parent run; nothing here changes a run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from workbench.errors import ParameterError

TEMPERATURE_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class Temperature:
    """Temperature scaling (Guo et al. 2017, ICML): logits are divided by one number, which changes no ranking."""

    temperature: float
    loss_before: float
    """Mean negative log-likelihood on the validation cases, in nats."""
    loss_after: float
    n: int
    reason: str = ""
    """Why the temperature is 1 or at an end of its range; empty where it is an ordinary optimum."""

    def apply(self, logits: ArrayLike) -> np.ndarray:
        """Calibrated probabilities: (n,) logits of a binary marker -> (n,); (n, C) of classes -> (n, C)."""
        scaled = self.log_odds(logits)
        return np.asarray(expit(scaled) if scaled.ndim == 1 else softmax(scaled, axis=1))

    def log_odds(self, logits: ArrayLike) -> np.ndarray:
        """Calibrated log-odds of a binary marker, or logits of classes, in the shape of `logits`."""
        return np.asarray(logits, np.float64) / self.temperature

    def as_dict(self) -> dict[str, float | int | str]:
        """JSON-able form."""
        return asdict(self)


@dataclass(frozen=True)
class Platt:
    """Platt scaling: probability = sigmoid(slope * logit + intercept)."""

    slope: float
    intercept: float
    n: int
    reason: str = ""

    def apply(self, logits: ArrayLike) -> np.ndarray:
        """Calibrated probabilities (n,) of the logits (n,) of a binary marker."""
        return np.asarray(expit(self.log_odds(logits)))

    def log_odds(self, logits: ArrayLike) -> np.ndarray:
        """Calibrated log-odds (n,)."""
        return np.asarray(self.slope * np.asarray(logits, np.float64) + self.intercept)

    def as_dict(self) -> dict[str, float | int | str]:
        """JSON-able form."""
        return asdict(self)


def fit_temperature(logits: ArrayLike, truth: ArrayLike) -> Temperature:
    """Fit a temperature by maximum likelihood on validation cases.

    Args:
        logits: (n,) of a binary marker, or (n, C) of C classes.
        truth: (n,) 0/1, or class index 0..C-1; NaN = unknown, left out.

    Returns:
        The temperature within `TEMPERATURE_RANGE`; 1 where there is nothing to fit.

    Raises:
        ParameterError: logits that are not finite, or whose length is not that of the truth.
    """
    target, score = _known(truth, logits)
    if not target.size:
        return Temperature(1.0, float("nan"), float("nan"), 0, "no validation case of known truth")
    if len(np.unique(target)) == 1:
        return Temperature(
            1.0, float("nan"), float("nan"), target.size, "the validation cases are all of one class: left as it is"
        )

    def loss(log_temperature: float) -> float:
        scaled = score / np.exp(log_temperature)
        if scaled.ndim == 1:
            return float(-np.mean(log_expit(np.where(target.astype(bool), scaled, -scaled))))
        return float(-np.mean(log_softmax(scaled, axis=1)[np.arange(target.size), target.astype(np.intp)]))

    low, high = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-8})
    temperature, reason = float(np.exp(found.x)), ""
    if min(found.x - low, high - found.x) < 1e-4:
        side = "separate the classes" if found.x - low < 1e-4 else "tell the classes apart no better than chance"
        reason = f"the validation logits {side}: the temperature is at the end of its range"
    return Temperature(temperature, loss(0.0), float(found.fun), target.size, reason)


def fit_platt(logits: ArrayLike, truth: ArrayLike) -> Platt:
    """Fit Platt scaling on validation logits (n,) and 0/1 truth (n,); NaN truth is left out.

    The targets are Platt's (1999): (N+ + 1) / (N+ + 2) and 1 / (N- + 2) in place of 1 and 0, so that the fit is finite where the
    logits separate the classes, and slightly cautious everywhere. The identity where there is no case of one class.

    Raises:
        ParameterError: logits that are not finite, or whose length is not that of the truth.
    """
    target, score = _known(truth, logits)
    positive = int(target.sum())
    if score.ndim != 1:
        raise ParameterError("Platt scaling is for the logits (n,) of a binary marker; use a temperature for several classes")
    if positive in (0, target.size):
        return Platt(1.0, 0.0, target.size, "the validation cases are all of one class: left as it is")
    soft = np.where(target.astype(bool), (positive + 1) / (positive + 2), 1 / (target.size - positive + 2))
    scale = float(np.std(score)) or 1.0
    centred = (score - score.mean()) / scale

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        z = parameters[0] * centred + parameters[1]
        gap = expit(z) - soft
        value = -np.mean(soft * log_expit(z) + (1 - soft) * log_expit(-z))
        return float(value), np.array([np.mean(gap * centred), np.mean(gap)])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-9})
    slope = float(found.x[0]) / scale
    return Platt(slope, float(found.x[1]) - slope * float(score.mean()), target.size)


def _known(truth: ArrayLike, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Truth and logits of the cases of known truth; truth is boolean for binary logits."""
    target, score = np.asarray(truth, np.float64), np.asarray(logits, np.float64)
    if len(target) != len(score):
        raise ParameterError(f"{len(score)} logits for {len(target)} truths: expected one each")
    known = np.isfinite(target)
    target, score = target[known], score[known]
    if not np.isfinite(score).all():
        raise ParameterError(f"{int(np.sum(~np.isfinite(score)))} logits are not finite numbers: the training probably diverged")
    return (target > 0.5 if score.ndim == 1 else target), score
