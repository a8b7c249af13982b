"""Files of Swin weights as others write them, for the tests of `swin.weights` and `pretrained.file`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.models.glioma.facts import MtsUNetOptions
from workbench.models.pretrained.coverage import Coverage
from workbench.models.swin.backbone import SwinBackbone
from workbench.models.swin.weights import load_swin

GIVEN = ("t1", "t1c", "t2", "flair")

TINY: dict[str, Any] = {"feature_size": 12, "window": 4, "checkpointing": False, "merging": "legacy"}


@functools.cache
def network(channels: int, encoder: str, feature_size: int = 12, window: int = 4) -> Mapping[str, Tensor]:
    """A whole SwinUNETR with three outputs, every tensor random (biases of the fresh network are zeros)."""
    torch.manual_seed(channels)
    state = SwinBackbone(channels, 3, feature_size, window, False, encoder).state_dict()
    return {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in state.items()}


def encoder_of(channels: int, encoder: str, **sizes: int) -> dict[str, Tensor]:
    return {name: value for name, value in network(channels, encoder, **sizes).items() if name.startswith("swinViT.")}


def ssl(channels: int, encoder: str, **sizes: int) -> dict[str, Tensor]:
    """BrainSegFounder's layout: the encoder and sixteen tensors of heads, behind DistributedDataParallel's prefix."""
    width = 12 * 16
    heads = {
        "rotation_head.weight": (4, width), "rotation_head.bias": (4,),
        "contrastive_head.weight": (512, width), "contrastive_head.bias": (512,),
    }  # fmt: skip
    for index, place in enumerate((0, 4, 8, 12, 16)):
        before, after = width // 2**index, width // 2 ** min(index + 1, 4)
        heads |= {f"conv.{place}.weight": (after, before, 3, 3, 3), f"conv.{place}.bias": (after,)}
    heads |= {"conv.20.weight": (channels, width // 16, 1, 1, 1), "conv.20.bias": (channels,)}
    tensors = encoder_of(channels, encoder, **sizes) | {name: torch.randn(shape) for name, shape in heads.items()}
    return {f"module.{name}": value for name, value in tensors.items()}


def load(path: Path, modalities: tuple[str, ...] = GIVEN, **options: Any) -> tuple[SwinBackbone, Coverage, dict[str, Tensor]]:
    """(backbone, coverage, what the backbone held before)."""
    chosen = MtsUNetOptions(**(TINY | options))
    torch.manual_seed(99)
    backbone = SwinBackbone.from_options(len(modalities), 4, chosen)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    return backbone, load_swin([backbone], path, modalities=modalities, options=chosen), before
