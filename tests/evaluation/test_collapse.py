"""The collapse monitors, on features whose state is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.evaluation.collapse import Collapse, effective_rank, judge_collapse, off_diagonal_covariance

RNG = np.random.default_rng


def judged(tokens: np.ndarray, whole: np.ndarray, parts: np.ndarray, part_of: list[int]) -> Collapse:
    return judge_collapse(tokens, whole, parts, part_of, [f"s{i}" for i in range(len(whole))])


def test_effective_rank_counts_directions() -> None:
    equal = np.concatenate([np.eye(5), -np.eye(5)])
    assert effective_rank(equal) == pytest.approx(5)
    line = np.outer(np.linspace(-1, 1, 20), np.ones(8))
    assert effective_rank(line) == pytest.approx(1)
    two = np.zeros((4, 3))
    two[:, :2] = [[3, 0], [-3, 0], [0, 1], [0, -1]]  # singular values 3 and 1 times the same
    assert effective_rank(two) == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert effective_rank(np.ones((6, 4))) == 0
    assert effective_rank(two + 100) == pytest.approx(effective_rank(two)), "the mean is no direction"
    assert math.isnan(effective_rank(np.full((4, 3), np.nan)))
    assert math.isnan(effective_rank(np.ones((1, 3))))


def test_off_diagonal_covariance_is_its_formula() -> None:
    rows = RNG(0).normal(size=(30, 4))
    covariance = np.cov(rows.T)
    wanted = sum(covariance[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4
    assert off_diagonal_covariance(rows) == pytest.approx(wanted)


def test_healthy_features_are_not_called_collapsed() -> None:
    rng = RNG(0)
    whole = rng.normal(size=(6, 32))
    parts = np.concatenate([whole, whole]) + 0.3 * rng.normal(size=(12, 32))
    found = judged(rng.normal(size=(400, 32)), whole, parts, [*range(6), *range(6)])
    assert found.verdict == "not collapsed"
    assert found.within_subjects > 0.8 > 0.3 > found.between_subjects
    assert found.sentence.startswith("No sign of collapse: the tokens use 3")


def test_equal_vectors_are_collapsed_however_alike_subsets_are() -> None:
    """The published notebook's case: similarity 0.997 of a part to the whole, because everything is alike."""
    rng = RNG(0)
    whole = 10 + 0.1 * rng.normal(size=(6, 32))
    parts = whole + 0.01 * rng.normal(size=(6, 32))
    found = judged(rng.normal(size=(400, 32)), whole, parts, list(range(6)))
    assert found.within_subjects > 0.997
    assert found.verdict == "collapsed"
    assert "hardly say whose" in found.sentence


def test_few_directions_are_collapsed_however_different_subjects_are() -> None:
    rng = RNG(0)
    whole = rng.normal(size=(6, 64))
    tokens = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 64))
    found = judged(tokens, whole, whole, list(range(6)))
    assert found.verdict == "collapsed"
    assert found.effective_rank < 2.1
    assert "of 64 directions only" in found.sentence


def test_a_subject_no_more_like_itself_than_like_others_is_doubtful() -> None:
    rng = RNG(0)
    whole, shared = rng.normal(size=(6, 32)), rng.normal(size=32)
    whole = whole + 2 * shared
    parts = rng.normal(size=(6, 32)) + 2 * shared
    found = judged(rng.normal(size=(400, 32)), whole, parts, list(range(6)))
    assert found.verdict == "doubtful"
    assert "no sign of robustness" in found.sentence


def test_what_cannot_be_told_is_unknown() -> None:
    rng = RNG(0)
    tokens, whole = rng.normal(size=(40, 8)), rng.normal(size=(3, 8))
    one = judge_collapse(tokens, whole, whole[:0], [], ["a", "a", "a"])
    assert (one.verdict, one.subjects) == ("unknown", 1)
    alone = judge_collapse(tokens, whole, whole[:0], [], ["a", "b", "c"])
    assert alone.verdict == "not collapsed"
    assert math.isnan(alone.within_subjects)
    assert "nan" not in alone.sentence
