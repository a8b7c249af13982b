"""Found, invented, and what a distance to nothing counts as, on cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from workbench.errors import InputError, ParameterError
from workbench.evaluation.detection import BRATS_MM, detection, penalty_text, with_penalty
from workbench.evaluation.segmentation import case_metrics
from workbench.geometry import Grid

SHAPE = (12, 12, 12)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))


def mask(box: slice | None) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    if box is not None:
        labels[box, 3:6, 3:6] = 3
    return labels


CASES = {  # truth, prediction
    "found": (slice(3, 6), slice(3, 5)), "beside": (slice(3, 6), slice(8, 10)), "missed": (slice(3, 6), None),
    "invented": (None, slice(3, 6)), "nothing": (None, None),
}  # fmt: skip


@pytest.fixture(scope="module")
def metrics() -> pd.DataFrame:
    brain = np.ones(SHAPE, bool)
    parts = [
        case_metrics(mask(predicted), mask(truth), brain, GRID, ["ET"]).assign(case=case, subject=case)
        for case, (truth, predicted) in CASES.items()
    ]
    return pd.concat(parts, ignore_index=True).assign(split="test", present="t1")


def test_found_and_invented_are_counted_apart(metrics: pd.DataFrame) -> None:
    (row,) = detection(metrics).to_dict("records")
    assert (row["n_with"], row["n_found"], row["n_without"], row["n_false"]) == (3, 1, 2, 1), "beside it is not found"
    assert (row["found"], row["false"]) == (1 / 3, 1 / 2)
    many = pd.concat([metrics.assign(case=f"{i}" + metrics["case"], subject=f"{i}" + metrics["subject"]) for i in range(8)])
    (row,) = detection(many).to_dict("records")
    assert (row["found_low"], row["found_high"]) == pytest.approx(proportion_confint(8, 24, method="wilson"))
    assert (row["false_low"], row["false_high"]) == pytest.approx(proportion_confint(8, 16, method="wilson"))


def test_a_share_of_few_has_no_interval_and_a_share_of_none_no_value(metrics: pd.DataFrame) -> None:
    (row,) = detection(metrics).to_dict("records")
    assert np.isnan([row["found_low"], row["false_high"]]).all(), "three and two subjects"
    (row,) = detection(metrics[metrics["n_truth"] == 0]).to_dict("records")
    assert (row["n_with"], row["n_found"]) == (0, 0)
    assert np.isnan(row["found"])
    assert detection(metrics.iloc[:0]).empty
    always = pd.concat([metrics[metrics["case"] == "found"].assign(case=f"{i}", subject=f"{i}") for i in range(20)])
    (row,) = detection(always).to_dict("records")
    assert 0.8 < row["found_low"] < row["found"] == 1, "20 of 20 found is no certainty"


def test_the_penalty_is_a_policy(metrics: pd.DataFrame) -> None:
    stored = metrics[metrics["metric"] == "hd95"].set_index("case")["value"]
    assert stored["missed"] == stored["invented"] == pytest.approx(GRID.diagonal)
    assert with_penalty(metrics) is metrics
    for policy, expected in (("brats", [BRATS_MM, BRATS_MM, 0.0]), ("exclude", [np.nan] * 3)):
        found = with_penalty(metrics, policy)
        distances = found[found["metric"] == "hd95"].set_index("case")["value"]
        assert distances[["missed", "invented", "nothing"]].tolist() == pytest.approx(expected, nan_ok=True)
        assert distances[["found", "beside"]].tolist() == stored[["found", "beside"]].tolist()
        rest = metrics["metric"] != "hd95"
        pd.testing.assert_frame_equal(found[rest], metrics[rest])


def test_what_cannot_be_told_is_refused(metrics: pd.DataFrame) -> None:
    with pytest.raises(ParameterError, match="penalty 'zero' is unknown; there are grid_diagonal, brats, exclude"):
        with_penalty(metrics, "zero")
    with pytest.raises(InputError, match="n_prediction"):
        with_penalty(metrics.drop(columns="n_prediction"), "brats")
    assert with_penalty(metrics.drop(columns="n_prediction")) is not None
    assert "374 mm" in penalty_text("hd95", "brats")
    assert penalty_text("dice", "brats") == ""
