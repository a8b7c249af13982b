"""Several predictions of one case become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workbench.errors import ParameterError
from workbench.inference.predict import CasePrediction


def average_predictions(predictions: Sequence[CasePrediction]) -> CasePrediction:
    """The mean of the **logits**, voxels and markers alike; probabilities are made from it afterwards.

    Averaging logits and then taking the softmax is the normalised geometric mean of the members' probabilities, not their
    arithmetic mean: a member that is sure counts for more. Maps are dropped, and so is the centre where the members differ.

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
            total += np.asarray(member.logits)
        logits = (total / len(predictions)).astype(np.float32)
    markers = {
        name: np.mean([member.markers[name].astype(np.float64) for member in predictions], axis=0).astype(np.float32)
        for name in first.markers
    }
    same = all((member.centre, member.centre_from) == (first.centre, first.centre_from) for member in predictions)
    return replace(
        first,
        logits=logits,
        markers=markers,
        maps={},
        centre=first.centre if same else None,
        centre_from=first.centre_from if same else "",
    )


def _kind(prediction: CasePrediction) -> tuple[object, ...]:
    shape = None if prediction.logits is None else prediction.logits.shape
    return prediction.case, prediction.present, shape, {name: value.shape for name, value in prediction.markers.items()}
