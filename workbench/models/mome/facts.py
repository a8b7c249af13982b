"""Facts of the mixtures of modality experts and of the U-Net that they are compared with: cards, options, sizes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from workbench.contracts import SEGMENTATION
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import MethodOptions
from workbench.models.recipe import EPOCHS, NNUNET


class PlainUNetOptions(MethodOptions):
    """nnU-Net's plan, the same for every network of the comparison. These methods share a notebook, hence these words."""

    width: int = Field(32, ge=4, le=128, description="features of the first stage; they double per stage, up to ten times this")
    levels: int = Field(6, ge=3, le=8, description="stages; nnU-Net's rule gives 6 for a 128^3 patch, 5 for 64^3")
    lowest_weight: float = Field(
        0.0, ge=0, le=1, description="weight of the coarsest decoder level before normalisation; nnU-Net: 0"
    )
    balance: Literal["cases", "images", "datasets"] = Field(
        "images",
        description="what comes up equally often in training: cases, images (paper: large collections dominate) or datasets",
    )
    batch_dice: bool = Field(
        True, description="Dice over the voxels of the batch; false: of each sample, then averaged (nnU-Net's 3d_fullres plans)"
    )
    later: ClassVar[tuple[str, ...]] = ("batch_dice",)


class SingleImageOptions(PlainUNetOptions):
    """A network that reads one image at a time."""

    several_images: Literal["logits", "probabilities"] = Field(
        "logits", description="what is averaged over the sequences of a case, each of which is read on its own"
    )


class PooledUNetOptions(SingleImageOptions):
    """`pooled_unet`: one network for all sequences; with one sequence a task-specific network."""


class MixtureOptions(PlainUNetOptions):
    """What MoME and MoME+ share."""

    gating: Literal["hierarchical", "single", "average"] = Field(
        "hierarchical", description="gate at every decoder level, at the finest level only, or the plain mean of the experts"
    )
    gate_normalisation: Literal["none", "softmax"] = Field(
        "none", description="none: raw gate values (published); softmax: they add up to 1 over the experts"
    )
    expert_share: float = Field(
        -1.0, ge=-1, lt=1, description="share of the steps that train the experts alone, before the joint stage; -1: published"
    )
    joint_rate: float = Field(0.1, gt=0, le=10, description="learning rate of the joint stage over that of the experts' stage")
    curriculum: Literal["quadratic", "linear", "constant", "none"] = Field(
        "quadratic",
        description="how the loss moves from the experts to the fused output: quadratic (paper), linear, constant 0.2 and 0.8; "
        "none: fused output only, which is what the released MoME+ code trains",
    )
    expert_reduction: Literal["sum", "mean"] = Field(
        "sum", description="the experts' loss over the samples of a batch; sum (published) depends on the batch size"
    )
    pretrained: str = Field(
        "", description="released weights of all its networks, to go on from with expert_share 0; empty: random weights"
    )
    later: ClassVar[tuple[str, ...]] = ("batch_dice", "pretrained")
    restart_heads: bool = Field(True, description="the experts' segmentation heads start anew in the joint stage (published)")
    experts: Literal["trained", "checkpointed", "frozen"] = Field(
        "trained",
        description="experts in the joint stage: trained, trained with activations recomputed in the backward pass (less memory, "
        "slower), or frozen",
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.expert_share < 0:
            raise ValueError(f"'expert_share' must be 0 or more, or -1 for the published one; found {self.expert_share}")
        if self.experts == "frozen" and self.expert_share == 0:
            raise ValueError("'experts=frozen' needs a first stage in which they learn: 'expert_share' must be above 0")
        if self.experts == "frozen" and self.gating == "average":
            raise ValueError("'experts=frozen' with 'gating=average' leaves nothing to train in the joint stage")
        return self


class MoMEOptions(MixtureOptions, SingleImageOptions):
    """`mome`: one expert per sequence, all of which read one image."""

    # five experts for nnU-Net's 1000 epochs each, then 800 epochs together
    paper: ClassVar[Mapping[str, Any]] = {"expert_share": 0.862}


class MoMEPlusOptions(MixtureOptions):
    """`mome_plus`: the experts read all available sequences together."""

    # 1000 epochs, in which a sample trains the experts of all its sequences, then 800 together
    paper: ClassVar[Mapping[str, Any]] = {"expert_share": 0.556}

    dispatch: Literal["learned", "zero", "table"] = Field(
        "learned",
        description="what an expert reads whose sequence is missing: a learned mixture of the available ones (paper), zeros, or "
        "one available sequence from a fixed table",
    )


ONE_IMAGE = "one image of one sequence at a time"
_DEMO: dict[str, Any] = {
    "width": 4, "levels": 4, "epochs": 10, "learning_rate": 1e-2, "batch_size": 1, "validate_every": 5,
}  # fmt: skip
# seven networks a step: batches of one; a tenth of the rate is for 800 epochs of SGD: in a short run nothing would move
_MIXTURE_DEMO = _DEMO | {"steps_per_epoch": 6, "expert_share": 0.4, "joint_rate": 0.5}

FACTS = (
    MethodFacts(
        card=ModelCard(
            name="mome", title="MoME (mixture of modality experts)", paper="MICCAI 2024, arXiv 2405.10246",
            tasks=(SEGMENTATION,), modalities=("t1", "t1c", "t2", "flair", "dwi"), parameters=187_334_344, hides=ONE_IMAGE,
            reported="187.3 M, public code",
        ),
        options=MoMEOptions, builder="workbench.models.mome.mome:MoME",
        demo=_MIXTURE_DEMO | {"modality_dropout": 0.0},
        # Zhang: SGD; nnU-Net's 1000 epochs at 1e-2 times five experts (their length is not published), shared out by their
        # images, then 800 at 1e-3
        paper=NNUNET | {"epochs": 5800},
    ),
    MethodFacts(
        card=ModelCard(
            name="mome_plus", title="MoME+ (mixture of modality experts, combined inputs)", paper="IEEE TMI 2025",
            tasks=(SEGMENTATION,), notebook="mome", parameters=156_119_580, reported="156.1 M and a few hundred, public code",
        ),
        options=MoMEPlusOptions, builder="workbench.models.mome.mome_plus:MoMEPlus",
        demo=_MIXTURE_DEMO | {"modality_dropout": 1.0, "dropout_mode": "subset"},
        # a sample trains the experts of all its sequences: 1000 epochs, then 800; uniform over subsets
        paper=NNUNET | {"epochs": 1800, "modality_dropout": 1.0, "dropout_mode": "subset"},
    ),
    MethodFacts(
        card=ModelCard(
            name="pooled_unet", title="Pooled U-Net (one image of any sequence)",
            paper="comparator of MoME, arXiv 2405.10246; Isensee et al., Nature Methods 2021", tasks=(SEGMENTATION,),
            modalities=("t1", "t1c", "t2", "flair", "dwi"), notebook="mome", parameters=31_197_204, hides=ONE_IMAGE,
        ),
        options=PooledUNetOptions, builder="workbench.models.mome.single_image_unet:PooledUNet",
        demo=_DEMO | {"steps_per_epoch": 12, "modality_dropout": 0.0},
        paper=NNUNET | {"epochs": EPOCHS},
    ),
)  # fmt: skip
