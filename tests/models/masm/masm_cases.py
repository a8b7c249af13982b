"""Small networks and cases for the tests of MASM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.models.masm.masm import Masm
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")

SMALL: dict[str, Any] = {"width": 4, "levels": 3, "heads": 2, "grid": 4, "mlp_ratio": 1, "checkpointing": False}


def build(modalities: tuple[str, ...] = GIVEN, seed: int = 0, **options: Any) -> Masm:
    model = create_model("masm", modalities=modalities, seed=seed, **(SMALL | options))
    assert isinstance(model, Masm)
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shown(*names: str, given: tuple[str, ...] = GIVEN) -> Tensor:
    return torch.tensor([[name in names for name in given]])
