"""Options of the methods on the Swin backbone (`models.swin`). No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

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
