"""Facts of BrainFM-MRI, its pretraining and the method that starts from it: cards, options, sizes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from workbench.contracts import PRETRAINING
from workbench.models.method_facts import BOTH_TASKS, MethodFacts, ModelCard
from workbench.models.options_base import UNSET, MethodOptions


class BrainFMEncoderOptions(MethodOptions):
    """The encoder that pretraining and fine-tuning share: these must agree for one to start from the other."""

    token: Literal[8, 16] = Field(16, description="edge of a token in voxels")
    width: int = Field(768, ge=4, description="width of the transformer")
    depth: int = Field(12, ge=4, description="layers of the encoder")
    heads: int = Field(12, ge=1, description="attention heads")
    mlp: int = Field(3072, ge=4, description="width of the transformer's MLPs")
    positions: int = Field(20, ge=1, le=64, description="tokens along an edge for which positions are learned; beyond: none")
    positions_start: Literal["random", "sinusoidal"] = Field(
        "random", description="what the learned positions start from: noise of 0.02 (published code), or sines and cosines, from "
        "which short trainings learn places much sooner",
    )  # fmt: skip
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of attention, MLPs and residual branches")
    embeddings: str = Field(
        "", description="file of text vectors from `workbench modality-embeddings` (BioBERT); empty: the built-in text vectors"
    )
    norm: Literal["conditional", "layer"] = Field(
        "conditional", description="norms of the encoder: layer norm conditioned on the sequence, or plain layer norm"
    )
    modality_embedding: Literal["text", "one_hot"] = Field(
        "text", description="sequences are known by the text of their names, or each by a learned vector: any others are refused"
    )
    padding_mask: bool = Field(
        True, description="absent sequences are masked out; false: they are read as zeros, masked and asked for like any other"
    )
    later: ClassVar[tuple[str, ...]] = ("norm", "modality_embedding", "padding_mask")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"'width' ({self.width}) must be a multiple of 'heads' ({self.heads})")
        if self.positions_start == "sinusoidal" and self.width % 6:
            raise ValueError(f"sinusoidal positions need a 'width' that is a multiple of 6; found {self.width}")
        if self.modality_embedding == "one_hot" and self.embeddings:
            raise ValueError("'embeddings' are vectors of text: leave it empty with 'modality_embedding' one_hot")
        return self


class BrainFMPretrainOptions(BrainFMEncoderOptions):
    """`brainfm_pretrain`: masked autoencoding of tokens of any sequences."""

    mask_ratio: float = Field(0.8, gt=0, lt=1, description="share of a case's tokens that are masked")
    keep: Literal["own", "batch_minimum"] = Field(
        "own", description="tokens shown of a case: by its own sequences, or the fewest of any case in the batch (published code)"
    )
    imputation: float = Field(
        0.3, ge=0, le=1, description="probability that one whole sequence is among the masked, where there are two or more"
    )
    decoder: Literal["published", "cross_attention", "light"] = Field(
        "published", description="what the published code computes (cross-attention, as wide as the encoder, ReLU, embeddings of "
        "the sequence for masked tokens only), the same with GELU and embeddings for all, or a narrow MAE decoder",
    )  # fmt: skip
    decoder_layers: int = Field(8, ge=1, description="layers of the decoder")
    decoder_mlp: int = Field(1024, ge=4, description="width of the decoder's MLPs")
    decoder_width: int = Field(384, ge=4, description="width of the light decoder")
    regularisation: Literal["paper", "dev", "none"] = Field(
        "paper", description="variance and covariance terms: weights 0.1 and 0.003; the published code's 1.0 and 0.03, with a "
        "variance over N; none",
    )  # fmt: skip
    regularisation_warmup: float = Field(
        0.125, gt=0, le=1, description="share of the run in which the paper's two weights rise linearly from 0"
    )
    published_as: Literal["released", "earlier"] = Field(
        "released", description="what decoder published and regularisation dev stand for: the public code's arithmetic, or, as "
        "in earlier runs, decoder cross_attention and a variance over N - 1",
    )  # fmt: skip
    later: ClassVar[tuple[str, ...]] = (*BrainFMEncoderOptions.later, "published_as")
    before: ClassVar[Mapping[str, Any]] = {"published_as": "earlier"}

    @classmethod
    def without_later(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As everywhere; `published_as` is named only where something is published."""
        kept = super().without_later(values)
        if kept.get("decoder") != "published" and kept.get("regularisation") != "dev":
            kept.pop("published_as", None)
        return kept

    @property
    def decoder_form(self) -> str:
        """`decoder`, by what it stood for when the run was made."""
        return "cross_attention" if (self.decoder, self.published_as) == ("published", "earlier") else self.decoder

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.decoder == "light" and self.decoder_width % self.heads:
            raise ValueError(f"'decoder_width' ({self.decoder_width}) must be a multiple of 'heads' ({self.heads})")
        if self.imputation and self.mask_ratio < 0.5:
            raise ValueError(
                f"'imputation' masks a whole sequence, of two that is half the tokens: 'mask_ratio' must be at least 0.5, "
                f"found {self.mask_ratio}"
            )
        return self


class BrainFMOptions(BrainFMEncoderOptions):
    """`brainfm`: the encoder with a head, on any sequences."""

    head: Literal["unetr", "shallow", "linear"] = Field(
        "unetr", description="segmentation from four layers with a convolutional decoder, from the last with a light one, or "
        "linearly from each token",
    )  # fmt: skip
    head_width: int = Field(16, ge=4, description="features of the head at full resolution")
    freeze: bool = Field(
        False, description="keep the encoder as it is and train the heads only; with head linear: a linear probe"
    )
    grade_classes: int = Field(2, ge=2, le=3, description="2: grade 4 against 2 and 3; 3: grades 2, 3, 4")
    pretrained: str = Field(
        "", description="encoder that brainfm_pretrain left, or weights of the public code; empty: random weights"
    )


_DEMO = {"width": 96, "depth": 4, "heads": 4, "mlp": 192, "dropout": 0.0, "positions_start": "sinusoidal"}

FACTS = (
    MethodFacts(
        card=ModelCard(
            name="brainfm", title="BrainFM-MRI (any sequences)", paper="arXiv 2511.03014; heads of the workbench's own choice",
            tasks=BOTH_TASKS, markers=("idh",), parameters=127_101_957,
        ),
        options=BrainFMOptions, builder="workbench.models.brainfm.brainfm:BrainFM",
        demo=_DEMO | {
            "head_width": 4, "epochs": 6, "steps_per_epoch": 10, "learning_rate": 4e-3, "modality_dropout": 1.0,
            "dropout_mode": "subset",
        },
        # fine-tuning is not published: the pretraining's AdamW, and every subset of sequences equally often
        paper={"epochs": 300, "learning_rate": 1e-4, "weight_decay": 0.05, "modality_dropout": 1.0, "dropout_mode": "subset"},
    ),
    MethodFacts(
        card=ModelCard(
            name="brainfm_pretrain", title="BrainFM-MRI pretraining (masked autoencoder)", paper="arXiv 2511.03014",
            tasks=(PRETRAINING,), parameters=176_240_640, reported="about 176 M, public code",
        ),
        options=BrainFMPretrainOptions, builder="workbench.models.brainfm.brainfm_pretrain:BrainFMPretrain",
        demo=_DEMO | {
            "decoder": "light", "decoder_layers": 2, "decoder_width": 96, "decoder_mlp": 192,
            "epochs": 10, "steps_per_epoch": 12, "learning_rate": 1e-3, "weight_decay": 0.05, "modality_dropout": 0.0,
            "validate_every": 2, "ema": 0.0, "batch_size": 4,
        },
        # AdamW 1e-4, weight decay 0.05, 40 epochs of one pass, 10 of them warm-up, batches of 4, accumulation 8
        paper={
            "batch_size": 4, "epochs": 40, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "weight_decay": 0.05,
            "validate_every": 1, "accumulate": 8, "warmup": 0.25,
        },
    ),
)  # fmt: skip
