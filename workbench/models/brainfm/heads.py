"""Segmentation heads on BrainFM-MRI's tokens; the paper publishes none.

    unetr    UNETR's decoder (Hatamizadeh et al., arXiv 2103.10504): states of four layers, brought up and
             joined level by level, and a stem on the images for full resolution
    shallow  transposed convolutions on the last state: for small data
    linear   one linear classifier per token, enlarged trilinearly: a probe of what the tokens hold, as coarse as they are

States come averaged over the sequences that are there. The stem reads each sequence by itself with the same weights, and its
features are averaged over them, too: the head knows neither number nor order of the sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.brainfm.facts import BrainFMOptions

_KERNEL: dict[str, Any] = {"kernel_size": 3, "norm_name": "instance"}


class Head(nn.Module):
    """Base: states at the tokens' resolution and, where `stemmed`, features of the images at full resolution -> logits."""

    stemmed = False

    def stem(self, images: Tensor) -> Tensor:
        """(n, 1, X, Y, Z) single sequences -> (n, f, X, Y, Z)."""
        raise TypeError(f"{type(self).__name__} has no stem")

    def forward(self, states: Sequence[Tensor], stem: Tensor | None, size: Sequence[int]) -> Tensor:
        """States (B, D, x, y, z), the shallowest first, and the averaged stem -> logits (B, C, X, Y, Z)."""
        raise TypeError(f"{type(self).__name__} must implement forward")


class UnetrHead(Head):
    """UNETR's decoder; with tokens of 8^3 it has one level less, and the shallowest state is not used."""

    stemmed = True

    def __init__(self, options: BrainFMOptions, classes: int) -> None:
        super().__init__()
        f, width = options.head_width, options.width
        levels = options.token.bit_length() - 1  # 4 for 16^3
        self.first = UnetrBasicBlock(3, 1, f, stride=1, res_block=True, **_KERNEL)
        # level k has resolution 1/2^k; states, from the deepest level but one up to 1/2, are enlarged to it
        self.enlarge = nn.ModuleList(
            UnetrPrUpBlock(
                3, width, f * 2**k, num_layer=levels - k - 1, stride=1, upsample_kernel_size=2, conv_block=True, res_block=True,
                **_KERNEL,
            )
            for k in range(1, levels)
        )  # fmt: skip
        self.join = nn.ModuleList(
            UnetrUpBlock(
                3, width if k == levels - 1 else f * 2 ** (k + 1), f * 2**k, upsample_kernel_size=2, res_block=True, **_KERNEL
            )
            for k in range(levels)
        )
        self.classify = nn.Conv3d(f, classes, 1)

    def stem(self, images: Tensor) -> Tensor:
        """One residual block on each sequence by itself."""
        return self.first(images)

    def forward(self, states: Sequence[Tensor], stem: Tensor | None, size: Sequence[int]) -> Tensor:
        """Level by level; the deepest skip takes the third of the four states."""
        assert stem is not None
        x = states[-1]
        for k in range(len(self.join) - 1, 0, -1):
            x = self.join[k](x, self.enlarge[k - 1](states[k - len(self.join) - 1]))
        return self.classify(self.join[0](x, stem))


class ShallowHead(Head):
    """Transposed convolution, instance norm and leaky ReLU per doubling, features halving, then a linear classifier."""

    def __init__(self, options: BrainFMOptions, classes: int) -> None:
        super().__init__()
        levels = options.token.bit_length() - 1
        widths = [options.width, *(options.head_width * 2**k for k in range(levels - 1, -1, -1))]
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose3d(a, b, 2, 2), nn.InstanceNorm3d(b, affine=True), nn.LeakyReLU(0.01))
            for a, b in pairwise(widths)
        )
        self.classify = nn.Conv3d(widths[-1], classes, 1)

    def forward(self, states: Sequence[Tensor], stem: Tensor | None, size: Sequence[int]) -> Tensor:
        """The last state, doubled until it is full size."""
        x = states[-1]
        for layer in self.up:
            x = layer(x)
        return self.classify(x)


class LinearHead(Head):
    """A 1^3 convolution on the last state, logits enlarged trilinearly."""

    def __init__(self, options: BrainFMOptions, classes: int) -> None:
        super().__init__()
        self.norm, self.classify = nn.LayerNorm(options.width), nn.Conv3d(options.width, classes, 1)

    def forward(self, states: Sequence[Tensor], stem: Tensor | None, size: Sequence[int]) -> Tensor:
        """The encoder ends without a norm, hence one here."""
        tokens = self.norm(states[-1].movedim(1, -1)).movedim(-1, 1)
        return F.interpolate(self.classify(tokens).float(), size=tuple(size), mode="trilinear", align_corners=False)


HEADS: dict[str, type[Head]] = {"unetr": UnetrHead, "shallow": ShallowHead, "linear": LinearHead}
