"""Each method's own settings: frozen pydantic models of scalars, so that they are also a notebook's parameters. No torch.

The defaults are the paper's; `demo` holds what `size=demo` changes. A name here must not hide a field of
`experiments.ExperimentParameters` (patch, maps, markers, ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from workbench.errors import ParameterError
from workbench.models.catalogue import card


class MethodOptions(BaseModel):
    """What every method's options share: frozen, nothing unknown, plain scalars."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    demo: ClassVar[Mapping[str, Any]] = {}
    """Options that `size=demo` changes."""


class UNetOptions(MethodOptions):
    """`unet`: MONAI's DynUNet by nnU-Net's recipe."""

    width: int = Field(32, ge=4, le=128, description="features of the first level; they double per level, up to ten times this")
    levels: int = Field(6, ge=3, le=8, description="resolutions; nnU-Net's rule gives 6 for a 128^3 patch, 5 for 64^3")
    deep_supervision: bool = Field(True, description="supervise all but the two coarsest levels, weights halving per level")
    demo: ClassVar[Mapping[str, Any]] = {"width": 8, "levels": 4}


class MtsUNetOptions(MethodOptions):
    """`mts_unet`: TAFE, CMD and DSF on the BrainSegFounder-Tiny backbone."""

    feature_size: int = Field(48, ge=12, description="width of the SwinUNETR backbone; a multiple of 12")
    window: int = Field(7, ge=2, le=16, description="side of Swin's attention windows")
    backbones: int = Field(2, ge=1, le=2, description="2: TAFE and CMD each have one (paper); 1: shared, a light variant of ours")
    tafe_stages: int = Field(1, ge=1, le=4, description="deepest Swin stages that TAFE pools and concatenates")
    streams: Literal["dsf", "tafe", "cmd"] = Field("dsf", description="what IDH is read from: both streams fused, or one alone")
    fusion: Literal["features", "published"] = Field(
        "features", description="DSF fuses pooled features (paper) or the two streams' logits (published code)"
    )
    fallback: Literal["shared", "head"] = Field(
        "shared", description="without T2 or FLAIR: DSF's classifier with CMD's features at zero, or a TAFE classifier of its own"
    )
    cmd: Literal["v1", "cbam"] = Field(
        "v1", description="CMD form: separate convolutions and spatial attention, or shared and CBAM"
    )
    attention: Literal["corrected", "published"] = Field(
        "corrected",
        description="CMD's spatial attention: sigmoid (paper), or sigmoid of ReLU (published code), which stays above 0.5",
    )
    cmd_channels: int = Field(64, ge=4, description="feature channels of CMD")
    gamma: float = Field(2.0, gt=0, description="amplification of the T2-FLAIR difference")
    min_gate: float = Field(0.1, ge=0, le=1, description="m in the gate m + (1 - m) P(tumour)")
    gate: Literal["attached", "detached"] = Field(
        "attached", description="whether the IDH loss reaches the segmentation through the gate (attached: published code)"
    )
    cmd_dropout: float = Field(
        0.2, ge=0, lt=1, description="share of training samples whose CMD stream is dropped: trains the fallback"
    )
    normalise: bool = Field(True, description="TAFE reads layer-normalised stages, as the published code does")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout in every classifier")
    grade_classes: int = Field(2, ge=2, le=3, description="2: grade 4 against 2 and 3; 3: grades 2, 3, 4")
    alpha: float = Field(1.0, ge=0, description="weight of the segmentation loss")
    beta: float = Field(1.0, ge=0, description="weight of each marker's loss")
    segmentation_first: float = Field(
        0.0, ge=0, lt=1, description="share of the steps that train the segmentation alone, before joint"
    )
    checkpointing: bool = Field(True, description="recompute Swin activations in the backward pass: less memory, slower")
    demo: ClassVar[Mapping[str, Any]] = {
        "feature_size": 12,
        "window": 4,
        "backbones": 1,
        "cmd_channels": 16,
        "checkpointing": False,
    }

    @field_validator("feature_size")
    @classmethod
    def _multiple_of_twelve(cls, value: int) -> int:
        if value % 12:
            raise ValueError(f"SwinUNETR needs a multiple of 12; found {value}")
        return value


OPTIONS: dict[str, type[MethodOptions]] = {"unet": UNetOptions, "mts_unet": MtsUNetOptions}


def options_class(method: str) -> type[MethodOptions]:
    """The options of a built method.

    Raises:
        ParameterError: no such method, or one that is only planned; the message lists those there are.
    """
    card(method)
    if method not in OPTIONS:
        raise ParameterError(f"method '{method}' is planned, not built yet; there are: {', '.join(OPTIONS)}")
    return OPTIONS[method]


def demo_options(method: str) -> dict[str, Any]:
    """What `size=demo` changes in the method's options."""
    return dict(options_class(method).demo)


def build_options(method: str, values: Mapping[str, Any]) -> MethodOptions:
    """Check values and build the options.

    Raises:
        ParameterError: an unknown option or a value out of range, each named, with what there is.
    """
    chosen = options_class(method)
    try:
        return chosen(**values)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = ".".join(map(str, item["loc"]))
            if item["type"] == "extra_forbidden":
                lines.append(f"option '{name}' is unknown to {method}; there are: {', '.join(chosen.model_fields)}")
            else:
                lines.append(f"option '{name}' of {method} = {item['input']!r}: {item['msg']}")
        raise ParameterError("\n".join(lines)) from None


def nnunet_levels(patch: tuple[int, int, int], smallest: int = 4) -> int:
    """Number of resolutions by nnU-Net's rule at isotropic spacing: halve while every side stays at `smallest` or more.

    nnU-Net halves each axis by itself; with one divisor for all axes the shortest side decides. At isotropic spacing all
    kernels are 3^3 and all strides 2, so that this number is the whole plan.
    """
    side, levels = min(patch), 1
    while side % 2 == 0 and side // 2 >= smallest:
        side, levels = side // 2, levels + 1
    return levels
