"""Options of the glioma methods, MTS-UNET and MGMT-Net. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from workbench.models.options_swin import PretrainedSwinOptions


class MtsUNetOptions(PretrainedSwinOptions):
    """`mts_unet`: TAFE, CMD and DSF on the BrainSegFounder-Tiny backbone."""

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
    demo: ClassVar[Mapping[str, Any]] = {
        "feature_size": 12,
        "window": 4,
        "backbones": 1,
        "cmd_channels": 16,
        "checkpointing": False,
    }
