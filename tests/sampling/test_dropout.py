from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workbench.sampling.dropout import drop_each, drop_subset, subsets


def test_subsets_are_all_of_them_in_order():
    assert subsets(["t1", "t2", "flair"]) == [
        ("t1",), ("t2",), ("flair",), ("t1", "t2"), ("t1", "flair"), ("t2", "flair"), ("t1", "t2", "flair"),
    ]  # fmt: skip
    assert len(subsets(["t1", "t1c", "t2", "flair"])) == 15
    assert subsets([]) == []


@given(present=st.lists(st.booleans(), min_size=1, max_size=6), probability=st.floats(0, 1), seed=st.integers(0, 999))
@pytest.mark.parametrize("drop", [drop_each, drop_subset])
def test_at_least_one_stays_and_nothing_absent_appears(drop, present, probability, seed):
    kept = drop(present, probability, np.random.default_rng(seed))
    assert len(kept) == len(present)
    assert all(there or not stays for there, stays in zip(present, kept, strict=True))
    assert any(kept) == any(present)


def test_each_modality_goes_with_its_probability():
    rng = np.random.default_rng(0)
    kept = np.array([drop_each([True, False, True, True], 0.3, rng) for _ in range(4000)])
    expected = 0.7 + 0.3**3 / 3  # or spared, where all three were to go
    assert stats.binomtest(int(kept[:, 0].sum()), 4000, expected).pvalue > 1e-3
    assert stats.binomtest(int(kept[:, 3].sum()), 4000, expected).pvalue > 1e-3
    alone = Counter(tuple(row) for row in np.array([drop_each([True, True, True, True], 1.0, rng) for _ in range(4000)]).tolist())
    assert len(alone) == 4
    assert stats.chisquare(list(alone.values())).pvalue > 1e-3


def test_subsets_are_drawn_uniformly():
    rng = np.random.default_rng(1)
    found = Counter(tuple(drop_subset([True, True, False, True], 1.0, rng)) for _ in range(7000))
    assert len(found) == 7
    assert stats.chisquare(list(found.values())).pvalue > 1e-3
    assert all(drop_subset([True, True, False, True], 0.0, rng) == [True, True, False, True] for _ in range(20))
