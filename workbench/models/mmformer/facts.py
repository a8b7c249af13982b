"""Facts of mmFormer: card, options, sizes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from workbench.contracts import SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import UNSET, MethodOptions

TOKEN = 16
"""Voxels along an edge of a token: the deepest of five resolutions."""
_SWITCH = {True: "shown", False: "off", "true": "shown", "false": "off", "True": "shown", "False": "off"}
"""`auxiliary` was on or off before it said for which sequences."""


def _auxiliary(value: Any) -> Any:
    return _SWITCH.get(value, value) if isinstance(value, bool | str) else value


Auxiliary = Annotated[Literal["shown", "acquired", "off"], BeforeValidator(_auxiliary)]


class MMFormerOptions(MethodOptions):
    """`mmformer`: an encoder and a Transformer per sequence, a Transformer over all of them."""

    width: int = Field(8, ge=2, le=64, description="features of the encoders at full resolution; they double per level")
    embedding: int = Field(512, ge=8, description="width of the Transformers' tokens")
    depth: int = Field(1, ge=1, le=12, description="layers of each Transformer")
    heads: int = Field(8, ge=1, description="attention heads")
    mlp: int = Field(4096, ge=4, description="width of the Transformers' feed-forward networks")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the Transformers")
    positions: int = Field(
        128, ge=16, description="edge in voxels for which token positions are learned; interpolated for other sizes"
    )
    layout: Literal["aligned", "published"] = Field(
        "aligned",
        description="which tokens a voxel reads after the inter-modal Transformer: its own of each sequence, or neighbours of "
        "one sequence, as the public code views its tokens",
    )
    absent_tokens: Literal["masked", "zero"] = Field(
        "masked", description="absent sequences: no part in attention, or zero tokens with positions that take part (public code)"
    )
    intra: bool = Field(True, description="Transformer within each sequence (ablation: off)")
    inter: bool = Field(True, description="Transformer across sequences (ablation: off)")
    auxiliary: Auxiliary = Field(
        "shown",
        description="losses of coarser levels and of each sequence alone: of those shown, of all acquired also where dropout hid "
        "them (public code), or off (ablation)",
    )
    fusion_borders: Literal["zeros", "mirrored"] = Field(
        "zeros", description="what the fusions' 3^3 convolutions see beyond the border: zeros (public code), or a mirror image"
    )
    pretrained: str = Field("", description="released weights of mmFormer; empty: random weights")
    later: ClassVar[tuple[str, ...]] = ("pretrained", "fusion_borders")
    before: ClassVar[Mapping[str, Any]] = {"fusion_borders": "mirrored"}

    @classmethod
    def without_later(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As everywhere; `auxiliary` keeps the words it had as a switch, so that runs keep their ids."""
        before = {"shown": True, "off": False}
        return {
            name: before.get(value, value) if name == "auxiliary" else value
            for name, value in super().without_later(values).items()
        }

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.embedding % self.heads:
            raise ValueError(f"'embedding' ({self.embedding}) must be a multiple of 'heads' ({self.heads})")
        if self.positions % TOKEN:
            raise ValueError(f"'positions' must be a multiple of the token's edge, {TOKEN}; found {self.positions}")
        return self


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="mmformer", title="mmFormer", paper="Zhang et al., MICCAI 2022, arXiv 2206.02425", tasks=(SEGMENTATION,),
            modalities=("flair", "t1c", "t1", "t2"), parameters=36_391_760,
            reported="36.7 M in the public code, 106 M in the paper",
        ),
        options=MMFormerOptions, builder="workbench.models.mmformer.mmformer:MMFormer",
        demo={
            "width": 4, "embedding": 64, "mlp": 128, "positions": 64,
            "epochs": 4, "steps_per_epoch": 6, "learning_rate": 2e-3, "modality_dropout": 1.0, "dropout_mode": "subset",
        },
        # Zhang: 1000 epochs of one pass, batch 8, 2e-4, weight decay 1e-4, all non-empty subsets equally often
        paper={
            "epochs": 1000, "steps_per_epoch": UNSET, "learning_rate": 2e-4, "batch_size": 8, "weight_decay": 1e-4,
            "modality_dropout": 1.0, "dropout_mode": "subset",
        },
    ),
)  # fmt: skip
