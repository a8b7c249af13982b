"""Small networks and images for the tests of AMAES."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.models.amaes.amaes import Amaes
from workbench.models.amaes.amaes_pretrain import AmaesPretrain
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")


def pretraining(modalities: tuple[str, ...] = GIVEN, **options: Any) -> AmaesPretrain:
    model = create_model("amaes_pretrain", modalities=modalities, **({"width": 4} | options))
    assert isinstance(model, AmaesPretrain)
    return model


def tuning(modalities: tuple[str, ...] = GIVEN, **options: Any) -> Amaes:
    model = create_model("amaes", modalities=modalities, **({"width": 4} | options))
    assert isinstance(model, Amaes)
    return model


def images(count: int = 2, modalities: int = 2) -> Tensor:
    values = torch.zeros(count, modalities, 32, 32, 32)
    inside = torch.randn(count, modalities, 24, 24, 24, generator=torch.Generator().manual_seed(1)) + 3
    values[..., 4:28, 4:28, 4:28] = inside
    return values
