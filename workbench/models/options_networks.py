"""Options of the plain networks: the baselines that the methods are compared with. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from workbench.models.options_base import MethodOptions
from workbench.models.options_swin import PretrainedSwinOptions


class UNetOptions(MethodOptions):
    """`unet`: MONAI's DynUNet by nnU-Net's recipe."""

    width: int = Field(32, ge=4, le=128, description="features of the first level; they double per level, up to ten times this")
    levels: int = Field(6, ge=3, le=8, description="resolutions; nnU-Net's rule gives 6 for a 128^3 patch, 5 for 64^3")
    deep_supervision: bool = Field(True, description="supervise all but the two coarsest levels, weights halving per level")
    demo: ClassVar[Mapping[str, Any]] = {"width": 8, "levels": 4}


class NetworkOptions(MethodOptions):
    """The networks of notebooks/baselines.ipynb share its parameters cell: an option of one name means one thing in all."""

    width: int = Field(
        -1, ge=-1, le=256, description="features at full resolution, in densenet121 those of the first convolution; -1: published"
    )

    @model_validator(mode="before")
    @classmethod
    def _published(cls, values: Any) -> Any:
        """What is not said, or said to be -1, is the published size: built models and their checkpoints name the number."""
        if isinstance(values, Mapping):
            return dict(values) | {k: v for k, v in cls.paper.items() if values.get(k, -1) in (-1, "-1")}
        return values

    @model_validator(mode="after")
    def _sensible_width(self) -> Self:
        if self.width < 1:
            raise ValueError(f"'width' must be positive, or -1 for the published one; found {self.width}")
        return self


class SegResNetOptions(NetworkOptions):
    """`segresnet`: MONAI's SegResNet, the network that won BraTS 2018, without its autoencoder branch."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 32}
    stem_dropout: float = Field(0.2, ge=0, lt=1, description="segresnet: dropout of features after the first convolution")
    demo: ClassVar[Mapping[str, Any]] = {"width": 8}

    @model_validator(mode="after")
    def _groups(self) -> Self:
        if self.width % 8:
            raise ValueError(f"segresnet normalises in 8 groups of features: 'width' must be a multiple of 8; found {self.width}")
        return self


class UNETROptions(NetworkOptions):
    """`unetr`: a ViT-B/16 encoder and a convolutional decoder."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 16}
    hidden: int = Field(768, ge=4, description="unetr: width of the transformer")
    heads: int = Field(12, ge=1, description="unetr: attention heads")
    mlp: int = Field(3072, ge=4, description="unetr: width of the transformer's MLPs")
    positions: int = Field(
        128, ge=16, description="unetr: edge in voxels for which position embeddings are learned; interpolated for other sizes"
    )
    demo: ClassVar[Mapping[str, Any]] = {"width": 8, "hidden": 96, "heads": 4, "mlp": 192, "positions": 64}

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"'hidden' ({self.hidden}) must be a multiple of 'heads' ({self.heads})")
        if self.positions % 16:
            raise ValueError(f"'positions' must be a multiple of the token size, 16; found {self.positions}")
        return self


class AttentionUNetOptions(NetworkOptions):
    """`attention_unet`: a U-Net whose skips pass an attention gate."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 16}
    depth: int = Field(5, ge=2, le=7, description="attention_unet: resolutions; features double per level")
    demo: ClassVar[Mapping[str, Any]] = {"width": 8, "depth": 4}


class MedNeXtOptions(NetworkOptions):
    """`mednext`: a U-Net of ConvNeXt blocks with compound scaling."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 32}
    variant: Literal["S", "B", "M", "L"] = Field("L", description="mednext: size, small to large: blocks and expansion per level")
    kernel: Literal[3, 5, 7] = Field(3, description="mednext: side of the depthwise convolutions; 3 and 5 are published")
    supervise_levels: bool = Field(
        True, description="mednext: deep supervision at all five resolutions, weights halving per level"
    )
    demo: ClassVar[Mapping[str, Any]] = {"width": 8, "variant": "S"}


class SwinUNETROptions(PretrainedSwinOptions):
    """`swin_unetr`: the Swin backbone on its own, MONAI's SwinUNETR."""

    demo: ClassVar[Mapping[str, Any]] = {"feature_size": 12, "window": 4, "checkpointing": False}


class DenseNetOptions(NetworkOptions):
    """`densenet121`: the plain marker classifier on images, without a mask."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 64}
    growth: int = Field(32, ge=2, description="densenet121: features that each layer adds")
    head_dropout: float = Field(0.0, ge=0, lt=1, description="densenet121: dropout before the classifiers")
    grade_classes: int = Field(2, ge=2, le=3, description="2: grade 4 against 2 and 3; 3: grades 2, 3, 4")
    demo: ClassVar[Mapping[str, Any]] = {"width": 16, "growth": 8}


def nnunet_levels(patch: tuple[int, int, int], smallest: int = 4) -> int:
    """Number of resolutions by nnU-Net's rule at isotropic spacing: halve while every side stays at `smallest` or more.

    nnU-Net halves each axis by itself; with one divisor for all axes the shortest side decides. At isotropic spacing all
    kernels are 3^3 and all strides 2, so that this number is the whole plan.
    """
    side, levels = min(patch), 1
    while side % 2 == 0 and side // 2 >= smallest:
        side, levels = side // 2, levels + 1
    return levels
