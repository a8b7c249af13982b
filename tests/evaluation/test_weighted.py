"""Metrics with case weights: by hand, against scikit-learn and statsmodels, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn import metrics as reference

from workbench.evaluation import weighted
from workbench.evaluation.markers import make_sample


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth (bool) and logits whose true calibration slope is 0.7."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n)
    return rng.random(n) < expit(0.7 * logit + 0.3), logit


def test_calibration_error_by_hand() -> None:
    # two bins: (0.1, 0.3 | truths 0, 1) off by 0.3, (0.8, 0.9 | truths 1, 1) off by 0.15; half of the cases each
    sample = make_sample([0, 1, 1, 1], [0.1, 0.3, 0.8, 0.9])
    assert weighted.calibration_error(np.ones((1, 4)), sample.truth, sample.probability, 2)[0] == pytest.approx(0.225)
    assert weighted.equal_mass_bins(np.array([0.2, 0.2, 0.2, 0.7]), 2).tolist() == [0, 0, 0, 1]  # ties stay together


def test_the_calibration_line_agrees_with_statsmodels() -> None:
    truth, logit = drawn(200, 3)
    once = np.ones((1, 200))
    slope, intercept = weighted.calibration_slope(once, truth, logit)
    joint = sm.Logit(truth, sm.add_constant(logit)).fit(disp=0).params
    large = sm.GLM(truth, np.ones((200, 1)), family=sm.families.Binomial(), offset=logit).fit().params[0]
    found = (intercept[0], slope[0], weighted.calibration_in_the_large(once, truth, logit)[0])
    assert found == pytest.approx((*joint, large), abs=1e-6)


PROBABILITIES = st.lists(st.floats(0.01, 0.99).map(lambda p: round(p, 2)), min_size=8, max_size=40)


@settings(max_examples=60, deadline=None)
@given(PROBABILITIES, st.randoms(use_true_random=False))
def test_auc_sees_the_order_only_and_mirrors(values: list[float], random: object) -> None:
    probability = np.array(values)
    truth = np.array([random.random() < 0.5 for _ in values])  # type: ignore[attr-defined]
    truth[:2] = [True, False]
    ones = np.ones((1, truth.size))
    found = weighted.auc(ones, truth, probability)[0]
    assert found == pytest.approx(reference.roc_auc_score(truth, probability))
    assert weighted.auc(ones, truth, np.log(probability) * 3 + 1)[0] == found
    assert weighted.auc(ones, ~truth, -probability)[0] == pytest.approx(found)
    assert weighted.auc(ones, truth, -probability)[0] == pytest.approx(1 - found)
    # Swapping truth and prediction swaps recall and precision and leaves accuracy, F1 and MCC.
    called = probability >= 0.5
    forth, back = (weighted.confusion_metrics(weighted.counts(ones, *pair)) for pair in ((truth, called), (called, truth)))
    assert forth["recall"] == pytest.approx(back["precision"], nan_ok=True)
    for name in ("accuracy", "f1", "mcc"):
        assert forth[name] == pytest.approx(back[name])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 6), st.floats(-3, 3))
def test_calibration_line_follows_a_change_of_the_logits(seed: int, scale: float, shift: float) -> None:
    """Logits a * x + b turn slope s and intercept t into s / a and t - s b / a."""
    truth, logit = drawn(60, seed)
    ones = np.ones((1, 60))
    slope, intercept = (value[0] for value in weighted.calibration_slope(ones, truth, logit))
    changed, moved = (value[0] for value in weighted.calibration_slope(ones, truth, scale * logit + shift))
    assert changed == pytest.approx(slope / scale, rel=1e-5)
    assert moved == pytest.approx(intercept - slope * shift / scale, rel=1e-4, abs=1e-5)
    large, after = (weighted.calibration_in_the_large(ones, truth, score)[0] for score in (logit, logit + shift))
    assert after == pytest.approx(large - shift, abs=1e-7)
