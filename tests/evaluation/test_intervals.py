"""Subject bootstrap: against SciPy's, by symmetry, and in what it must refuse to claim."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from workbench.evaluation import intervals
from workbench.evaluation.intervals import (
    Interval,
    bounds,
    difference_intervals,
    leave_out_weights,
    mean_interval,
    mean_intervals,
    resample_weights,
    tail_levels,
    weighted_interval,
)

DICE = np.random.default_rng(3).beta(6, 1.5, 40)
EACH = np.array([f"s{index:03d}" for index in range(40)])
PAIRS = np.array([f"s{index // 2:03d}" for index in range(40)])


@pytest.mark.parametrize("statistic", [np.mean, np.var, np.median])
def test_bca_equals_scipys_on_the_same_resamples(statistic: Callable[..., float]) -> None:
    """Skewed values and a biased statistic: without either correction the bounds are far off."""
    values = np.random.default_rng(0).lognormal(0, 1, 31)
    theirs = stats.bootstrap((values,), statistic, n_resamples=2000, method="BCa", rng=np.random.default_rng(1))
    jackknife = np.array([statistic(np.delete(values, index)) for index in range(31)])
    ours = bounds(float(statistic(values)), theirs.bootstrap_distribution, jackknife)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)


def test_our_resamples_are_as_good_as_scipys() -> None:
    ours = bounds(DICE.mean(), resample_weights(EACH, 20000, 0) @ DICE / 40, leave_out_weights(EACH) @ DICE / 39)
    theirs = stats.bootstrap((DICE,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(1)).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.15 * DICE.std() / np.sqrt(40))


def test_tails_are_those_of_student_for_few_subjects_and_the_plain_ones_for_many() -> None:
    assert tail_levels() == pytest.approx([0.025, 0.975])
    assert tail_levels(100000) == pytest.approx([0.025, 0.975], abs=1e-5)
    few = tail_levels(8)
    assert few[0] == pytest.approx(stats.norm.cdf(-np.sqrt(8 / 7) * stats.t.ppf(0.975, 7)))
    assert few.sum() == pytest.approx(1)


def test_normal_means_get_about_students_interval() -> None:
    values = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    found = mean_interval(values, np.arange(12).astype(str), resamples=20000)
    half = stats.t.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12)
    assert (found.low, found.high) == pytest.approx((-half, half), rel=0.06)


def test_subjects_are_drawn_whole() -> None:
    weights = resample_weights(PAIRS, 50, 0)
    assert weights.sum(axis=1) == pytest.approx(np.full(50, 40))
    np.testing.assert_array_equal(weights[:, 0::2], weights[:, 1::2])
    np.testing.assert_array_equal(leave_out_weights(PAIRS).sum(axis=1), 38)


def test_repeating_every_case_of_a_subject_narrows_nothing() -> None:
    once = mean_interval(DICE, EACH)
    thrice = mean_interval(np.repeat(DICE, 3), np.repeat(EACH, 3))
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))
    assert (once.n, once.n_subjects, thrice.n, thrice.n_subjects) == (40, 40, 120, 40)


def test_same_seed_same_interval_in_any_order_of_the_rows() -> None:
    order = np.random.default_rng(0).permutation(40)
    first, shuffled, other = (
        mean_interval(DICE, PAIRS),
        mean_interval(DICE[order], PAIRS[order]),
        mean_interval(DICE, PAIRS, seed=1),
    )
    assert (first.low, first.high) == pytest.approx((shuffled.low, shuffled.high), rel=1e-12)
    assert (first.low, first.high) != (other.low, other.high)


def test_columns_together_equal_columns_alone() -> None:
    values = np.stack([DICE, np.where(np.arange(40) % 3 == 0, np.nan, DICE), np.full(40, np.nan), np.full(40, 0.7)], axis=1)
    together = mean_intervals(values, PAIRS)
    for column, found in enumerate(together[:2]):
        alone = mean_interval(values[:, column], PAIRS)
        assert (found.value, found.low, found.high, found.n) == pytest.approx((alone.value, alone.low, alone.high, alone.n))
    assert together[1].n == 26
    assert together[1].value == pytest.approx(np.nanmean(values[:, 1]))
    assert together[2].n == 0
    assert not together[2].estimable
    assert together[3].value == pytest.approx(0.7)
    assert together[3].reason == "resamples do not tell", "equal values do not make a mean certain"


def test_differences_have_students_interval_by_subject() -> None:
    change = DICE - 0.7
    found = difference_intervals(np.stack([change, np.where(np.arange(40) < 4, np.nan, change), np.full(40, 0.1)], axis=1), EACH)
    for one, values in zip(found, (change, change[4:]), strict=False):
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        assert (one.low, one.high) == pytest.approx((expected.low, expected.high))
    assert found[2].value == pytest.approx(0.1)
    assert found[2].reason, "equal differences do not make their mean certain"
    paired = difference_intervals(change[:, None], PAIRS)[0]
    means = change.reshape(20, 2).mean(axis=1)
    assert (paired.low, paired.high) == pytest.approx(tuple(stats.ttest_1samp(means, 0).confidence_interval()))


@pytest.mark.parametrize("values", [np.ones(12), np.zeros(12), np.full(12, 0.9), np.r_[np.ones(11), 0]])
def test_a_mean_of_bounded_values_has_an_interval_of_some_width_within_the_limits(values: np.ndarray) -> None:
    found = mean_interval(values, EACH[:12], (0, 1))
    assert 0 <= found.low < found.high <= 1
    assert found.low <= found.value <= found.high or values.min() == values.max(), found
    assert 0.02 < found.high - found.low < 0.6
    scaled = mean_interval(5 * values - 1, EACH[:12], (-1, 4))
    assert (scaled.low, scaled.high) == pytest.approx((5 * found.low - 1, 5 * found.high - 1))


def test_many_bounded_values_have_students_interval_on_the_logit_scale() -> None:
    values = np.random.default_rng(5).beta(8, 2, 4000)
    found = mean_interval(values, np.arange(4000).astype(str), (0, 1))
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=2e-4)


def test_rare_misses_that_were_not_seen_are_not_excluded() -> None:
    """Of 15 subjects in whom a region is missed in 3 %, two thirds of the samples show no miss."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(300):
        values = np.where(rng.random(15) < 0.03, 0, rng.beta(8, 1.6, 15))
        found = mean_interval(values, EACH[:15], (0, 1))
        held += found.low <= 0.97 * 8 / 9.6 <= found.high
    assert 0.92 < held / 300 < 0.995


def test_undefined_values_do_not_change_the_defined_ones() -> None:
    some = np.where(np.arange(40) < 4, np.nan, DICE)
    found = mean_interval(some, EACH, resamples=4000)
    rest = mean_interval(DICE[4:], EACH[4:], resamples=4000)
    assert found.value == pytest.approx(rest.value)
    assert (found.low, found.high) == pytest.approx((rest.low, rest.high), abs=0.01)


def test_a_single_subject_has_no_interval() -> None:
    found = mean_interval([0.8, 0.9], ["a", "a"])
    assert found.value == pytest.approx(0.85)
    assert np.isnan([found.low, found.high]).all()
    assert found.n_subjects == 1
    assert not mean_interval([], []).estimable


def test_any_statistic_of_the_repeated_rows_is_the_weighted_one() -> None:
    def mean_of_rows(weights: np.ndarray) -> np.ndarray:
        return np.array([DICE[np.repeat(np.arange(40), line.astype(int))].mean() for line in weights])

    general = weighted_interval(mean_of_rows, PAIRS, resamples=200)
    matrix = weighted_interval(lambda weights: weights @ DICE / weights.sum(axis=1), PAIRS, resamples=200)
    assert (general.value, general.low, general.high) == pytest.approx((matrix.value, matrix.low, matrix.high))


def test_bounds_are_unknown_where_many_resamples_do_not_define_the_statistic() -> None:
    draws = np.linspace(0, 1, 1000)
    draws[:60] = np.nan
    assert np.isnan(bounds(0.5, draws, method="percentile")).all()
    draws[:20] = 0.5
    assert np.isfinite(bounds(0.5, draws, method="percentile")).all()
    assert np.isnan(bounds(np.nan, draws)).all()


def test_recentred_interval_keeps_its_width_and_holds_the_value() -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.02, 4000)
    plain, moved = bounds(0.1, draws, method="percentile"), bounds(0.1, draws, method="recentred")
    assert plain[0] > 0.1
    assert moved[0] < 0.1 < moved[1]
    assert moved[1] - moved[0] == pytest.approx(plain[1] - plain[0])


@pytest.mark.parametrize("count", [1, 2, 5, 6, 14, 15])
def test_few_subjects_have_no_interval_or_a_rough_one(count: int) -> None:
    names = np.repeat(np.arange(count), 2).astype(str)
    for found in (mean_interval(DICE[: 2 * count], names), weighted_interval(lambda w: w @ DICE[: 2 * count] / w.sum(1), names)):
        assert found.value == pytest.approx(DICE[: 2 * count].mean())
        assert np.isfinite([found.low, found.high]).all() == (count >= 6)
        assert found.rough == (6 <= count < 15)
        assert (found.reason == "") == (count >= 6)
        assert ("no interval: fewer than 6 subjects" in str(found)) == (count < 6)
        assert (f"(rough, {count} subjects: " in str(found)) == found.rough
    assert np.isnan(bounds(0.5, DICE, DICE[:5], n_subjects=5)).all()


def test_bounds_of_an_older_file_are_dropped_where_subjects_are_few() -> None:
    old = Interval(0.8, 0.7, 0.9, 12, 5)
    assert np.isnan([old.low, old.high]).all()
    assert not old.rough
    assert not Interval(0.8, 0.7, 0.9, 12).reason, "a file that does not tell its subjects keeps its bounds"


def test_text_says_the_number_its_interval_and_its_n() -> None:
    assert str(Interval(0.81234, 0.7, 0.9, 24)) == "0.812 (0.700 to 0.900, n = 24)"
    assert str(Interval.unknown(7)) == "not estimable (n = 7)"


def test_coverage_of_the_mean_dice() -> None:
    """The nominal 95 % interval of 15 subjects covers the true mean about that often, and more often than without widening."""
    rng = np.random.default_rng(0)
    names = np.arange(15).astype(str)
    draws, jack = resample_weights(names), leave_out_weights(names)
    truth, hits, plain = 8 / 9.5, 0, 0
    for _ in range(600):
        x = rng.beta(8, 1.5, 15)
        for widened in (True, False):
            low, high = bounds(x.mean(), draws @ x / 15, jack @ x / 14, n_subjects=15 if widened else None)
            hits += widened and low <= truth <= high
            plain += (not widened) and low <= truth <= high
    assert 0.89 <= hits / 600 <= 0.98
    assert hits >= plain


def test_the_statistics_reach_neither_torch_nor_monai() -> None:
    names = [
        "intervals",
        "weighted",
        "markers",
        "curves",
        "thresholds",
        "calibration",
        "comparison",
        "delong",
        "run_comparison",
        "summaries",
    ]
    code = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module('workbench.evaluation.' + name)\n"
        "sys.exit(any(name.split('.')[0] in {'torch', 'monai'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert intervals.LEVEL == 0.95


def test_many_subjects_are_left_out_in_groups_for_about_the_same_acceleration() -> None:
    values = np.random.default_rng(0).lognormal(0, 1, 600)
    names = np.array([f"{index:04d}" for index in range(600)])
    draws = resample_weights(names, 4000) @ values / 600
    found = []
    for groups in (600, 100):
        weights = leave_out_weights(names, groups)
        assert len(weights) == groups
        assert weights.sum() == (groups - 1) * 600
        found.append(bounds(values.mean(), draws, weights @ values / weights.sum(axis=1)))
    assert found[0] == pytest.approx(found[1], abs=0.06 * (found[0][1] - found[0][0]))


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.003, 0.02, 0.5, 0.98, 0.9999, 1.0])
@pytest.mark.parametrize("subjects", [6, 15, 100])
def test_bounds_of_a_mean_hold_the_mean_also_beside_its_limits(level: float, subjects: int) -> None:
    values = np.clip(level + np.linspace(-0.003, 0.003, subjects), 0, 1)
    (found,) = mean_intervals(values[:, None], [f"s{k:03}" for k in range(subjects)], [(0.0, 1.0)])
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
