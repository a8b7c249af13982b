"""Small networks and masks for the tests of BrainFM-MRI's pretraining."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.models.brainfm.brainfm_pretrain import BrainFMPretrain
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")

SIZES = {
    "token": 8, "width": 24, "depth": 4, "heads": 2, "mlp": 48, "dropout": 0.0, "positions": 4, "decoder_layers": 1,
    "decoder_mlp": 32, "decoder_width": 16,
}  # fmt: skip


def build(modalities: tuple[str, ...] = GIVEN, **options: Any) -> BrainFMPretrain:
    model = create_model("brainfm_pretrain", modalities=modalities, **(SIZES | options))
    assert isinstance(model, BrainFMPretrain)
    return model.train()


def images(count: int = 3, channels: int = 4, side: int = 32) -> Tensor:
    return torch.randn(count, channels, side, side, side, generator=torch.Generator().manual_seed(0))


def tokens_masked(masked: Tensor) -> Tensor:
    """(B, M, T) share of each token's voxels that are asked for."""
    return build().encoder.patches(masked.float()).mean(-1)


def visible(model: BrainFMPretrain, volumes: Tensor, present: Tensor, seed: int = 0, imputation: float = 0.0) -> Tensor:
    """(B,) visible tokens of each sample."""
    torch.manual_seed(seed)
    masked = tokens_masked(model.reconstruct(volumes, present, imputation)["masked"])
    assert bool(((masked == 0) | (masked == 1)).all()), "a token is masked or it is not"
    return ((masked == 0) & present[:, :, None]).sum((1, 2))
