"""Small networks and volumes for the tests of BrainFM-MRI."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.models.brainfm.brainfm import BrainFM
from workbench.models.brainfm.brainfm_pretrain import BrainFMPretrain
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")

SIZES = {"token": 8, "width": 24, "depth": 4, "heads": 2, "mlp": 48, "dropout": 0.0, "positions": 2}

SHAPE = (16, 16, 16)


def build(modalities: tuple[str, ...] = GIVEN, **options: Any) -> BrainFM:
    given = {"head_width": 4, **SIZES, **options}
    model = create_model("brainfm", modalities=modalities, classes=4, markers=("idh",), **given)
    assert isinstance(model, BrainFM)
    return model.eval()


def pretrain(modalities: tuple[str, ...] = GIVEN, **options: Any) -> BrainFMPretrain:
    given = SIZES | {"decoder_layers": 1, "decoder_mlp": 32} | options
    model = create_model("brainfm_pretrain", modalities=modalities, **given)
    assert isinstance(model, BrainFMPretrain)
    return model


def draw(count: int, channels: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, channels, *SHAPE, generator=torch.Generator().manual_seed(seed))


def outputs(model: BrainFM, images: Tensor, present: Tensor, names: tuple[str, ...] = GIVEN) -> Tensor:
    found = model(images, present, names)
    return torch.cat([found.segmentation.flatten(1), found.markers["idh"]], dim=1)
