"""Facts of the U-Net by nnU-Net's recipe: card, options, sizes. No torch."""

from __future__ import annotations

from pydantic import Field

from workbench.contracts import SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import MethodOptions


class UNetOptions(MethodOptions):
    """`unet`: MONAI's DynUNet by nnU-Net's recipe."""

    width: int = Field(32, ge=4, le=128, description="features of the first level; they double per level, up to ten times this")
    levels: int = Field(6, ge=3, le=8, description="resolutions; nnU-Net's rule gives 6 for a 128^3 patch, 5 for 64^3")
    deep_supervision: bool = Field(True, description="supervise all but the two coarsest levels, weights halving per level")


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="unet", title="U-Net (nnU-Net recipe)", paper="Isensee et al., Nature Methods 2021; MONAI DynUNet",
            tasks=(SEGMENTATION,), parameters=31_195_156,
        ),
        options=UNetOptions, builder="workbench.models.unet.unet:UNet",
        demo={"width": 8, "levels": 4, "epochs": 12, "steps_per_epoch": 12, "learning_rate": 5e-3},
        # nnU-Net: 1000 epochs of 250 steps, batch 2, patch 128^3, initial learning rate 1e-2 (SGD) - AdamW here, hence lower
        paper={"epochs": 1000, "learning_rate": 1e-3, "weight_decay": 3e-5},
    ),
)  # fmt: skip
