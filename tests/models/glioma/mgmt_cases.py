"""Small networks and images for the tests of MGMT-Net."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.models.glioma.mgmt_net import MgmtNet
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")

MARKERS = ("idh", "codel", "tert")

SMALL = {"modality_channels": 4, "width": 4, "embed": 6, "window": 4, "head_width": 4, "checkpointing": False}


def build(markers: tuple[str, ...] = MARKERS, classes: int = 4, **options: Any) -> MgmtNet:
    model = create_model("mgmt_net", modalities=GIVEN, classes=classes, markers=markers, **(SMALL | options))
    assert isinstance(model, MgmtNet)
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everything(samples: int = 1) -> Tensor:
    return torch.ones(samples, 4, dtype=torch.bool)
