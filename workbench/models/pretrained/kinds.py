"""The files of pretrained Swin weights that are known, and what each has seen. No torch.

Facts from BrainSegFounder's code and card (Cox et al., arXiv 2406.10395), MONAI's SwinUNETR and its research contributions.
Nobody has published which MONAI release trained them; all appeared before 1.5, which put patch merging right: all are legacy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.models.pretrained.seen import Seen

BRATS_CHANNELS = ("flair", "t1c", "t1", "t2")
"""Order of the channels in everything trained from NVIDIA's BraTS 2021 fold file."""


@dataclass(frozen=True)
class PretrainedKind:
    """One kind of file."""

    name: str
    title: str
    scope: Literal["encoder", "network"]
    """What it must fill: the Swin encoder, or all of SwinUNETR but its last convolution."""
    channels: tuple[str, ...]
    """Names of its input channels; empty: one channel that was shown any sequence."""
    merging: Literal["legacy", "current"]
    seen: Seen


KINDS: dict[str, PretrainedKind] = {
    kind.name: kind
    for kind in (
        PretrainedKind(
            "bsf_ukb", "BrainSegFounder, self-supervised on UK Biobank (1 channel)", "encoder", (), "legacy",
            # stage 2 on ATLAS has the same layout, one T1 channel
            Seen(collections=("ukb",), possible=("atlas",)),
        ),
        PretrainedKind(
            "bsf_brats", "BrainSegFounder, self-supervised on UK Biobank and BraTS 2021 (4 channels)", "encoder", BRATS_CHANNELS,
            "legacy", Seen(collections=("ukb", "brats2021")),
        ),
        PretrainedKind(
            "bsf_finetuned", "BrainSegFounder, fine-tuned on BraTS 2021 (SwinUNETR, 4 channels)", "network", BRATS_CHANNELS,
            "legacy", Seen(collections=("ukb", "brats2021")),
        ),
        PretrainedKind(
            "monai_brats21", "MONAI's SwinUNETR trained on BraTS 2021 (4 channels)", "network", BRATS_CHANNELS, "legacy",
            Seen(collections=("brats2021",)),
        ),
        PretrainedKind(
            "monai_ct", "MONAI's model_swinvit.pt, self-supervised on 5,050 CT volumes (1 channel)", "encoder", (), "legacy",
            Seen(),
        ),
        PretrainedKind(
            "monai_dae", "MONAI's ssl_pretrained_weights.pth, disruptive autoencoder (1 channel)", "encoder", (), "legacy",
            Seen(known=False),
        ),
    )
}  # fmt: skip
