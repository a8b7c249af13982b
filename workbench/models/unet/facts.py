"""Facts of the U-Net by nnU-Net's recipe: card, options, sizes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from workbench.contracts import SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import MethodOptions
from workbench.models.recipe import EPOCHS, NNUNET


class UNetOptions(MethodOptions):
    """`unet`: nnU-Net's plain U-Net and loss."""

    later: ClassVar[tuple[str, ...]] = ("batch_dice", "supervise_coarsest", "encoder")
    before: ClassVar[Mapping[str, Any]] = {"batch_dice": True, "supervise_coarsest": True}

    width: int = Field(32, ge=4, le=128, description="features of the first level; they double per level, up to ten times this")
    levels: int = Field(6, ge=3, le=8, description="resolutions; nnU-Net's rule gives 6 for a 128^3 patch, 5 for 64^3")
    encoder: Literal["plain", "residual"] = Field(
        "plain", description="two convolutions per level, or residual blocks (1, 3, 4, 6, 6, 6; nnU-Net's ResEnc plans)"
    )
    deep_supervision: bool = Field(True, description="supervise the decoder's levels, weights halving per level")
    supervise_coarsest: bool = Field(False, description="the coarsest decoder level too, which nnU-Net leaves out")
    batch_dice: bool = Field(False, description="Dice over the voxels of the batch; false: per sample, then averaged (nnU-Net)")


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="unet", title="U-Net (nnU-Net recipe)", paper="Isensee et al., Nature Methods 2021; nnU-Net v2 3d_fullres",
            tasks=(SEGMENTATION,), parameters=31_199_796,
        ),
        options=UNetOptions, builder="workbench.models.unet.unet:UNet",
        # a hundred and some steps on whole brains: AdamW, Dice over the batch and help from every level
        demo={
            "width": 8, "levels": 4, "batch_dice": True, "supervise_coarsest": True, "epochs": 12, "steps_per_epoch": 12,
            "learning_rate": 5e-3,
        },
        paper=NNUNET | {"epochs": EPOCHS},
    ),
)  # fmt: skip
