"""Facts of the glioma methods, MTS-UNET and MGMT-Net: cards, options, sizes. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from workbench.contracts import MARKERS
from workbench.models.method_facts import BOTH_TASKS, MethodFacts, ModelCard
from workbench.models.options_base import UNSET, MethodOptions
from workbench.models.swin.facts import PretrainedSwinOptions

_SHARES = ("dice_weight", "cross_entropy_weight", *(f"beta_{marker}" for marker in MARKERS))


class LossWeights(MethodOptions):
    """How the terms of the loss weigh against each other: both papers leave these numbers open."""

    later: ClassVar[tuple[str, ...]] = _SHARES

    dice_weight: float = Field(1.0, ge=0, description="lambda of Dice in the segmentation loss")
    cross_entropy_weight: float = Field(1.0, ge=0, description="lambda of cross-entropy in the segmentation loss")
    beta_idh: float = Field(1.0, ge=0, description="weight of IDH among the markers, times beta")
    beta_codel: float = Field(1.0, ge=0, description="weight of 1p/19q among the markers, times beta")
    beta_tert: float = Field(1.0, ge=0, description="weight of TERT among the markers, times beta")
    beta_mgmt: float = Field(1.0, ge=0, description="weight of MGMT methylation among the markers, times beta")
    beta_grade: float = Field(1.0, ge=0, description="weight of grade among the markers, times beta")

    @model_validator(mode="after")
    def _something_is_segmented(self) -> Self:
        if self.dice_weight == self.cross_entropy_weight == 0:
            raise ValueError(
                "'dice_weight' and 'cross_entropy_weight' are both 0: the segmentation would learn nothing; raise one"
            )
        return self

    def marker_weight(self, marker: str) -> float:
        """What a marker weighs among the markers."""
        return float(getattr(self, f"beta_{marker}"))

    def unused_weights(self, markers: Sequence[str]) -> list[str]:
        """Weights that were set for markers which this model does not predict, in words."""
        found = {marker: self.marker_weight(marker) for marker in MARKERS if marker not in markers}
        return [
            f"beta_{name}={weight:g} changes nothing: no {name} is predicted" for name, weight in found.items() if weight != 1
        ]


class MtsUNetOptions(LossWeights, PretrainedSwinOptions):
    """`mts_unet`: TAFE, CMD and DSF on the BrainSegFounder-Tiny backbone."""

    later: ClassVar[tuple[str, ...]] = (*_SHARES, "identity_blocks")

    backbones: int = Field(2, ge=1, le=2, description="2: TAFE and CMD each have one (paper); 1: shared, a light variant of ours")
    tafe_stages: int = Field(1, ge=1, le=4, description="deepest Swin stages that TAFE pools and concatenates")
    streams: Literal["dsf", "tafe", "cmd"] = Field("dsf", description="what IDH is read from: both streams fused, or one alone")
    fusion: Literal["features", "published"] = Field(
        "features", description="DSF fuses pooled features (paper) or the two streams' logits (published code)"
    )
    fallback: Literal["shared", "head"] = Field(
        "shared", description="without T2 or FLAIR: DSF's classifier with CMD's features at zero, or a TAFE classifier of its own"
    )
    cmd: Literal["v1", "cbam"] = Field(
        "v1", description="CMD form: separate convolutions and spatial attention, or shared and CBAM"
    )
    attention: Literal["corrected", "published"] = Field(
        "corrected",
        description="CMD's spatial attention: sigmoid (paper), or sigmoid of ReLU (published code), which stays above 0.5",
    )
    cmd_channels: int = Field(64, ge=4, description="feature channels of CMD")
    gamma: float = Field(2.0, gt=0, description="amplification of the T2-FLAIR difference")
    min_gate: float = Field(0.1, ge=0, le=1, description="m in the gate m + (1 - m) P(tumour)")
    gate: Literal["attached", "detached", "none", "own"] = Field(
        "attached",
        description="whether the IDH loss reaches the segmentation through the gate (attached: published code); none: no gate; "
        "own: a gate learnt from T2, FLAIR and IDH alone, without the segmentation; wants backbones 1",
    )
    cmd_dropout: float = Field(
        0.2, ge=0, lt=1, description="share of training samples whose CMD stream is dropped: trains the fallback"
    )
    normalise: bool = Field(True, description="TAFE reads layer-normalised stages, as the published code does")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout in every classifier")
    grade_classes: int = Field(2, ge=2, le=3, description="2: grade 4 against 2 and 3; 3: grades 2, 3, 4")
    alpha: float = Field(
        1.0, ge=0, description="weight of the segmentation loss; with backbones 2 it counts twice, once for each backbone's masks"
    )
    beta: float = Field(1.0, ge=0, description="weight of each marker's loss")
    segmentation_first: float = Field(
        0.0, ge=0, lt=1, description="share of the steps that train the segmentation alone, before joint"
    )
    identity_blocks: bool = Field(
        False, description="every Swin block replaced by the identity (ablation); patch embedding, merging and all else stay"
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.gate == "own" and self.backbones == 2:
            raise ValueError("'gate' own reads no segmentation, which CMD's second backbone is for: set 'backbones' to 1")
        if self.gate == "own" and self.streams == "tafe":
            raise ValueError("'gate' own is CMD's, and 'streams' tafe has no CMD: choose streams dsf or cmd, or another gate")
        if self.identity_blocks and self.pretrained:
            raise ValueError("'identity_blocks' leaves no Swin block to load 'pretrained' weights into: leave one of them out")
        return self


class MgmtNetOptions(LossWeights):
    """`mgmt_net`: CMAF, a CNN and a Swin branch, gated attention pooling."""

    later: ClassVar[tuple[str, ...]] = (*_SHARES, "identity_blocks", "gate_region")

    modality_channels: int = Field(16, ge=2, description="channels of each embedded sequence and of their mixture (C')")
    width: int = Field(32, ge=4, description="features of the CNN branch at half resolution; twice, four times as many below")
    embed: int = Field(48, ge=3, description="width of the Swin branch's first stage; a multiple of 3")
    window: int = Field(8, ge=2, le=16, description="side of Swin's attention windows")
    norm: Literal["instance", "batch"] = Field("instance", description="batch: as the paper says, wants larger batches than two")
    fusion: Literal["cmaf", "concat"] = Field(
        "cmaf", description="sequences mixed by voxel-wise weights (paper) or concatenated (ablation)"
    )
    branch: Literal["swin", "cnn"] = Field(
        "swin", description="beside the CNN a Swin branch (paper), or about its parameters spent on a deeper CNN (ablation)"
    )
    pooling: Literal["attention", "average"] = Field(
        "attention", description="how markers pool the features: attention (paper) or the average (ablation); both are gated"
    )
    gate: Literal["soft", "hard", "none"] = Field(
        "soft", description="tumour mask on the pooling: probability, yes or no per cell, or no mask"
    )
    gate_region: Literal["tumour", "no_oedema"] = Field(
        "tumour",
        description="what the gate takes for tumour: every class but background, or ET, NETC and RC without SNFH",
    )
    gate_detached: float = Field(
        0.1, ge=0, le=1, description="first share of the run in which no marker's gradient passes the soft gate; 1: never"
    )
    squeeze_excitation: bool = Field(True, description="squeeze-and-excitation in the last stage of the decoder")
    attention_gates: bool = Field(False, description="attention gates on the decoder's skips")
    deep_supervision: bool = Field(True, description="supervise the decoder at 1/2 and 1/4 too, weights 1, 1/2, 1/4 normalised")
    fusion_dropout: float = Field(0.2, ge=0, lt=1, description="dropout inside CMAF's weighting")
    dropout: float = Field(0.3, ge=0, lt=1, description="dropout before each marker's head")
    head_width: int = Field(64, ge=1, description="features of each marker head's dense layer")
    grade_classes: int = Field(2, ge=2, le=3, description="2: grade 4 against 2 and 3; 3: grades 2, 3, 4")
    beta: float = Field(1.0, ge=0, description="weight of the mean of the markers' losses")
    checkpointing: bool = Field(True, description="recompute CMAF and Swin activations in the backward pass: less memory, slower")
    identity_blocks: bool = Field(
        False, description="every Swin block replaced by the identity (ablation); patch embedding, merging and all else stay"
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.gate_region != "tumour" and self.gate == "none":
            raise ValueError("'gate_region' says what the gate reads, and 'gate' none has none: leave it at tumour")
        if self.identity_blocks and self.branch != "swin":
            raise ValueError("'identity_blocks' replaces Swin blocks, and 'branch' cnn has none: choose one of the two ablations")
        return self

    @field_validator("embed")
    @classmethod
    def _multiple_of_three(cls, value: int) -> int:
        if value % 3:
            raise ValueError(f"the stages have 3, 6, 12 and 12 attention heads, hence a multiple of 3; found {value}")
        return value


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="mts_unet", title="MTS-UNET", paper="Farahani et al., arXiv 2503.06828", tasks=BOTH_TASKS, input=(96, 96, 96),
            markers=("idh",), parameters=124_456_708,
        ),
        options=MtsUNetOptions, builder="workbench.models.glioma.mts_unet:MtsUNet",
        demo={
            "feature_size": 12, "window": 4, "backbones": 1, "cmd_channels": 16, "checkpointing": False,
            "epochs": 4, "steps_per_epoch": 8, "learning_rate": 2e-3,
        },
        # the paper gives no recipe: AdamW 1e-4, weight decay 1e-5, 100 epochs, patience 20, tumour-centred 96^3 crop at 1 mm
        paper={
            "patch": 96, "sampling": "tumour", "epochs": 100, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "patience": 20,
            "validate_every": 1,
        },
    ),
    MethodFacts(
        card=ModelCard(
            name="mgmt_net", title="MGMT-Net", paper="Abdusalomov et al., Bioengineering 2025, 12(9), 979", tasks=BOTH_TASKS,
            markers=("idh", "codel", "tert"), parameters=5_562_225,
        ),
        options=MgmtNetOptions, builder="workbench.models.glioma.mgmt_net:MgmtNet",
        demo={
            "modality_channels": 8, "width": 12, "embed": 12, "window": 4, "head_width": 16, "checkpointing": False,
            "epochs": 6, "steps_per_epoch": 10, "learning_rate": 3e-3, "markers": "idh,codel,tert",
        },
        # label smoothing and modality dropout as in the paper; the share dropped and the patience are not given there
        paper={
            "sampling": "tumour", "epochs": 150, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "patience": 20,
            "validate_every": 1, "modality_dropout": 0.1, "label_smoothing": 0.1, "markers": "idh,codel,tert",
        },
    ),
)  # fmt: skip
