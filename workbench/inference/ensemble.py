"""Several predictions of one case become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.special import logit as log_odds
from scipy.special import softmax

from workbench.errors import ParameterError
from workbench.inference.predict import CasePrediction

SMALLEST = 1e-7
"""Probability below which a mean of probabilities is not told apart from 0 when it is written as a logit."""


def average_predictions(
    predictions: Sequence[CasePrediction], of: Literal["logits", "probabilities"] = "logits"
) -> CasePrediction:
    """The mean of the members' **logits**, or of their **probabilities**, voxels and markers alike.

    Averaging logits and then taking the softmax is the normalised geometric mean of the members' probabilities: a member that
    is sure counts for more. Averaging probabilities is the vote of a committee in which all count the same; its logits are those
    that give back the mean. Maps are dropped, and so is the centre where the members differ.

    Args:
        predictions: of one case, by each member.
        of: what is averaged.

    Raises:
        ParameterError: no predictions, or predictions of different cases, grids, modalities shown, classes or markers.
    """
    if not predictions:
        raise ParameterError("an ensemble needs at least one prediction")
    first = predictions[0]
    for other in predictions[1:]:
        if _kind(other) != _kind(first):
            raise ParameterError(f"predictions of one ensemble must agree in case, modalities, shape and markers: "
                                 f"{_kind(first)} and {_kind(other)}")  # fmt: skip
    logits = None
    if first.logits is not None:
        total = np.zeros(first.logits.shape, np.float64)  # double precision: the order of the members does not show
        for member in predictions:
            voxels = np.asarray(member.logits, np.float64)
            total += voxels if of == "logits" else softmax(voxels, axis=0)
        mean = total / len(predictions)
        logits = (mean if of == "logits" else np.log(np.maximum(mean, SMALLEST))).astype(np.float32)
    markers = {}
    for name in first.markers:
        if of == "logits":
            markers[name] = np.mean([m.markers[name].astype(np.float64) for m in predictions], axis=0).astype(np.float32)
        else:
            mean = np.mean([m.marker_probabilities()[name].astype(np.float64) for m in predictions], axis=0)
            markers[name] = mean_logit(mean).astype(np.float32)
    same = all((member.centre, member.centre_from) == (first.centre, first.centre_from) for member in predictions)
    return replace(
        first,
        logits=logits,
        markers=markers,
        centre=first.centre if same else None,
        centre_from=first.centre_from if same else "",
    )


def mean_logit(probability: np.ndarray) -> np.ndarray:
    """Logits that give back a marker's mean probability: (1,) by the sigmoid, (classes,) by the softmax."""
    if probability.size == 1:
        return log_odds(np.clip(probability, SMALLEST, 1 - SMALLEST))
    return np.log(np.maximum(probability, SMALLEST))


def _kind(prediction: CasePrediction) -> tuple[object, ...]:
    shape = None if prediction.logits is None else prediction.logits.shape
    return prediction.case, prediction.present, shape, {name: value.shape for name, value in prediction.markers.items()}
