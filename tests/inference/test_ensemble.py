from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from workbench.errors import ParameterError
from workbench.inference.ensemble import average_predictions
from workbench.inference.predict import CasePrediction


def member(seed: int, **changes: object) -> CasePrediction:
    rng = np.random.default_rng(seed)
    prediction = CasePrediction(
        "A",
        ("t1", "t2"),
        rng.normal(0, 4, (3, 4, 5, 6)).astype(np.float32),
        {"idh": rng.normal(0, 4, 1).astype(np.float32), "grade": rng.normal(0, 4, 3).astype(np.float32)},
        (1, 2, 3),
        "tumour",
    )
    return replace(prediction, **changes)


def test_probabilities_are_the_normalised_geometric_mean() -> None:
    members = [member(seed) for seed in range(3)]
    found = average_predictions(members)
    product = np.prod([softmax(m.logits.astype(np.float64), axis=0) for m in members], axis=0) ** (1 / 3)
    np.testing.assert_allclose(found.probabilities(), product / product.sum(axis=0), atol=1e-5)
    arithmetic = np.mean([m.probabilities() for m in members], axis=0)
    assert np.abs(found.probabilities() - arithmetic).max() > 0.05  # they are two different things
    assert float(found.markers["idh"][0]) == pytest.approx(np.mean([m.markers["idh"][0] for m in members]), abs=1e-6)
    assert found.logits.dtype == np.float32


def test_the_order_of_members_does_not_matter_and_one_is_itself() -> None:
    members = [member(seed) for seed in range(5)]
    np.testing.assert_array_equal(average_predictions(members).logits, average_predictions(members[::-1]).logits)
    np.testing.assert_array_equal(average_predictions(members[:1]).logits, members[0].logits)
    assert average_predictions(members).centre == (1, 2, 3)
    moved = average_predictions([members[0], member(1, centre=(9, 9, 9))])
    assert (moved.centre, moved.centre_from) == (None, "")


def test_members_without_segmentation() -> None:
    found = average_predictions([member(0, logits=None), member(1, logits=None)])
    assert found.logits is None
    assert set(found.markers) == {"idh", "grade"}


@pytest.mark.parametrize("changes", [{"case": "B"}, {"present": ("t1",)}, {"logits": None}, {"markers": {}}])
def test_what_does_not_belong_together_is_refused(changes: dict) -> None:
    with pytest.raises(ParameterError, match="must agree"):
        average_predictions([member(0), member(1, **changes)])
    with pytest.raises(ParameterError, match="at least one"):
        average_predictions([])


def test_the_mean_of_probabilities_is_their_arithmetic_mean() -> None:
    members = [member(seed) for seed in range(3)]
    found = average_predictions(members, of="probabilities")
    arithmetic = np.mean([m.probabilities() for m in members], axis=0)
    np.testing.assert_allclose(found.probabilities(), arithmetic, atol=1e-6)
    for name in ("idh", "grade"):
        expected = np.mean([m.marker_probabilities()[name] for m in members], axis=0)
        np.testing.assert_allclose(found.marker_probabilities()[name], expected, atol=1e-6)
    sure = [member(0, logits=np.full((2, 1, 1, 1), 90.0 * sign) * [[[[1]]], [[[-1]]]]) for sign in (1, 1)]
    assert np.isfinite(average_predictions(sure, of="probabilities").logits).all()
