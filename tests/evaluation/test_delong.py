"""DeLong's and McNemar's tests against their definitions, statsmodels, the bootstrap and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from workbench.errors import ParameterError
from workbench.evaluation import weighted
from workbench.evaluation.delong import delong, mcnemar
from workbench.evaluation.intervals import resample_weights


def scores(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    shared = rng.normal(size=n) + 1.2 * truth
    return truth, np.round(shared + rng.normal(size=n), 1), np.round(shared + 0.7 * rng.normal(size=n), 1)  # with ties


def placements_by_counting(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components straight from their definition, pair by pair."""
    positive, negative = score[truth], score[~truth]
    wins = np.array([[(p > q) + 0.5 * (p == q) for q in negative] for p in positive])
    return wins.mean(axis=1), wins.mean(axis=0)


def test_delong_agrees_with_its_definition() -> None:
    truth, a, b = scores()
    v10, v01 = (np.stack(pair) for pair in zip(placements_by_counting(truth, a), placements_by_counting(truth, b), strict=True))
    covariance = np.cov(v10) / truth.sum() + np.cov(v01) / (~truth).sum()
    found = delong(truth, a, b)
    assert (found.auc_a, found.auc_b) == pytest.approx((roc_auc_score(truth, a), roc_auc_score(truth, b)))
    assert found.variances == pytest.approx(tuple(np.diag(covariance)))
    assert found.covariance == pytest.approx(covariance[0, 1])
    z = (found.auc_a - found.auc_b) / np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.z == pytest.approx(z)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert found.low < found.difference < found.high
    assert found.estimable


@pytest.mark.parametrize("cases", [1, 3])
def test_delong_agrees_with_the_bootstrap_of_subjects(cases: int) -> None:
    truth, a, b = (np.repeat(side, cases) for side in scores(200, seed=1))
    subjects = np.repeat(np.arange(200), cases).astype(str)
    noise = np.random.default_rng(2).normal(0, 0.3, truth.size)
    a, b = a + noise, b - noise
    found = delong(truth, a, b, subjects)
    weights = resample_weights(subjects, 2000)
    draws = weighted.auc(weights, truth, a) - weighted.auc(weights, truth, b)
    spread = np.sqrt(sum(found.variances) - 2 * found.covariance)
    assert spread == pytest.approx(draws.std(), rel=0.08)
    if cases > 1:  # taking the cases for independent patients would claim too much
        naive = delong(truth, a, b)
        assert np.sqrt(sum(naive.variances) - 2 * naive.covariance) < 0.75 * spread


def test_subjects_with_cases_of_both_classes_are_kept_together_too() -> None:
    """A lesion and a healthy case of each patient with a common offset: the offsets cancel within a patient."""
    rng = np.random.default_rng(5)
    subjects = np.repeat(np.arange(150), 2).astype(str)
    truth = np.tile([True, False], 150)
    offset = np.repeat(rng.normal(0, 2, 150), 2)
    a = offset + 0.8 * truth + rng.normal(0, 0.4, 300)
    b = rng.normal(size=300)
    found = delong(truth, a, b, subjects)
    draws = weighted.auc(resample_weights(subjects, 2000), truth, a)
    assert np.sqrt(found.variances[0]) == pytest.approx(draws.std(), rel=0.1)
    assert np.sqrt(delong(truth, a, b).variances[0]) > 1.5 * draws.std()


def test_delong_keeps_its_level_when_nothing_differs() -> None:
    rejections = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        truth = np.arange(60) < 25
        shared = rng.normal(size=60) + truth
        rejections += delong(truth, shared + rng.normal(size=60), shared + rng.normal(size=60)).p < 0.05
    assert 0.02 <= rejections / 400 <= 0.09


def test_delong_in_its_corners() -> None:
    truth, a, _ = scores()
    same = delong(truth, a, a)
    assert (same.difference, same.z, same.p) == (0, 0, 1)
    alone = delong(np.ones(5), np.arange(5), np.arange(5))
    assert np.isnan([alone.auc_a, alone.p]).all()
    assert not alone.estimable
    few = delong([1, 0, 0], [0.9, 0.2, 0.3], [0.8, 0.3, 0.4])
    assert few.auc_a == 1
    assert np.isnan(few.p)
    gap = delong(np.r_[truth, np.nan], np.r_[a, np.nan], np.r_[a, 3.0])
    assert gap.n == 90
    with pytest.raises(ParameterError, match="finite score"):
        delong(truth, np.where(np.arange(90) == 2, np.nan, a), a)
    monotone = delong(truth, expit(a), a)
    assert (monotone.difference, monotone.p) == (0, 1)


@pytest.mark.parametrize(("only_a", "only_b"), [(3, 9), (30, 12), (0, 5), (7, 7)])
def test_mcnemar_agrees_with_statsmodels_and_the_binomial(only_a: int, only_b: int) -> None:
    truth = np.ones(only_a + only_b + 20)
    a = np.r_[np.ones(only_a), np.zeros(only_b), np.ones(15), np.zeros(5)]
    b = np.r_[np.zeros(only_a), np.ones(only_b), np.ones(15), np.zeros(5)]
    found = mcnemar(np.r_[truth, np.nan], np.r_[a, 0], np.r_[b, 1])
    assert (found.only_a, found.only_b, found.n) == (only_a, only_b, truth.size)
    assert found.exact == (only_a + only_b < 25)
    assert found.p == pytest.approx(statsmodels_mcnemar([[15, only_a], [only_b, 5]], exact=found.exact).pvalue)
    if found.exact:
        assert found.p == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)


def test_mcnemar_without_a_discordant_pair_finds_nothing() -> None:
    found = mcnemar([1, 0, 1], [1, 0, 0], [1, 0, 0])
    assert (found.only_a, found.only_b, found.p) == (0, 0, 1)
