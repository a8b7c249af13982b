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
from workbench.evaluation.delong import auc_bounds, delong, mcnemar, satterthwaite
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
    spread = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    t = (found.auc_a - found.auc_b) / spread
    assert found.t == pytest.approx(t)
    # Welch's degrees of freedom: the difference of the AUCs is a mean over positives plus a mean over negatives
    of_positives, of_negatives = np.var(v10[0] - v10[1], ddof=1) / truth.sum(), np.var(v01[0] - v01[1], ddof=1) / (~truth).sum()
    freedom = spread**4 / (of_positives**2 / (truth.sum() - 1) + of_negatives**2 / ((~truth).sum() - 1))
    assert found.df == pytest.approx(freedom)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), freedom))
    # Zou and Donner's interval from those of the two AUCs and their correlation
    (a_low, a_high), (b_low, b_high) = (auc_bounds(truth, score, np.arange(90)) for score in (a, b))
    together = 2 * covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    down, up = ((found.auc_a - a_low, b_high - found.auc_b), (a_high - found.auc_a, found.auc_b - b_low))
    assert found.low == pytest.approx(found.difference - np.sqrt(down[0] ** 2 + down[1] ** 2 - together * down[0] * down[1]))
    assert found.high == pytest.approx(found.difference + np.sqrt(up[0] ** 2 + up[1] ** 2 - together * up[0] * up[1]))
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
    rejections, normal = 0, 0
    for seed in range(600):
        rng = np.random.default_rng(seed)
        truth = np.arange(60) < 12
        shared = rng.normal(size=60) + truth
        found = delong(truth, shared + rng.normal(size=60), shared + rng.normal(size=60))
        rejections += found.p < 0.05
        normal += 2 * stats.norm.sf(abs(found.t)) < 0.05
    assert 0.03 <= rejections / 600 <= 0.07
    assert rejections < normal, "with few of a class the normal distribution is too sure"


def test_delong_in_its_corners() -> None:
    truth, a, _ = scores()
    same = delong(truth, a, a)
    assert (same.difference, same.t, same.p) == (0, 0, 1)
    assert np.isnan([same.low, same.high]).all(), "nothing tells how far chance reaches"
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


def test_without_variance_a_difference_is_not_judged() -> None:
    truth = np.arange(40) < 20
    opposite = delong(truth, truth, ~truth)
    assert (opposite.auc_a, opposite.auc_b) == (1, 0)
    assert np.isnan([opposite.p, opposite.low, opposite.high]).all()


def test_two_patients_with_ten_sessions_each_are_two() -> None:
    truth, a, b = scores()
    many = np.where(truth, np.where(np.arange(90) % 2 == 0, "x", "y"), np.arange(90).astype(str))
    assert delong(truth, a, b).estimable
    assert not delong(truth, a, b, many).estimable


def test_the_difference_to_an_auc_of_one_is_held() -> None:
    """AUC 0.98 against 0.87, 15 positives: the interval of t holds the difference too seldom, since one variance is often 0."""
    truth, held, by_t = np.arange(60) < 15, 0, 0
    skills = np.sqrt(2) * stats.norm.ppf([0.98, 0.87])
    for seed in range(250):
        shared, *own = np.random.default_rng(seed).normal(size=(3, 60))
        found = delong(truth, *((shared + noise) / np.sqrt(2) + skill * truth for noise, skill in zip(own, skills, strict=True)))
        held += found.low <= 0.11 <= found.high
        by_t += abs(found.difference - 0.11) <= stats.t.ppf(0.975, found.df) * found.difference / found.t
    assert 0.92 <= held / 250 <= 0.99
    assert by_t / 250 < 0.93


def test_parts_of_equal_size_add_their_degrees_of_freedom() -> None:
    assert satterthwaite([(0.5, 14), (0.5, 14)]) == pytest.approx(28)
    assert satterthwaite([(1.0, 9), (0.0, 300)]) == pytest.approx(9)
    assert np.isnan(satterthwaite([(0.0, 9)]))


@pytest.mark.parametrize("skill", [0, 1.3, 9])
def test_the_interval_of_an_auc_solves_its_equation(skill: float) -> None:
    """15 positives and 25 negatives without ties; V by Newcombe's formula written out."""
    truth = np.arange(40) < 15
    ranks = stats.rankdata(np.random.default_rng(1).normal(size=40) + skill * truth)
    area = roc_auc_score(truth, ranks)
    low, high = auc_bounds(truth, ranks, np.arange(40).astype(str))
    m, n, star = 15, 25, 19
    found = delong(truth, ranks, ranks)

    def newcombe(t: float) -> float:
        return t * (1 - t) * (1 + star * (1 - t) / (2 - t) + star * t / (1 + t)) / (m * n)

    wider = max(1.0, found.variances[0] / newcombe(area)) if area < 1 else 1.0
    for end in (low, high) if area < 1 else (low,):
        assert (area - end) ** 2 == pytest.approx(1.959963984540054**2 * wider * newcombe(end), rel=1e-6)
    assert low < area <= high
    assert (high == 1) == (area == 1)


def test_an_auc_of_one_is_not_certain_and_a_subjects_cases_count_less_than_cases() -> None:
    truth, names = np.arange(24) < 12, np.arange(24)
    low, high = auc_bounds(truth, truth, names)
    assert 0.7 < low < 0.9
    assert high == 1
    copies = [np.repeat(side, 5) for side in (truth, truth, names)]
    assert auc_bounds(*copies) == pytest.approx((low, high)), "copies of a subject's case tell nothing"
    assert auc_bounds(*copies[:2], np.arange(120))[0] > low + 0.08
    assert np.isnan(auc_bounds(np.ones(5), np.arange(5), names[:5])).all()


@pytest.mark.parametrize(("skill", "spread"), [(0.0, 1.0), (1.5, 1.0), (3.0, 1.0), (1.5, 2.0)])
def test_coverage_of_the_auc(skill: float, spread: float) -> None:
    truth, held = np.arange(60) < 15, 0
    area = stats.norm.cdf(skill / np.hypot(1, spread))
    for seed in range(300):
        score = np.random.default_rng(seed).normal(size=60)
        low, high = auc_bounds(truth, np.where(truth, skill + spread * score, score), np.arange(60))
        held += low <= area <= high
    assert 0.92 <= held / 300 <= 0.99


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
