"""Facts of AMAES, its pretraining and the U-Net that starts from it: cards, options, sizes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from workbench.contracts import PRETRAINING, SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import UNSET, MethodOptions


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
    masked_mean: Literal["all", "hidden"] = Field(
        "all", description="with masked_only, what the squares of the hidden voxels are divided by: the number of all voxels "
        "(public code), or that of the hidden ones, which weighs 1 / masked_share as much",
    )  # fmt: skip
    later: ClassVar[tuple[str, ...]] = ("masked_mean",)
    before: ClassVar[Mapping[str, Any]] = {"masked_mean": "hidden"}
    reversal: bool = Field(
        True,
        description="reconstruct the image as it was before intensity augmentation; false: as it was shown (plain masked "
        "autoencoder; the published one has no augmentation either, set augment to false)",
    )

    @classmethod
    def without_later(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As everywhere; `masked_mean` is named only where it means something."""
        kept = super().without_later(values)
        if not kept.get("masked_only"):
            kept.pop("masked_mean", None)
        return kept


class AmaesOptions(AmaesUNetOptions):
    """`amaes`: the U-Net with skips, on all sequences at once."""

    pretrained: str = Field(
        "", description="encoder that amaes_pretrain left, or a released checkpoint of AMAES' pretraining; empty: random weights"
    )
    stem: Literal["mean", "copied", "random"] = Field(
        "mean",
        description="first convolution, whose pretrained form has one channel: that for each sequence, divided by their number "
        "or not, or random weights (published code, which transfers equal shapes only)",
    )


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="amaes", title="AMAES U-Net (fine-tuning)", paper="Munk et al., ADSMI 2024, arXiv 2408.00640",
            tasks=(SEGMENTATION,), parameters=22_580_964, reported="22 M, U-Net B",
        ),
        options=AmaesOptions, builder="workbench.models.amaes.amaes:Amaes",
        demo={
            "width": 8, "epochs": 12, "steps_per_epoch": 12, "learning_rate": 5e-3, "modality_dropout": 1.0,
            "dropout_mode": "subset",
        },
        # Munk: 500 epochs of 100 steps of 8 patches; all subsets of the sequences equally often is the workbench's
        paper={
            "epochs": 500, "steps_per_epoch": 100, "learning_rate": 1e-4, "batch_size": 8, "weight_decay": 3e-5,
            "modality_dropout": 1.0, "dropout_mode": "subset",
        },
    ),
    MethodFacts(
        card=ModelCard(
            name="amaes_pretrain", title="AMAES pretraining (masked autoencoder)",
            paper="Munk et al., ADSMI 2024, arXiv 2408.00640", tasks=(PRETRAINING,), parameters=17_877_153,
        ),
        options=AmaesPretrainOptions, builder="workbench.models.amaes.amaes_pretrain:AmaesPretrain",
        demo={
            "width": 8, "sampling": "patch", "epochs": 4, "steps_per_epoch": 6, "learning_rate": 3e-3, "modality_dropout": 0.0,
            "validate_every": 2, "ema": 0.0,
        },
        # 100 epochs of one pass; its 5 epochs of warm-up: warmup 0.05
        paper={"epochs": 100, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "batch_size": 8},
    ),
)  # fmt: skip
