"""Facts of the plain networks that the methods are compared with: cards, options, sizes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from workbench.contracts import MARKER_TASK, SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import UNSET, MethodOptions
from workbench.models.swin.facts import PretrainedSwinOptions

TOKEN = 16
"""Voxels along an edge of a token of UNETR."""


class NetworkOptions(MethodOptions):
    """The networks of notebooks/baselines.ipynb share its parameters cell: an option of one name means one thing in all."""

    width: int = Field(
        -1, ge=-1, le=256, description="features at full resolution, in densenet121 those of the first convolution; -1: published"
    )

    @model_validator(mode="after")
    def _sensible_width(self) -> Self:
        if self.width < 1:
            raise ValueError(f"'width' must be positive, or -1 for the published one; found {self.width}")
        return self


class SegResNetOptions(NetworkOptions):
    """`segresnet`: MONAI's SegResNet, the network that won BraTS 2018, without its autoencoder branch."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 32}
    stem_dropout: float = Field(0.2, ge=0, lt=1, description="segresnet: dropout of features after the first convolution")

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

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"'hidden' ({self.hidden}) must be a multiple of 'heads' ({self.heads})")
        if self.positions % TOKEN:
            raise ValueError(f"'positions' must be a multiple of the token size, {TOKEN}; found {self.positions}")
        return self


class AttentionUNetOptions(NetworkOptions):
    """`attention_unet`: a U-Net whose skips pass an attention gate."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 16}
    depth: int = Field(5, ge=2, le=7, description="attention_unet: resolutions; features double per level")


class MedNeXtOptions(NetworkOptions):
    """`mednext`: a U-Net of ConvNeXt blocks with compound scaling."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 32}
    variant: Literal["S", "B", "M", "L"] = Field("L", description="mednext: size, small to large: blocks and expansion per level")
    kernel: Literal[3, 5, 7] = Field(3, description="mednext: side of the depthwise convolutions; 3 and 5 are published")
    supervise_levels: bool = Field(
        True, description="mednext: deep supervision at all five resolutions, weights halving per level"
    )


class SwinUNETROptions(PretrainedSwinOptions):
    """`swin_unetr`: the Swin backbone on its own, MONAI's SwinUNETR."""


class DenseNetOptions(NetworkOptions):
    """`densenet121`: the plain marker classifier on images, without a mask."""

    paper: ClassVar[Mapping[str, Any]] = {"width": 64}
    growth: int = Field(32, ge=2, description="densenet121: features that each layer adds")
    head_dropout: float = Field(0.0, ge=0, lt=1, description="densenet121: dropout before the classifiers")
    grade_classes: int = Field(2, ge=2, le=3, description="2: grade 4 against 2 and 3; 3: grades 2, 3, 4")


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="segresnet", title="SegResNet", paper="Myronenko, arXiv 1810.11654", tasks=(SEGMENTATION,),
            notebook="baselines", input=(160, 192, 128), parameters=18_798_660,
        ),
        options=SegResNetOptions, builder="workbench.models.baselines.segresnet:SegResNet",
        demo={"width": 8, "epochs": 12, "steps_per_epoch": 12, "learning_rate": 5e-3},
        # Myronenko: Adam 1e-4, weight decay 1e-5, 300 epochs, batch 1
        paper={"epochs": 300, "learning_rate": 1e-4, "batch_size": 1},
    ),
    MethodFacts(
        card=ModelCard(
            name="swin_unetr", title="Swin UNETR", paper="Hatamizadeh et al., arXiv 2201.01266", tasks=(SEGMENTATION,),
            notebook="baselines", parameters=62_191_990,
        ),
        options=SwinUNETROptions, builder="workbench.models.baselines.swin_unetr:SwinUNETR",
        demo={
            "feature_size": 12, "window": 4, "checkpointing": False, "epochs": 4, "steps_per_epoch": 8, "learning_rate": 2e-3,
        },
        paper={"epochs": 300, "learning_rate": 1e-4, "batch_size": 1},
    ),
    MethodFacts(
        card=ModelCard(
            name="unetr", title="UNETR", paper="Hatamizadeh et al., arXiv 2103.10504", tasks=(SEGMENTATION,),
            notebook="baselines", parameters=102_449_732,
        ),
        options=UNETROptions, builder="workbench.models.baselines.unetr:UNETR",
        demo={
            "width": 8, "hidden": 96, "heads": 4, "mlp": 192, "positions": 64,
            "epochs": 8, "steps_per_epoch": 12, "learning_rate": 2e-3,
        },
        # Hatamizadeh: AdamW 1e-4, 20,000 steps of 6 patches
        paper={"epochs": 80, "learning_rate": 1e-4, "batch_size": 6},
    ),
    MethodFacts(
        card=ModelCard(
            name="attention_unet", title="Attention U-Net", paper="Oktay et al., arXiv 1804.03999", tasks=(SEGMENTATION,),
            notebook="baselines", parameters=5_910_460,
        ),
        options=AttentionUNetOptions, builder="workbench.models.baselines.attention_unet:AttentionUNet",
        demo={"width": 8, "depth": 4, "epochs": 12, "steps_per_epoch": 12, "learning_rate": 5e-3},
        paper={"epochs": 300, "learning_rate": 1e-4},
    ),
    MethodFacts(
        card=ModelCard(
            name="mednext", title="MedNeXt", paper="Roy et al., arXiv 2303.09975", tasks=(SEGMENTATION,), notebook="baselines",
            parameters=61_730_772,
        ),
        options=MedNeXtOptions, builder="workbench.models.baselines.mednext:MedNeXt",
        demo={"width": 8, "variant": "S", "epochs": 4, "steps_per_epoch": 10, "learning_rate": 5e-3},
        # Roy: nnU-Net's 1000 epochs of 250 steps of 2 patches, AdamW 1e-3
        paper={"epochs": 1000, "learning_rate": 1e-3, "weight_decay": 3e-5},
    ),
    MethodFacts(
        card=ModelCard(
            name="densenet121", title="DenseNet-121 (3-D)", paper="Huang et al., arXiv 1608.06993", tasks=(MARKER_TASK,),
            notebook="baselines", input=(160, 192, 160), markers=("idh",), parameters=11_309_505,
        ),
        options=DenseNetOptions, builder="workbench.models.baselines.densenet:DenseNet121",
        demo={"width": 16, "growth": 8, "epochs": 16, "steps_per_epoch": 12, "learning_rate": 1e-3},
        # no recipe for markers is published for it: as `mts_unet`, on whole brains
        paper={
            "patch": 192, "sampling": "whole", "epochs": 100, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "patience": 20,
            "validate_every": 1,
        },
    ),
)  # fmt: skip
