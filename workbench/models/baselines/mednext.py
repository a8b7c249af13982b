"""MedNeXt (Roy et al., *MedNeXt: Transformer-driven Scaling of ConvNets for Medical Image Segmentation*, arXiv 2303.09975).

A U-Net of ConvNeXt blocks, five resolutions, width 32 doubling per level: a depthwise convolution (side 3 or 5) with channel-wise
group norm, a 1^3 convolution that expands the features R times, GELU, a 1^3 convolution back, and a residual; also up- and
downsampling are such blocks. Compound scaling: S, B, M and L have more blocks and larger R. The network is MONAI's.

    MONAI, four sequences and classes, deep supervision: S 5.55 M, B 10.51 M, M 17.54 M, L 61.73 M (side 3), L 62.94 M (side 5)

Deep supervision at every resolution, bottom included, weights halving per level.

Choices of ours:
1. L with side 3 is the default: the largest that needs no UpKern (side-5 networks start from trained side-3 weights).
2. Deep supervision's weights are nnU-Net's without leaving the coarsest out, so that every head is trained.
3. `width` other than 32 is no published size.

Parameters (4 sequences, 4 classes): 61,730,772.
"""

from __future__ import annotations

from collections.abc import Mapping

from monai.networks.nets.mednext import MedNeXt as MonaiMedNeXt
from torch import Tensor

from workbench.models.baselines.facts import MedNeXtOptions
from workbench.models.networks import SegmentationNetwork, draw_levels

# blocks and expansions from the finest level to the bottom and back (the paper's table of configurations)
VARIANTS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "S": ((2, 2, 2, 2, 2, 2, 2, 2, 2), (2, 2, 2, 2, 2, 2, 2, 2, 2)),
    "B": ((2, 2, 2, 2, 2, 2, 2, 2, 2), (2, 3, 4, 4, 4, 4, 4, 3, 2)),
    "M": ((3, 4, 4, 4, 4, 4, 4, 4, 3), (2, 3, 4, 4, 4, 4, 4, 3, 2)),
    "L": ((3, 4, 8, 8, 8, 8, 8, 4, 3), (3, 4, 8, 8, 8, 8, 8, 4, 3)),
}


class MedNeXt(SegmentationNetwork):
    """ConvNeXt U-Net; markers are ignored."""

    name = "mednext"
    divisor = 16
    minimum = 32  # group norm per channel needs more than one voxel at the bottom
    options: MedNeXtOptions

    def build(self) -> None:
        """Build MONAI's network with the variant's blocks and expansions."""
        blocks, expansion = VARIANTS[self.options.variant]
        self.net = MonaiMedNeXt(
            spatial_dims=3,
            init_filters=self.options.width,
            in_channels=len(self.modalities),
            out_channels=self.classes,
            encoder_expansion_ratio=expansion[:4],
            decoder_expansion_ratio=expansion[5:],
            bottleneck_expansion_ratio=expansion[4],
            kernel_size=self.options.kernel,
            deep_supervision=self.options.supervise_levels,
            use_residual_connection=True,
            blocks_down=blocks[:4],
            blocks_bottleneck=blocks[4],
            blocks_up=blocks[5:],
            norm_type="group",
        )

    def segment(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z); in training also those of the four coarser levels."""
        found = self.net(images)
        return found if isinstance(found, tuple) else (found,)

    def cam_layers(self) -> tuple[str, ...]:
        """The bottom, then the deepest encoder stage."""
        return "net.bottleneck", "net.enc_stages.3"

    def diagram(self) -> str:
        """Levels as columns."""
        blocks, expansion = VARIANTS[self.options.variant]
        text = [
            (f"{self.options.width * 2 ** min(k, 8 - k)} features", f"{n} blocks, expansion {r}")
            for k, (n, r) in enumerate(zip(blocks, expansion, strict=True))
        ]
        return draw_levels(f"MedNeXt-{self.options.variant}, side {self.options.kernel}", self, text[:4], text[4], text[:4:-1])
