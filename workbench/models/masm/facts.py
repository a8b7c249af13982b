"""Facts of MASM: card, options, sizes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from workbench.contracts import SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import MethodOptions

PUBLISHED_WIDTH = {"unet": 32, "unetr": 16, "swin_unetr": 48}
"""Features at full resolution that each backbone has by itself."""


class MasmOptions(MethodOptions):
    """`masm`: one encoder for every sequence, token mixers between sequences in place of the skips."""

    later: ClassVar[tuple[str, ...]] = ("identity_blocks", "fusion")

    backbone: Literal["unet", "unetr", "swin_unetr"] = Field("unet", description="encoder, shared by the sequences, and decoder")
    width: int = Field(
        -1, ge=-1, le=128, description="features at full resolution; unset: 32 in unet, 16 in unetr, 48 in swin_unetr"
    )
    levels: int = Field(6, ge=3, le=7, description="backbone unet: resolutions; features double per level, up to ten times width")
    token_width: int = Field(768, ge=12, description="backbone unetr: width of its transformer, a multiple of its 12 heads")
    mixers: Literal["aware_shift", "aware", "shift", "none"] = Field(
        "aware_shift",
        description="Modality-Aware at all levels but the deepest and Modality-Shift there (paper), either one at all levels, or "
        "neither",
    )
    pairing: Literal["clinical", "random"] = Field(
        "clinical",
        description="which sequences refill and attend to each other: t1 with t1c, t2 with flair, dwi with adc; or drawn",
    )
    masking: Literal["gumbel", "none"] = Field("gumbel", description="tokens kept or dropped by a learnt decision, or all kept")
    temperature: float = Field(1.0, gt=0, le=10, description="of the Gumbel softmax that decides in training")
    final_temperature: float = Field(-1.0, ge=-1, le=10, description="temperature at the end of the run; unset: it stays")
    keep_ratio: float = Field(
        0.7, gt=0, lt=1, description="share of kept tokens at the start, and what the keep-ratio loss asks for"
    )
    ratio_weight: float = Field(0.0, ge=0, description="weight of the keep-ratio loss; 0: none, 2: as DynamicViT")
    shift: Literal["mosaic", "learned", "none"] = Field(
        "mosaic", description="move of tokens between sequences: fixed pattern without parameters, learnt pattern, or none"
    )
    join: Literal["concat", "mean"] = Field(
        "concat",
        description="sequences joined for the decoder: concatenated, absent ones zero, and mapped linearly; or their mean",
    )
    grid: int = Field(8, ge=2, le=16, description="most tokens along an edge: finer levels are averaged over patches")
    heads: int = Field(8, ge=1, description="attention heads of the mixers")
    mlp_ratio: int = Field(4, ge=1, le=8, description="hidden features of the mixers' perceptrons over their width")
    gather: bool = Field(False, description="outside training compute the kept tokens only; the same numbers, fewer operations")
    checkpointing: bool = Field(
        True, description="recompute the encoder of each sequence in the backward pass: less memory, slower"
    )
    identity_blocks: bool = Field(
        False,
        description="attention and perceptrons of the mixers replaced by the identity (ablation); masks and refilling stay",
    )
    fusion: Literal["separate", "early"] = Field(
        "separate",
        description="each sequence encoded by itself (paper), or all of them stacked as channels of one pass (ablation; wants "
        "mixers none, and joins nothing)",
    )

    @model_validator(mode="before")
    @classmethod
    def _published(cls, values: Any) -> Any:
        """An unset width is the backbone's own: built models and their checkpoints name the number."""
        if isinstance(values, Mapping) and values.get("width", -1) in (-1, "-1"):
            return dict(values) | {"width": PUBLISHED_WIDTH.get(str(values.get("backbone", "unet")), 32)}
        return values

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.width < 4:
            raise ValueError(f"'width' must be 4 or more, or -1 for the backbone's own; found {self.width}")
        if self.width % self.heads:
            raise ValueError(f"'width' ({self.width}) must be a multiple of 'heads' ({self.heads})")
        if self.backbone == "swin_unetr" and self.width % 12:
            raise ValueError(f"SwinUNETR needs a 'width' that is a multiple of 12; found {self.width}")
        if self.backbone == "unetr" and (self.token_width % 12 or self.token_width % self.heads):
            raise ValueError(f"'token_width' ({self.token_width}) must be a multiple of 12 and of 'heads' ({self.heads})")
        if self.fusion == "early" and self.mixers != "none":
            raise ValueError(f"'fusion' early leaves one stream and nothing to mix: set 'mixers' to none; found {self.mixers}")
        if self.identity_blocks and (self.mixers not in ("aware_shift", "aware") or self.masking == "none"):
            raise ValueError(
                "'identity_blocks' leaves the mixers their masks and refilling, which only Modality-Aware with 'masking' gumbel "
                "has: without them nothing of the mixers is left, and that is 'mixers' none"
            )
        if self.final_temperature != -1 and self.final_temperature <= 0:
            raise ValueError(
                f"'final_temperature' must be positive, or -1: the temperature stays; found {self.final_temperature}"
            )
        return self


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="masm", title="MASM (re-implementation without public code)", paper="Huang et al., arXiv 2403.02074",
            tasks=(SEGMENTATION,), parameters=36_908_846,
        ),
        options=MasmOptions, builder="workbench.models.masm.masm:Masm",
        # four encoder passes a case: batches of one
        demo={
            "width": 8, "levels": 5, "token_width": 96, "grid": 4, "heads": 4, "mlp_ratio": 2, "checkpointing": False,
            "epochs": 6, "steps_per_epoch": 8, "learning_rate": 5e-3, "batch_size": 1,
        },
    ),
)  # fmt: skip
