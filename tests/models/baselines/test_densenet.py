"""DenseNet-121: markers alone."""

from __future__ import annotations

import pytest
import torch

from workbench.contracts import MARKER_TASK, SEGMENTATION
from workbench.errors import ParameterError
from workbench.models.registry import create_model

FOUR = ("t1", "t1c", "t2", "flair")


def test_densenet_predicts_markers_alone() -> None:
    model = create_model("densenet121", modalities=FOUR, markers=("idh", "grade"), width=4, growth=2, grade_classes=3).eval()
    images, present = torch.randn(1, 4, 64, 64, 64), torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        prediction = model(images, present)
    assert prediction.segmentation is None
    assert {name: tuple(logits.shape) for name, logits in prediction.markers.items()} == {"idh": (1, 1), "grade": (1, 3)}
    assert not model(images, present, tasks=(SEGMENTATION,)).markers
    assert [stage.tasks for stage in model.stages()] == [(MARKER_TASK,)]


def test_densenet_without_a_marker_is_refused() -> None:
    with pytest.raises(ParameterError, match="none is left to predict"):
        create_model("densenet121", modalities=("t1",))
