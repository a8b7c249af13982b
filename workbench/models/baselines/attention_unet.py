"""Attention U-Net (Oktay et al., *Learning Where to Look for the Pancreas*, arXiv 1804.03999), MONAI's form.

A U-Net whose skip connections pass a gate: features x of the encoder are weighed by what the decoder below, g, asks for:

    alpha = sigmoid(psi(ReLU(W_x x + W_g g)))      in [0, 1], one number per voxel
    skip  = alpha x

Widths 16, 32, 64, 128, 256, those of the authors' code (64 to 1024 with feature_scale 4), batch normalisation.

Departures from the paper, all MONAI's:
1. g is upsampled before the gate and meets x at x's own resolution; in the paper the gate works at the coarser grid.
2. The finest skip is gated too; the authors' code leaves it plain.
3. Where skip and decoder meet, one convolution with instance norm and PReLU; batch norm and ReLU elsewhere.
4. No deep supervision.

Batch statistics of two samples are noisy: this is what the paper has, and the one network here whose training and evaluation
differ by more than dropout. Parameters (4 sequences, 4 classes): 5,910,460; the paper reports 6.40 M for its own.
"""

from __future__ import annotations

from monai.networks.nets import AttentionUnet as MonaiAttentionUnet
from monai.networks.nets.attentionunet import AttentionBlock
from torch import Tensor

from workbench.contracts import SEGMENTATION, Prediction
from workbench.models.baselines.facts import AttentionUNetOptions
from workbench.models.networks import SegmentationNetwork, draw_levels


class AttentionUNet(SegmentationNetwork):
    """U-Net with attention gates; `maps` returns the gates. Markers are ignored."""

    name = "attention_unet"
    options: AttentionUNetOptions

    def build(self) -> None:
        """Build MONAI's network."""
        levels = self.options.depth
        self.features = tuple(self.options.width * 2**level for level in range(levels))
        self.divisor = 2 ** (levels - 1)
        self.minimum = 2 * self.divisor  # batch norm of one sample needs more than one voxel at the bottom
        self.net = MonaiAttentionUnet(
            spatial_dims=3,
            in_channels=len(self.modalities),
            out_channels=self.classes,
            channels=self.features,
            strides=(2,) * (levels - 1),
        )

    def gates(self) -> list[AttentionBlock]:
        """The attention gates, the finest first."""
        return [module for module in self.net.modules() if isinstance(module, AttentionBlock)]

    def segment(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z)."""
        return (self.net(images),)

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """Logits, and with `maps` the gates alpha as `gate1` (full resolution), `gate2` (half), ... (B, 1, x, y, z)."""
        if not (maps and SEGMENTATION in tasks):
            return super().forward_arranged(images, present, tasks=tasks, maps=maps)
        seen: dict[str, Tensor] = {}

        def keep(level: int):  # type: ignore[no-untyped-def]
            def hook(module: object, given: object, alpha: Tensor) -> None:
                seen[f"gate{level}"] = alpha

            return hook

        hooks = [gate.psi.register_forward_hook(keep(level)) for level, gate in enumerate(self.gates(), start=1)]
        try:
            segmentation = self.net(images)
        finally:
            for hook in hooks:
                hook.remove()
        return Prediction(segmentation=segmentation, maps=dict(sorted(seen.items())))

    def cam_layers(self) -> tuple[str, ...]:
        """The merged features of the finest level but one, then of the finest."""
        return "net.model.1.submodule.1", "net.model.1"

    def diagram(self) -> str:
        """Levels as columns."""
        down = [(f"{features} features", f"1/{2**k}" if k else "full size") for k, features in enumerate(self.features)]
        up = [(f"{features} features", "gated skip") for features in self.features[:-1]]
        return draw_levels("Attention U-Net", self, down[:-1], down[-1], up, skip="gate")
