"""Swin UNETR (Hatamizadeh et al., arXiv 2201.01266): the Swin backbone that MTS-UNET reads markers from, segmenting on its own.

Shifted windows of 7^3 tokens of 2^3 voxels, 2-2-2-2 blocks, 3-6-12-24 heads, feature size 48, and a convolutional decoder with
residual blocks. Everything about the network is in `models.swin`; the BraTS 2021 paper trains it on 128^3 patches.

Departures from the paper: softmax over labels and Dice with cross-entropy, the workbench's loss, instead of sigmoid Dice over
nested regions. `merging="legacy"` brings back the patch merging the published weights were trained with.

Parameters (4 sequences, 4 classes): 62,191,990.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from workbench.models.baselines.facts import SwinUNETROptions
from workbench.models.networks import SegmentationNetwork, draw_levels
from workbench.models.pretrained.coverage import Coverage
from workbench.models.swin.backbone import SwinBackbone
from workbench.models.swin.facts import ENCODER_DEPTHS
from workbench.models.swin.weights import load_swin


class SwinUNETR(SegmentationNetwork):
    """The Swin backbone with its decoder; markers are ignored."""

    name = "swin_unetr"
    divisor = 32
    minimum = 64  # instance norm needs more than one voxel at the bottom, 1/32
    options: SwinUNETROptions

    def build(self) -> None:
        """Build the backbone as the options describe it."""
        self.net = SwinBackbone.from_options(len(self.modalities), self.classes, self.options)

    def load_pretrained(self, path: str | Path) -> Coverage:
        """Fill the backbone from a BrainSegFounder or MONAI file or our own encoder; the output convolution stays random."""
        return load_swin([self.net], path, modalities=self.modalities, options=self.options)

    def segment(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z)."""
        return (self.net.decode(images, self.net.encode(images)),)

    def cam_layers(self) -> tuple[str, ...]:
        """The bottom (1/32), only a few voxels wide, then the residual block on the states at 1/8."""
        return "net.encoder10", "net.encoder4"

    def diagram(self) -> str:
        """Levels as columns."""
        size, depths = self.options.feature_size, ENCODER_DEPTHS[self.options.encoder]
        down = [(f"{size} features", "residual block")]
        down += [
            (f"{size * 2**k} features, 1/{2 ** (k + 1)}", f"tokens, {n} Swin blocks" if k == 0 else f"{n} Swin blocks")
            for k, n in enumerate(depths)
        ]
        up = [(f"{size * 2 ** max(0, k - 1)} features", "residual block") for k in range(len(down))]
        bottom = (f"{size * 2 ** len(depths)} features, 1/32", "residual block")
        return draw_levels("Swin UNETR", self, down, bottom, up)
