"""What each method is, without torch: the app, the command line and the parameters read it. Parameter counts are tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.contracts import MARKER_TASK, PRETRAINING, SEGMENTATION
from workbench.errors import ParameterError

_GLIOMA = ("t1", "t1c", "t2", "flair")
_BOTH = (SEGMENTATION, MARKER_TASK)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One method as a reader meets it first."""

    name: str
    title: str
    paper: str
    """Where it was published."""
    tasks: tuple[str, ...]
    """'segmentation', 'markers' or both; or 'pretraining' alone."""
    modalities: tuple[str, ...]
    """The sequences it was published with; empty = any."""
    status: Literal["available", "planned"] = "planned"
    input: tuple[int, int, int] = (128, 128, 128)
    """Training patch at the paper's size, voxels."""
    markers: tuple[str, ...] = ()
    """Markers that `parameters` counts the heads of."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options at the paper's size, where they differ from the defaults."""
    parameters: int | None = None
    """Parameters at the paper's size (these modalities, markers and options, four classes); None until it is built, and where
    there is no network."""
    reported: str = ""
    """Parameters as the paper or its public code has them, with where that stands; empty: not published."""
    network: bool = True
    """Whether it is a torch network; False: fitted in one go, without training steps (`experiments.radiomics`)."""
    notebook: str = ""
    """Name of its notebook where several methods share one; empty: its own name."""

    @property
    def notebook_name(self) -> str:
        """Stem of the notebook that `workbench run` executes."""
        return self.notebook or self.name

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "paper": self.paper,
            "tasks": list(self.tasks),
            "modalities": list(self.modalities),
            "status": self.status,
            "parameters": self.parameters,
            "reported": self.reported,
            "input": [max(1, len(self.modalities)), *self.input] if self.network else None,
        }


_CARDS = (
    ModelCard(
        name="unet",
        title="U-Net (nnU-Net recipe)",
        paper="Isensee et al., Nature Methods 2021; MONAI DynUNet",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        parameters=31_195_156,
    ),
    ModelCard(
        name="mts_unet",
        title="MTS-UNET",
        paper="Farahani et al., arXiv 2503.06828",
        tasks=_BOTH,
        modalities=_GLIOMA,
        status="available",
        input=(96, 96, 96),
        markers=("idh",),
        parameters=124_456_708,
    ),
    ModelCard(
        name="mgmt_net",
        title="MGMT-Net",
        paper="Abdusalomov et al., Bioengineering 2025, 12(9), 979",
        tasks=_BOTH,
        modalities=_GLIOMA,
        status="available",
        markers=("idh", "codel", "tert"),
        parameters=5_562_225,
    ),
    ModelCard(
        name="mome",
        title="MoME (mixture of modality experts)",
        paper="MICCAI 2024, arXiv 2405.10246",
        tasks=(SEGMENTATION,),
        modalities=("t1", "t1c", "t2", "flair", "dwi"),
        status="available",
        notebook="mome",
        parameters=187_334_344,
        reported="187.3 M, public code",
    ),
    ModelCard(
        name="mome_plus",
        title="MoME+ (mixture of modality experts, combined inputs)",
        paper="IEEE TMI 2025",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        notebook="mome",
        parameters=156_119_580,
        reported="156.1 M and a few hundred, public code",
    ),
    ModelCard(
        name="pooled_unet",
        title="Pooled U-Net (one image of any sequence)",
        paper="comparator of MoME, arXiv 2405.10246; Isensee et al., Nature Methods 2021",
        tasks=(SEGMENTATION,),
        modalities=("t1", "t1c", "t2", "flair", "dwi"),
        status="available",
        notebook="mome",
        parameters=31_197_204,
    ),
    ModelCard(
        name="masm",
        title="MASM (re-implementation without public code)",
        paper="Huang et al., arXiv 2403.02074",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        parameters=36_908_846,
    ),
    ModelCard(
        name="brainfm",
        title="BrainFM-MRI (any sequences)",
        paper="arXiv 2511.03014; heads of the workbench's own choice",
        tasks=_BOTH,
        modalities=_GLIOMA,
        status="available",
        markers=("idh",),
        parameters=127_101_957,
    ),
    ModelCard(
        name="brainfm_pretrain",
        title="BrainFM-MRI pretraining (masked autoencoder)",
        paper="arXiv 2511.03014",
        tasks=(PRETRAINING,),
        modalities=_GLIOMA,
        status="available",
        parameters=176_240_640,
        reported="about 176 M, public code",
    ),
    ModelCard(
        name="mmformer",
        title="mmFormer",
        paper="Zhang et al., MICCAI 2022, arXiv 2206.02425",
        tasks=(SEGMENTATION,),
        modalities=("flair", "t1c", "t1", "t2"),
        status="available",
        parameters=36_391_760,
        reported="36.7 M in the public code, 106 M in the paper",
    ),
    ModelCard(
        name="amaes",
        title="AMAES U-Net (fine-tuning)",
        paper="Munk et al., ADSMI 2024, arXiv 2408.00640",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        parameters=22_580_964,
        reported="22 M, U-Net B",
    ),
    ModelCard(
        name="amaes_pretrain",
        title="AMAES pretraining (masked autoencoder)",
        paper="Munk et al., ADSMI 2024, arXiv 2408.00640",
        tasks=(PRETRAINING,),
        modalities=_GLIOMA,
        status="available",
        parameters=17_877_153,
    ),
    ModelCard(
        name="m4oe",
        title="M4oE in 3-D (experts per sequence)",
        paper="MICCAI 2024, arXiv 2405.09446 (2-D, abdomen); ported",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        parameters=77_528_928,
    ),
    ModelCard(
        name="segresnet",
        title="SegResNet",
        paper="Myronenko, arXiv 1810.11654",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        notebook="baselines",
        input=(160, 192, 128),
        parameters=18_798_660,
    ),
    ModelCard(
        name="swin_unetr",
        title="Swin UNETR",
        paper="Hatamizadeh et al., arXiv 2201.01266",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        notebook="baselines",
        parameters=62_191_990,
    ),
    ModelCard(
        name="unetr",
        title="UNETR",
        paper="Hatamizadeh et al., arXiv 2103.10504",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        notebook="baselines",
        parameters=102_449_732,
    ),
    ModelCard(
        name="attention_unet",
        title="Attention U-Net",
        paper="Oktay et al., arXiv 1804.03999",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        notebook="baselines",
        parameters=5_910_460,
    ),
    ModelCard(
        name="mednext",
        title="MedNeXt",
        paper="Roy et al., arXiv 2303.09975",
        tasks=(SEGMENTATION,),
        modalities=_GLIOMA,
        status="available",
        notebook="baselines",
        parameters=61_730_772,
    ),
    ModelCard(
        name="densenet121",
        title="DenseNet-121 (3-D)",
        paper="Huang et al., arXiv 1608.06993",
        tasks=(MARKER_TASK,),
        modalities=_GLIOMA,
        status="available",
        notebook="baselines",
        input=(160, 192, 160),
        markers=("idh",),
        parameters=11_309_505,
    ),
    ModelCard(
        name="pretrain_swin",
        title="Swin pretraining (BrainSegFounder)",
        paper="Cox et al., MedIA 2024, arXiv 2406.10395",
        tasks=(PRETRAINING,),
        modalities=_GLIOMA,
        status="available",
        input=(96, 96, 96),
        parameters=19_098_490,
    ),
    ModelCard(
        name="radiomics",
        title="Radiomics and age baselines",
        paper="Zwanenburg et al., Radiology 2020 (IBSI); scikit-learn",
        tasks=(MARKER_TASK,),
        modalities=(),
        status="available",
        network=False,
    ),
)
CARDS: dict[str, ModelCard] = {entry.name: entry for entry in _CARDS}


def list_models(include_planned: bool = False) -> list[ModelCard]:
    """The methods that are built; with `include_planned` also those that are only named."""
    return [entry for entry in _CARDS if include_planned or entry.status == "available"]


def card(name: str) -> ModelCard:
    """The card of one method, built or planned.

    Raises:
        ParameterError: no such method; the message lists those there are.
    """
    try:
        return CARDS[name]
    except KeyError:
        built = ", ".join(entry.name for entry in list_models())
        planned = ", ".join(entry.name for entry in _CARDS if entry.status == "planned")
        raise ParameterError(f"method '{name}' is unknown; there are: {built} (planned: {planned})") from None
