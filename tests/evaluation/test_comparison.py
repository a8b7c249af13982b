"""Paired tests against SciPy, statsmodels and brute force, and their refusal of unpaired cases."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.errors import InputError
from workbench.evaluation.comparison import holm, paired_difference, signed_rank
from workbench.evaluation.intervals import mean_interval

RNG = np.random.default_rng(11)
CASES = pd.Index([f"c{index:02d}" for index in range(30)])
A = pd.Series(RNG.beta(8, 2, 30), CASES)
B = A - RNG.normal(0.03, 0.05, 30)


def test_difference_has_the_subject_interval_and_wilcoxons_p() -> None:
    found = paired_difference(A, B.sample(frac=1, random_state=0))  # the order does not matter: cases are paired by name
    assert found.difference == pytest.approx((A - B).mean())
    assert (found.mean_a, found.mean_b) == pytest.approx((A.mean(), B.mean()))
    assert found.p == pytest.approx(stats.wilcoxon(A, B, method="exact").pvalue)
    interval = mean_interval(A - B, CASES)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.n_subjects, found.n_undefined) == (30, 30, 0)
    back = paired_difference(B, A)
    assert (back.difference, back.p) == pytest.approx((-found.difference, found.p))


def test_cases_of_one_subject_count_once_in_the_test() -> None:
    subjects = pd.Series([f"s{index // 3}" for index in range(30)], CASES)
    found = paired_difference(A, B, subjects)
    means = (A - B).groupby(subjects).mean()
    assert found.n_subjects == 10
    assert found.p == pytest.approx(stats.wilcoxon(means, method="exact").pvalue)
    copies = pd.Index([f"{case}-copy" for case in CASES])
    doubled = [pd.concat([side, side.set_axis(copies)]) for side in (A, B)]
    both = pd.Series([*CASES, *CASES], [*CASES, *copies])
    assert paired_difference(*doubled, both).p == pytest.approx(paired_difference(A, B).p)


def test_undefined_values_are_left_out_and_counted() -> None:
    found = paired_difference(A.where(A.index != "c03"), B.where(B.index != "c07"))
    assert (found.n, found.n_undefined) == (28, 2)
    keep = A.index.difference(["c03", "c07"])
    assert found.difference == pytest.approx((A - B)[keep].mean())
    assert found.mean_a == pytest.approx(A[keep].mean())


def test_unpaired_cases_are_refused_by_name() -> None:
    with pytest.raises(InputError) as caught:
        paired_difference(A.drop(["c05", "c06"]), B.drop("c11"))
    text = str(caught.value)
    assert "2 cases were judged in the second run only: c05, c06" in text
    assert "1 cases were judged in the first run only: c11" in text
    with pytest.raises(InputError, match="c00: the first run has the case twice"):
        paired_difference(pd.concat([A, A.iloc[:1]]), B)


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


def test_holm_by_hand() -> None:
    # sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (raised to 0.06 before it), 0.5 x 1
    adjusted = holm([0.02, 0.5, np.nan, 0.01, 0.03])
    assert adjusted == pytest.approx([0.06, 0.5, np.nan, 0.04, 0.06], nan_ok=True)
    assert holm([]).size == 0
    assert np.isnan(holm([np.nan])).all()
    for order in ([0.02, 0.5, 0.01], [0.5, 0.01, 0.02]):
        assert sorted(holm(order)) == pytest.approx([0.03, 0.04, 0.5])
