"""Tests of paired differences against SciPy, published numbers and brute force, and how often they cry wolf."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from workbench.evaluation.paired_tests import (
    EXACT_FLIPS,
    MORE_FLIPS,
    hodges_lehmann,
    paired_tests,
    sign_flip,
    signed_rank,
    smallest_p,
    too_few_to_tell,
)

RNG = np.random.default_rng(11)
WEIGHTS = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
"""Hamilton scores of nine patients, Hollander and Wolfe (1973), page 29."""


@pytest.mark.parametrize("n", [1, 2, 5, 9, 14])
def test_every_pattern_of_signs_is_counted(n: int) -> None:
    values = np.round(RNG.normal(0.4, 1, n), 1)  # with ties
    sums = np.array([np.dot(signs, values) for signs in itertools.product((-1, 1), repeat=n)])
    assert sign_flip(values[:, None])[0] == pytest.approx(np.mean(np.abs(sums) >= abs(values.sum()) - 1e-9))
    if n > 1:
        oracle = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip(values[:, None])[0] == pytest.approx(oracle.pvalue)


def test_random_patterns_agree_with_every_pattern_and_with_t() -> None:
    values = RNG.normal(0.35, 1, (EXACT_FLIPS, 1))
    exact = sign_flip(values)[0]
    many = np.vstack([values, np.full((1, 1), 1e-7)])  # one subject more that hardly counts: no longer exact
    assert sign_flip(many)[0] == pytest.approx(exact, abs=0.01)
    assert sign_flip(many)[0] == sign_flip(many)[0] != sign_flip(many, seed=1)[0]
    larger = RNG.normal(0.1, 1, (300, 3))
    assert sign_flip(larger) == pytest.approx(stats.ttest_1samp(larger, 0).pvalue, abs=0.015)
    clear = sign_flip(larger + 2)
    assert clear == pytest.approx(1 / (1 + MORE_FLIPS)), "never 0, and more patterns where few reach"
    assert sign_flip(np.zeros((40, 1)))[0] == 1
    assert np.isnan(sign_flip(np.zeros((0, 2)))).all()


def test_a_mean_of_exactly_zero_with_skewed_differences_is_left_alone() -> None:
    """Wilcoxon's test rejects it in nine of ten samples of 500: it is one of the shift."""
    skewed = np.random.default_rng(0).exponential(1, (500, 400)) - 1
    assert np.mean(sign_flip(skewed) < 0.05) < 0.08
    assert np.mean([signed_rank(column) < 0.05 for column in skewed.T[:60]]) > 0.8


def test_signed_rank_in_its_corners() -> None:
    assert signed_rank(np.zeros(5)) == 1
    assert np.isnan(signed_rank(np.array([])))
    assert signed_rank(np.array([0.2])) == 1
    ties = np.array([1.0, 1, 1, -1, 2, 2, 3, 0, 0])
    ranks = stats.rankdata(np.abs(ties[:7]))
    sums = np.array([np.sum(np.array(signs) * ranks) for signs in itertools.product((-1, 1), repeat=7)])
    assert signed_rank(ties) == pytest.approx(np.mean(np.abs(sums) >= abs(np.sum(np.sign(ties[:7]) * ranks)) - 1e-9))
    assert signed_rank(np.ones(5)) == 2 / 2**5, "no better than five differences of one sign can be"
    lone = RNG.normal(0.1, 1, 50)
    assert signed_rank(lone) == pytest.approx(stats.wilcoxon(lone, method="exact").pvalue)
    many = RNG.normal(0.1, 1, 200)
    assert signed_rank(many) == pytest.approx(stats.wilcoxon(many).pvalue)


def test_hodges_lehmann_is_that_of_the_textbook() -> None:
    found = hodges_lehmann(AFTER - WEIGHTS)
    assert (found.value, found.low, found.high) == pytest.approx((-0.46, -0.786, -0.010))


@pytest.mark.parametrize("n", [8, 80])
def test_the_interval_of_the_shift_holds_what_wilcoxon_does_not_reject(n: int) -> None:
    values = RNG.normal(0.3, 1, n)
    found = hodges_lehmann(values)
    assert found.value == pytest.approx(np.median([(a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2)]))
    inside = np.linspace(found.low + 1e-6, found.high - 1e-6, 25)
    assert min(signed_rank(values - shift) for shift in inside) > 0.049
    for shift in (found.low - 0.02, found.high + 0.02):
        assert signed_rank(values - shift) < 0.06


def test_a_shift_has_no_interval_of_zero_width_and_none_of_few() -> None:
    for values in (np.zeros(20), np.full(20, 0.3), RNG.normal(0, 1, 5)):
        found = hodges_lehmann(values)
        assert found.value == pytest.approx(np.median(values), abs=1)
        assert np.isnan([found.low, found.high]).all()
    assert np.isfinite(hodges_lehmann(RNG.normal(0, 1, 6)).low)
    assert np.isnan(hodges_lehmann(np.full(3, np.nan)).value)


def test_sessions_of_a_subject_flip_together() -> None:
    codes = np.repeat(np.arange(8), 3)
    differences = np.repeat(RNG.normal(0.5, 1, 8), 3)[:, None]
    several, once = paired_tests(differences, codes)[0], paired_tests(differences[::3], np.arange(8))[0]
    assert several == once
    gaps = differences.copy()
    gaps[:3] = np.nan
    found = paired_tests(np.hstack([differences, gaps]), codes)
    assert [one.n_subjects for one in found] == [8, 7]
    assert found[1].p == pytest.approx(paired_tests(differences[3:], codes[3:] - 1)[0].p)
    nothing = paired_tests(np.full((4, 1), np.nan), np.arange(4))[0]
    assert np.isnan([nothing.p, nothing.p_wilcoxon, nothing.shift.value, nothing.higher]).all()


def test_what_few_subjects_can_show() -> None:
    assert smallest_p(5) == sign_flip(np.ones((5, 1)))[0] == signed_rank(np.ones(5))
    assert too_few_to_tell(5, 1) == "5 subjects: p could not have come out below 0.062"
    assert too_few_to_tell(6, 1) == ""
    assert too_few_to_tell(8, 10) == "8 subjects: after Holm's correction over 10 tests p could not have come out below 0.078"
    assert too_few_to_tell(40, 100) == ""
    assert too_few_to_tell(0, 100) == ""
