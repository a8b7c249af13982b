"""Options of AMAES: pretraining, and the U-Net that starts from it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from workbench.models.options_base import MethodOptions


class AmaesUNetOptions(MethodOptions):
    """The U-Net of both."""

    width: int = Field(
        32, ge=4, le=128, description="features at full resolution; they double four times; 32: U-Net B, 64: U-Net XL"
    )


class AmaesPretrainOptions(AmaesUNetOptions):
    """`amaes_pretrain`: a masked autoencoder without skips, one sequence at a time."""

    masked_share: float = Field(0.6, gt=0, lt=1, description="share of the units of an image that are hidden")
    mask_unit: int = Field(4, ge=1, le=32, description="edge of a unit in voxels")
    masked_only: bool = Field(False, description="count the hidden voxels only; false: all voxels (published default)")
    reversal: bool = Field(
        True,
        description="reconstruct the image as it was before intensity augmentation; false: as it was shown (plain masked "
        "autoencoder; the published one has no augmentation either, set augment to false)",
    )
    demo: ClassVar[Mapping[str, Any]] = {"width": 8}


class AmaesOptions(AmaesUNetOptions):
    """`amaes`: the U-Net with skips, on all sequences at once."""

    pretrained: str = Field("", description="encoder that amaes_pretrain left; empty: random weights")
    stem: Literal["mean", "copied", "random"] = Field(
        "mean",
        description="first convolution, whose pretrained form has one channel: that for each sequence, divided by their number "
        "or not, or random weights (published code, which transfers equal shapes only)",
    )
    demo: ClassVar[Mapping[str, Any]] = {"width": 8}
