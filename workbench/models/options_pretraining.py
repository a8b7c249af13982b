"""Options of the self-supervised methods. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from workbench.models.options_swin import PretrainedSwinOptions


class PretrainSwinOptions(PretrainedSwinOptions):
    """`pretrain_swin`: BrainSegFounder's three pretext tasks."""

    corruption: float = Field(0.3, ge=0, lt=1, description="largest share of the voxels in corrupted cuboids")
    projection: int = Field(512, ge=2, description="width of the contrastive projection")
    temperature: float = Field(0.5, gt=0, description="temperature of the contrastive loss")
    tokens: Literal["published", "pooled"] = Field(
        "published",
        description="what rotation and contrast are read from: tokens 0 and 1 of the deepest state, two voxels in its corner "
        "(published code), or the mean of all its tokens",
    )
    rotation_weight: float = Field(1.0, ge=0, description="weight of the rotation loss")
    contrastive_weight: float = Field(1.0, ge=0, description="weight of the contrastive loss")
    reconstruction_weight: float = Field(1.0, ge=0, description="weight of the reconstruction loss")
    demo: ClassVar[Mapping[str, Any]] = {"feature_size": 12, "window": 4, "checkpointing": False, "projection": 64}
