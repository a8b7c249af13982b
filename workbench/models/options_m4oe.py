"""Options of M4oE. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from workbench.models.options_base import MethodOptions


class M4oEOptions(MethodOptions):
    """`m4oe`: a 3-D Swin-UNet whose feed-forward networks are mixtures of experts, one expert per sequence."""

    width: int = Field(96, ge=12, le=192, description="features at 1/4; they double per level; a multiple of 12")
    window: int = Field(7, ge=2, le=16, description="side of Swin's attention windows, in tokens")
    gate: Literal["expert", "as_released"] = Field(
        "expert",
        description="expert: a weight per expert, of available sequences only; as_released: a weight per feature, the same for "
        "all experts, which selects nothing (public code)",
    )
    dice_weight: float = Field(0.7, ge=0, description="weight of Dice in the loss")
    cross_entropy_weight: float = Field(0.4, ge=0, description="weight of cross-entropy in the loss")
    checkpointing: bool = Field(True, description="recompute activations in the backward pass: less memory, slower")
    demo: ClassVar[Mapping[str, Any]] = {"width": 24, "window": 4, "checkpointing": False}

    @field_validator("width")
    @classmethod
    def _multiple_of_twelve(cls, value: int) -> int:
        if value % 12:
            raise ValueError(f"three attention heads and the decoder need a multiple of 12; found {value}")
        return value
