"""Intervals over subjects and seeds: coverage, and what they are made of."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.evaluation.replicates import mean_difference, seed_weights

NAMES = np.array([f"s{index:02d}" for index in range(40)])


def coverage(seeds: np.ndarray, luck: float, trials: int = 120) -> float:
    """Share of intervals that hold the true 0; `luck`: spread of the seeds' mean, in standard errors over subjects."""
    hits = 0
    for trial in range(trials):
        rng = np.random.default_rng([len(seeds), trial])
        own, rest = rng.normal(0, 1, 40), rng.normal(0, 0.7, (40, len(seeds)))
        error = np.sqrt((1 + 0.49 / len(seeds)) / 40) * np.sqrt(len(seeds))
        values = own[:, None] + rest + rng.normal(0, luck * error, len(seeds))
        found = mean_difference(values, NAMES, seeds, resamples=300, seed=trial)
        hits += found.low <= 0 <= found.high
    return hits / trials


def test_seeds_that_differ_widen_the_interval_to_its_coverage() -> None:
    three = np.arange(3)
    assert coverage(three, 1.0) > 0.90
    assert coverage(np.zeros(3, int), 1.0) < 0.88, "taken as one seed, their luck is not in the interval"
    assert 0.90 < coverage(three, 0.0) < 0.995


def test_weights_of_seeds_keep_their_sum_and_their_spread() -> None:
    weights = seed_weights(np.array([5, 5, 7, 9]), 4000, 0)
    assert np.array_equal(weights[:, 0], weights[:, 1]), "a seed is drawn with all its folds"
    assert weights[:, [0, 2, 3]].sum(axis=1) == pytest.approx(3.0)
    assert weights[:, 2].var() == pytest.approx(1.0, rel=0.1), "(S-1)/S of the multinomial, stretched by S/(S-1)"
    assert (seed_weights(np.array([3, 3]), 5, 0) == 1).all()


def test_a_case_weighs_the_same_however_many_seeds_judged_it() -> None:
    values = np.array([[1.0, 3.0], [10.0, np.nan], [np.nan, np.nan]])
    found = mean_difference(values, np.array(["a", "b", "c"]), np.array([0, 1]), resamples=50)
    assert found.value == 6.0
    assert found.n == 2
    alone = mean_difference(values[:1], np.array(["a"]), np.array([0, 1]), resamples=50)
    assert alone.value == 2.0
    assert np.isnan(alone.low)
