"""Facts of the Swin backbone (`models.swin`) and of its pretraining: card, options, sizes. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from workbench.contracts import PRETRAINING
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import MethodOptions

ENCODER_DEPTHS: dict[str, tuple[int, int, int, int]] = {"tiny": (2, 2, 2, 2), "small": (2, 2, 6, 2), "big": (2, 2, 18, 2)}
"""BrainSegFounder's sizes: transformer blocks per stage."""


class SwinOptions(MethodOptions):
    """The backbone itself."""

    feature_size: int = Field(48, ge=12, description="width of the SwinUNETR backbone; a multiple of 12")
    window: int = Field(7, ge=2, le=16, description="side of Swin's attention windows")
    encoder: Literal["tiny", "small", "big"] = Field(
        "tiny", description="BrainSegFounder's size: blocks per stage 2-2-2-2, 2-2-6-2 or 2-2-18-2"
    )
    merging: Literal["current", "legacy"] = Field(
        "current",
        description="patch merging of MONAI 1.5 and later, which reads every token once, or that of 1.4 and before, which most "
        "published weights were trained with",
    )
    checkpointing: bool = Field(True, description="recompute Swin activations in the backward pass: less memory, slower")

    @field_validator("feature_size")
    @classmethod
    def _multiple_of_twelve(cls, value: int) -> int:
        if value % 12:
            raise ValueError(f"SwinUNETR needs a multiple of 12; found {value}")
        return value


class PretrainedSwinOptions(SwinOptions):
    """A backbone that may start from a file."""

    pretrained: str = Field(
        "", description="file of pretrained weights: BrainSegFounder's, MONAI's or pretrain_swin's encoder; empty: random weights"
    )
    stem: Literal["random", "mean", "copied"] = Field(
        "random",
        description="first convolution of sequences that the file does not know: random (BrainSegFounder's code), the mean of "
        "the file's channels divided over the sequences, or that mean undivided for each sequence",
    )
    pretrained_partial: bool = Field(
        False, description="also load a file of another depth: blocks that fit are loaded, others are left out or stay random"
    )


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


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="pretrain_swin", title="Swin pretraining (BrainSegFounder)", paper="Cox et al., MedIA 2024, arXiv 2406.10395",
            tasks=(PRETRAINING,), input=(96, 96, 96), parameters=19_098_490,
        ),
        options=PretrainSwinOptions, builder="workbench.models.swin.pretrain_swin:PretrainSwin",
        demo={
            "feature_size": 12, "window": 4, "checkpointing": False, "projection": 64,
            "sampling": "patch", "epochs": 4, "steps_per_epoch": 5, "learning_rate": 1e-3, "weight_decay": 0.1,
            "modality_dropout": 0.0, "validate_every": 2, "ema": 0.0,
        },
        # AdamW 4e-4, weight decay 0.1, 100,000 steps of 2 volumes with 2 crops each, 500 of them warm-up
        paper={
            "patch": 96, "batch_size": 4, "epochs": 400, "learning_rate": 4e-4, "weight_decay": 0.1, "validate_every": 2,
            "warmup": 0.005,
        },
    ),
)  # fmt: skip
