"""Thresholds: what they promise on validation, by hand and by trying every other one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ParameterError
from workbench.evaluation.thresholds import sensitivity_threshold, validation_thresholds, youden_threshold

TRUTH = np.array([1, 1, 0, 1, 0, 0])
PROBABILITY = np.array([0.9, 0.8, 0.6, 0.5, 0.3, 0.1])


def test_by_hand() -> None:
    # J: 0.9 -> 1/3, 0.8 -> 2/3, 0.6 -> 1/3, 0.5 -> 2/3, ...: the higher of the two best, half-way down to 0.6
    assert youden_threshold(TRUTH, PROBABILITY) == pytest.approx(0.7)
    assert sensitivity_threshold(TRUTH, PROBABILITY, 0.95) == pytest.approx(0.4)
    assert sensitivity_threshold(TRUTH, PROBABILITY, 2 / 3) == pytest.approx(0.7)
    assert sensitivity_threshold(TRUTH, PROBABILITY, 0.1) == pytest.approx(0.85)


def test_a_missing_class_gives_no_threshold_and_unknown_truth_is_left_out() -> None:
    assert np.isnan(youden_threshold([1, 1], [0.2, 0.3]))
    assert np.isnan(sensitivity_threshold([0, 0], [0.2, 0.3]))
    assert np.isnan(youden_threshold([], []))
    with_gap = youden_threshold(np.r_[TRUTH, np.nan], np.r_[PROBABILITY, 0.65])
    assert with_gap == pytest.approx(0.7)
    with pytest.raises(ParameterError, match="sensitivity is 0"):
        sensitivity_threshold(TRUTH, PROBABILITY, 0)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=30), st.floats(0.05, 1))
def test_no_other_threshold_does_better(pairs: list[tuple[bool, int]], wanted: float) -> None:
    truth, probability = np.array([t for t, _ in pairs]), np.array([p / 20 for _, p in pairs])
    if truth.all() or not truth.any():
        return

    def at(cut: float) -> tuple[float, float]:
        called = probability >= cut
        return float(called[truth].mean()), float((~called[~truth]).mean())

    best = at(youden_threshold(truth, probability))
    held = sensitivity_threshold(truth, probability, wanted)
    assert 0 <= held <= 1
    assert at(held)[0] >= wanted - 1e-9
    for cut in np.unique(probability):
        assert sum(at(cut)) <= sum(best) + 1e-9
        if at(cut)[0] >= wanted:
            assert at(cut)[1] <= at(held)[1] + 1e-9


def test_neighbouring_probabilities_keep_their_decisions() -> None:
    low = 0.3
    high = np.nextafter(low, 1)
    cut = youden_threshold([0, 1], [low, high])
    assert low < cut <= high


def test_only_validation_rows_are_read() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "case": [f"c{index}" for index in range(90)], "subject": [f"s{index}" for index in range(90)], "fold": 0,
            "split": ["validation"] * 30 + ["test"] * 60, "present": "t1", "marker": "idh", "class": "mutant",
            "truth": (rng.random(90) < 0.5).astype(float), "logit": 0.0, "probability": rng.random(90),
        }
    )  # fmt: skip
    table = validation_thresholds(frame)
    assert table["rule"].tolist() == ["youden", "sensitivity"]
    assert (table["n"] == 30).all()
    assert table["estimable"].all()
    assert table.loc[1, "sensitivity"] >= 0.95
    spoilt = frame.assign(truth=frame["truth"].where(frame["split"] == "validation", 1 - frame["truth"]))
    pd.testing.assert_frame_equal(table, validation_thresholds(spoilt))
    chosen = frame[frame["split"] == "validation"]
    assert table.loc[0, "threshold"] == youden_threshold(chosen["truth"], chosen["probability"])
    assert validation_thresholds(frame[frame["split"] == "test"]).empty
    few = validation_thresholds(frame.iloc[:12])
    assert not few["estimable"].any()
