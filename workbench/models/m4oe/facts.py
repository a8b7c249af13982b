"""Facts of M4oE: card, options, sizes. No torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from workbench.contracts import SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import MethodOptions

PATCH = 4
"""Voxels along an edge of a token."""


class M4oEOptions(MethodOptions):
    """`m4oe`: a 3-D Swin-UNet whose feed-forward networks are mixtures of experts, one expert per sequence."""

    later: ClassVar[tuple[str, ...]] = ("identity_blocks", "dice")

    width: int = Field(96, ge=12, le=192, description="features at 1/4; they double per level; a multiple of 12")
    window: int = Field(7, ge=2, le=16, description="side of Swin's attention windows, in tokens")
    gate: Literal["expert", "as_released"] = Field(
        "expert",
        description="expert: a weight per expert, of available sequences only; as_released: a weight per feature, the same for "
        "all experts, which selects nothing (public code)",
    )
    dice_weight: float = Field(0.7, ge=0, description="weight of Dice in the loss")
    dice: Literal["foreground", "published"] = Field(
        "foreground", description="Dice of the foreground over the batch, as everywhere here, or with background, squares in the "
        "denominator and per sample (public code)",
    )  # fmt: skip
    cross_entropy_weight: float = Field(0.4, ge=0, description="weight of cross-entropy in the loss")
    checkpointing: bool = Field(True, description="recompute activations in the backward pass: less memory, slower")
    identity_blocks: bool = Field(
        False,
        description="every Swin block, experts included, replaced by the identity (ablation); patch embedding, merging and all "
        "else stay",
    )

    @field_validator("width")
    @classmethod
    def _multiple_of_twelve(cls, value: int) -> int:
        if value % 12:
            raise ValueError(f"three attention heads and the decoder need a multiple of 12; found {value}")
        return value


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="m4oe", title="M4oE in 3-D (experts per sequence)",
            paper="MICCAI 2024, arXiv 2405.09446 (2-D, abdomen); ported", tasks=(SEGMENTATION,), parameters=77_528_928,
        ),
        options=M4oEOptions, builder="workbench.models.m4oe.m4oe:M4oE",
        demo={
            "width": 24, "window": 4, "checkpointing": False,
            "epochs": 8, "steps_per_epoch": 8, "learning_rate": 2e-3, "modality_dropout": 1.0, "dropout_mode": "subset",
        },
        # early stopping, epochs and weight decay are M4oE's; its 36 slices a batch with SGD 0.05 have no counterpart in 3-D
        paper={
            "epochs": 150, "learning_rate": 1e-4, "weight_decay": 1e-4, "validate_every": 2, "patience": 7,
            "modality_dropout": 1.0, "dropout_mode": "subset",
        },
    ),
)  # fmt: skip
