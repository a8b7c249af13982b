"""Temperature and Platt scaling against scikit-learn, statsmodels and the truth they were simulated from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from workbench.errors import ParameterError
from workbench.evaluation import weighted
from workbench.evaluation.calibration import fit_platt, fit_temperature


def overconfident(n: int = 4000, factor: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `factor` times too large, and their truth."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.2, n)
    return factor * logit, (rng.random(n) < expit(logit)).astype(float)


def error(truth: np.ndarray, probability: np.ndarray) -> float:
    return weighted.calibration_error(np.ones((1, truth.size)), truth > 0.5, probability)[0]


def line(truth: np.ndarray, logit: np.ndarray) -> tuple[float, float]:
    """Slope, and intercept with the slope held at 1."""
    once, positive = np.ones((1, truth.size)), truth > 0.5
    return weighted.calibration_slope(once, positive, logit)[0][0], weighted.calibration_in_the_large(once, positive, logit)[0]


def test_temperature_finds_the_factor_and_mends_the_probabilities() -> None:
    logits, truth = overconfident()
    fit = fit_temperature(logits, truth)
    assert fit.temperature == pytest.approx(3, rel=0.08)
    # Without intercept and penalty, logistic regression's slope is the inverse temperature.
    slope = LogisticRegression(fit_intercept=False, C=np.inf).fit(logits[:, None], truth).coef_[0, 0]
    assert fit.temperature == pytest.approx(1 / slope, rel=1e-3)
    assert fit.loss_before == pytest.approx(log_loss(truth, expit(logits)))
    assert fit.loss_after == pytest.approx(log_loss(truth, fit.apply(logits)))
    assert fit.loss_after < fit.loss_before
    before, after = (error(truth, p) for p in (expit(logits), fit.apply(logits)))
    assert after < 0.03 < before
    assert line(truth, logits / fit.temperature)[0] == pytest.approx(1, abs=0.03)
    assert json.loads(json.dumps(fit.as_dict()))["n"] == 4000


def test_temperature_of_several_classes_changes_no_ranking() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (3000, 3))
    truth = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)], float)
    truth[::10] = np.nan
    fit = fit_temperature(2.5 * logits, truth)
    assert fit.temperature == pytest.approx(2.5, rel=0.08)
    assert fit.n == 2700
    probability = fit.apply(2.5 * logits)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    np.testing.assert_array_equal(probability.argmax(axis=1), logits.argmax(axis=1))


def test_platt_moves_slope_and_intercept() -> None:
    logits, truth = overconfident(seed=2)
    fit = fit_platt(logits + 2, truth)
    expected = sm.Logit(truth, sm.add_constant(logits + 2)).fit(disp=0).params
    assert (fit.intercept, fit.slope) == pytest.approx(tuple(expected), abs=0.02)
    assert line(truth, fit.slope * (logits + 2) + fit.intercept) == pytest.approx((1, 0), abs=0.02)
    np.testing.assert_allclose(fit.apply([0.0, 1.0]), expit([fit.intercept, fit.slope + fit.intercept]))


@pytest.mark.parametrize("far", [1.0, 300.0])
def test_separable_and_one_class_data_say_why_and_stay_finite(far: float) -> None:
    logits, truth = far * np.array([-2.0, -1, 1, 2]), np.array([0.0, 0, 1, 1])
    slope, in_the_large = line(truth, logits)
    assert np.isnan(slope)
    assert in_the_large == pytest.approx(0, abs=1e-6)
    assert "separate" in fit_temperature(np.array([-2.0, -1, 1, 2]), truth).reason
    platt = fit_platt(logits, truth)
    # Platt's targets are 3/4 and 1/4: as many logits of mean +-1.5 fitted to +-log 3
    assert np.isfinite(platt.slope)
    assert platt.slope > 0
    assert platt.apply(logits)[[0, 3]] == pytest.approx([0.2, 0.8], abs=0.06)
    assert np.isnan(line(np.ones(2), np.array([0.3, 0.4]))).all()
    assert fit_platt([0.3, 0.4], [1, 1]).as_dict()["slope"] == 1
    assert fit_temperature([], []).temperature == 1


def test_logits_worse_than_chance_stop_at_the_end_of_the_range() -> None:
    logits, truth = overconfident(300)
    fit = fit_temperature(-logits, truth)
    assert fit.temperature == pytest.approx(20, rel=1e-3)
    assert "no better than chance" in fit.reason


def test_refuses_what_cannot_be_fitted() -> None:
    with pytest.raises(ParameterError, match="1 logits are not finite"):
        fit_temperature([0.1, np.nan], [0, 1])
    with pytest.raises(ParameterError, match="3 logits for 2 truths"):
        fit_platt([1, 2, 3], [0, 1])
    with pytest.raises(ParameterError, match="several classes"):
        fit_platt(np.zeros((4, 3)), [0, 1, 2, 1])
