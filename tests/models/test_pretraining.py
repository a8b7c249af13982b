"""What every pretraining method is."""

from __future__ import annotations

import pytest
import torch

from workbench.contracts import PRETRAINING
from workbench.models.options_base import MethodOptions
from workbench.models.pretraining import PretrainingModule


def test_it_segments_nothing_predicts_no_marker_and_has_one_stage() -> None:
    model = PretrainingModule(modalities=("t1",), classes=4, markers=("idh",), options=MethodOptions())
    assert (model.classes, model.markers) == (2, ())
    assert [(stage.share, stage.tasks) for stage in model.stages()] == [(1.0, (PRETRAINING,))]


def test_what_it_must_say_is_asked_for_by_name() -> None:
    model, volumes = PretrainingModule(modalities=("t1",), options=MethodOptions()), torch.zeros(1, 1, 2, 2, 2)
    with pytest.raises(TypeError, match="PretrainingModule must implement examine"):
        model.examine(volumes, torch.ones(1, 1).bool(), seed=0)
    for part in ("encoder_state", "encoder_description"):
        with pytest.raises(TypeError, match=f"must implement {part}"):
            getattr(model, part)()
    assert model.token_features(volumes, torch.ones(1, 1).bool()) is None
