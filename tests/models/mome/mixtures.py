"""Small mixtures and batches for the tests of MoME and MoME+."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.models.mome.single_image_unet import PooledUNet
from workbench.models.registry import create_model

FIVE = ("t1", "t1c", "t2", "flair", "dwi")
FOUR = FIVE[:4]
SHAPE = (16, 8, 8)


def build(name: str = "mome", names: tuple[str, ...] = FOUR, classes: int = 2, **options: Any) -> Any:
    return create_model(name, modalities=names, classes=classes, **({"width": 4, "levels": 3} | options))


def batch(shown: list[list[int]], names: tuple[str, ...] = FOUR, seed: int = 0) -> Batch:
    """One row of `shown` per sample; 'lesion' labels."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.tensor(shown, dtype=torch.bool)
    images = torch.randn(*present.shape, *SHAPE, generator=generator) * present[:, :, None, None, None]
    labels = torch.randint(0, 2, (len(shown), *SHAPE), generator=generator)
    return Batch(names, images, present, labels, ("lesion",) * len(shown), {})


def trained_pass(model: nn.Module, given: Batch, tasks: tuple[str, ...] = (SEGMENTATION,), seed: int = 0) -> Prediction:
    torch.manual_seed(seed)
    return model.train()(given.images, given.present, given.modalities, tasks=tasks)


def counted(model: Any) -> dict[str, int]:
    """Forward passes of each expert and of the gate (of a pooled network: 'net'), counted from now on."""
    parts = {"net": model.net} if isinstance(model, PooledUNet) else dict(model.mixture.experts.named_children())
    if not isinstance(model, PooledUNet):
        parts["gate"] = model.mixture.gate
    calls = dict.fromkeys(parts, 0)

    def count(key: str) -> Any:
        def hook(*_: Any) -> None:
            calls[key] += 1

        return hook

    for key, part in parts.items():
        part.register_forward_hook(count(key))
    return calls
