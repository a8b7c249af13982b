"""Paired differences against SciPy and statsmodels, and the refusal of unpaired cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from workbench.errors import InputError
from workbench.evaluation.comparison import holm, paired_difference
from workbench.evaluation.paired_tests import sign_flip

RNG = np.random.default_rng(11)
CASES = pd.Index([f"c{index:02d}" for index in range(30)])
A = pd.Series(RNG.beta(8, 2, 30), CASES)
B = A - RNG.normal(0.03, 0.05, 30)


def test_difference_has_the_subject_interval_and_the_p_of_its_mean() -> None:
    found = paired_difference(A, B.sample(frac=1, random_state=0))  # the order does not matter: cases are paired by name
    assert found.difference == pytest.approx((A - B).mean())
    assert (found.mean_a, found.mean_b) == pytest.approx((A.mean(), B.mean()))
    assert found.p == sign_flip((A - B).to_numpy()[:, None])[0]
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(A, B, method="exact").pvalue)
    assert found.shift_low < found.shift < found.shift_high
    assert (found.higher, found.lower) == ((A > B).mean(), (A < B).mean())
    assert (found.low, found.high) == pytest.approx(tuple(stats.ttest_rel(A, B).confidence_interval()))
    assert (found.n, found.n_subjects, found.n_undefined) == (30, 30, 0)
    back = paired_difference(B, A)
    assert (back.difference, back.p) == pytest.approx((-found.difference, found.p))


def test_cases_of_one_subject_count_once_in_the_test() -> None:
    subjects = pd.Series([f"s{index // 3}" for index in range(30)], CASES)
    found = paired_difference(A, B, subjects)
    means = (A - B).groupby(subjects).mean()
    assert found.n_subjects == 10
    assert found.p == sign_flip(means.to_numpy()[:, None])[0]
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(means, method="exact").pvalue)
    copies = pd.Index([f"{case}-copy" for case in CASES])
    doubled = [pd.concat([side, side.set_axis(copies)]) for side in (A, B)]
    both = pd.Series([*CASES, *CASES], [*CASES, *copies])
    assert paired_difference(*doubled, both).p == pytest.approx(paired_difference(A, B).p)


def test_equal_runs_differ_in_nothing_and_claim_no_certainty() -> None:
    found = paired_difference(A, A)
    assert (found.difference, found.p, found.p_wilcoxon, found.shift, found.higher) == (0, 1, 1, 0, 0)
    assert np.isnan([found.low, found.high, found.shift_low, found.shift_high]).all()
    moved = paired_difference(A + 0.1, A)
    assert moved.p == pytest.approx(2 / 2**30), "all of one sign: as clear as 30 subjects can be"
    assert np.isnan([moved.low, moved.shift_low]).all(), "and no interval of zero width"


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


def test_holm_by_hand() -> None:
    # sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (raised to 0.06 before it), 0.5 x 1
    adjusted = holm([0.02, 0.5, np.nan, 0.01, 0.03])
    assert adjusted == pytest.approx([0.06, 0.5, np.nan, 0.04, 0.06], nan_ok=True)
    assert holm([]).size == 0
    assert np.isnan(holm([np.nan])).all()
    for order in ([0.02, 0.5, 0.01], [0.5, 0.01, 0.02]):
        assert sorted(holm(order)) == pytest.approx([0.03, 0.04, 0.5])
    many = np.random.default_rng(3).random(200) ** 4
    assert holm(many) == pytest.approx(multipletests(many, method="holm")[1])
