"""Wilson's interval and what is made of it: against statsmodels, by hand, by counting, and never of no width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef
from statsmodels.stats.proportion import proportion_confint

from workbench.evaluation import weighted
from workbench.evaluation.proportions import (
    decision_bounds,
    effective_number,
    from_parts,
    intraclass_correlation,
    median_interval,
    proportion,
    share_bounds,
    wilson,
)


def names(n: int, per: int = 1) -> np.ndarray:
    return (np.arange(n) // per).astype(str)


@pytest.mark.parametrize(("k", "n"), [(10, 10), (0, 10), (7, 30), (29, 30)])
def test_one_case_per_subject_has_the_plain_interval(k: int, n: int) -> None:
    found = proportion(np.arange(n) < k, names(n))
    assert (found.low, found.high) == pytest.approx(proportion_confint(k, n, method="wilson"))
    assert (found.value, found.n, found.n_subjects) == (k / n, n, n)


def test_ten_of_ten_by_wilsons_formula() -> None:
    z2 = 1.959963984540054**2
    assert share_bounds(np.ones(10), names(10)) == pytest.approx((1 - z2 / (10 + z2), 1))


def test_correlation_and_effective_number_by_hand() -> None:
    codes = np.array([0, 0, 1, 1, 2, 2])
    alike, opposite, half = [1, 1, 0, 0, 1, 1], [1, 0, 1, 0, 1, 0], [1, 1, 0, 0, 1, 0]
    assert intraclass_correlation(alike, codes) == 1
    assert intraclass_correlation(opposite, codes) == 0
    # means 1, 0, 1/2 about 1/2: between = 2 (1/4 + 1/4) / 2 = 1/2; within = 1/2 / 3 = 1/6; (1/2 - 1/6) / (1/2 + 1/6) = 1/2
    assert intraclass_correlation(half, codes) == pytest.approx(0.5)
    assert effective_number(half, codes) == pytest.approx(6 / 1.5)
    assert effective_number(half, codes, informative=1) == pytest.approx(6 / 1.75), "drawn half-way to 1"
    assert effective_number(np.ones(6), codes, informative=0) == 3, "without an error a subject counts once"
    assert effective_number(half, names(6)) == 6


def test_a_subjects_cases_that_agree_count_once_and_those_that_do_not_count_each() -> None:
    rng = np.random.default_rng(0)
    once = rng.random(60) < 0.8
    alike = share_bounds(np.repeat(once, 4), names(240, 4))
    assert alike == pytest.approx(share_bounds(once, names(60)), abs=0.002)
    free = rng.random(240) < 0.8
    wide, narrow = (np.diff(share_bounds(free, of))[0] for of in (names(240, 4), names(240)))
    assert narrow < wide < 1.25 * narrow


def test_none_of_none_is_unknown_and_few_subjects_have_no_interval() -> None:
    assert np.isnan(share_bounds([], [])).all()
    assert np.isnan(wilson(0.5, 0)).all()
    assert not proportion([], []).estimable
    few = proportion([1, 1, 0, 1, 1], names(5))
    assert few.value == 0.8
    assert np.isnan([few.low, few.high]).all()


def test_parts_are_added_in_squares() -> None:
    assert from_parts(0.5, (0.2, 0.7), (0.9, 0.1)) == pytest.approx((0.5 - 0.5, 0.5 + np.hypot(0.2, 0.4)))


def test_every_decision_metric_has_its_interval_around_its_value() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(80) < 0.4
    called = np.where(rng.random(80) < 0.2, ~truth, truth)
    found = decision_bounds(truth, called, names(80))
    values = weighted.confusion_metrics(weighted.counts(np.ones((1, 80)), truth, called))
    assert set(found) == set(values)
    for metric, (low, high) in found.items():
        assert low < values[metric][0] < high, metric
    both, tp = truth | called, int((truth & called).sum())
    low, high = proportion_confint(tp, both.sum(), method="wilson")
    assert found["f1"] == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    assert found["precision"] == pytest.approx(proportion_confint(tp, called.sum(), method="wilson"))
    assert found["npv"] == pytest.approx(proportion_confint((~truth & ~called).sum(), (~called).sum(), method="wilson"))
    assert values["mcc"][0] == pytest.approx(matthews_corrcoef(truth, called))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.sampled_from(["perfect", "wrong", "all", "none", "random"]), st.integers(0, 999))
def test_no_interval_is_of_no_width_and_none_leaves_its_value_out(n: int, per: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < rng.random()
    calls = {"perfect": truth, "wrong": ~truth, "all": np.ones(n, bool), "none": np.zeros(n, bool), "random": rng.random(n) < 0.5}
    values = weighted.confusion_metrics(weighted.counts(np.ones((1, n)), truth, calls[kind]))
    for metric, (low, high) in decision_bounds(truth, calls[kind], names(n, per)).items():
        value = values[metric][0]
        if np.isfinite([low, high]).all():
            assert high - low > 1e-3, metric
            assert low - 1e-9 <= value <= high + 1e-9, metric
        else:
            assert metric == "mcc" or np.isnan(value), metric


def test_coverage_of_a_share_of_sessions() -> None:
    """20 subjects of two to six sessions, alike within a subject: about 95 % hold the true share; by case far fewer."""
    rng = np.random.default_rng(3)
    held, naive = 0, 0
    for _ in range(400):
        own = rng.beta(0.85, 0.15, 20)  # share 0.85, correlation 1 / (1 + 0.85 + 0.15) = 0.5
        subjects = np.repeat(np.arange(20), rng.integers(2, 7, 20))
        hits = rng.random(subjects.size) < own[subjects]
        for by_case in (False, True):
            low, high = share_bounds(hits, names(hits.size) if by_case else subjects)
            inside = low <= 0.85 <= high
            naive, held = naive + (by_case and inside), held + (not by_case and inside)
    assert 0.92 <= held / 400 <= 0.99
    assert naive / 400 < 0.88


def test_the_median_has_the_interval_of_order_statistics() -> None:
    values = np.random.default_rng(1).lognormal(1, 1, 30)
    found = median_interval(values, np.arange(30).astype(str))
    ordered = np.sort(values)
    assert found.value == pytest.approx(np.median(values))
    assert (found.low, found.high) == (ordered[9], ordered[20]), "the tenth and the twenty-first of 30: 95.7 %"
    twice = median_interval(np.repeat(values, 2), np.repeat(np.arange(30), 2).astype(str))
    assert (twice.n, twice.n_subjects) == (60, 30)
    assert twice.low <= found.low
    assert twice.high >= found.high, "copies tell nothing new"
    assert median_interval(np.r_[values, np.nan], np.arange(31).astype(str)) == found


def test_a_median_of_few_or_equal_values_has_no_interval() -> None:
    assert np.isnan(median_interval(np.arange(5.0), np.arange(5).astype(str)).low)
    six = median_interval(np.arange(6.0), np.arange(6).astype(str))
    assert (six.low, six.high, six.rough) == (0.0, 5.0, True)
    equal = median_interval(np.ones(40), np.arange(40).astype(str))
    assert equal.value == 1
    assert np.isnan(equal.low)
    assert not median_interval([np.nan], ["a"]).estimable


@pytest.mark.parametrize("clustered", [False, True])
def test_the_medians_interval_holds_the_truth(clustered: bool) -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(400):
        each = np.repeat(np.arange(20), 4 if clustered else 1)
        logs = rng.normal(0, 0.8, 20)[each] + rng.normal(0, 0.6, each.size)
        found = median_interval(np.exp(logs), each.astype(str))
        held += found.low <= 1 <= found.high
    assert held / 400 > 0.93
