"""The U-Net of AMAES: an encoder that pretraining and fine-tuning share, a light decoder for the one, a full one for the other.

Five levels, max-pooling, two 3^3 convolutions with instance norm and leaky ReLU (0.01) per level, features doubling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from monai.networks.blocks.convolutions import Convolution
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import Tensor, nn

LEVELS = 5
ARCHITECTURE = "amaes_unet"
"""What an encoder's description calls it."""
FIRST = "encoder.levels.0.conv_0.conv.weight"
"""The one weight whose shape depends on the number of sequences."""
_STYLE: Mapping[str, Any] = {
    "act": ("leakyrelu", {"negative_slope": 0.01, "inplace": False}),
    "norm": ("instance", {"affine": True}),
    "bias": False,  # instance norm takes it away
}


def features(width: int) -> Sequence[int]:
    """Per level, the finest first."""
    return [width << level for level in range(LEVELS)]


class Encoder(nn.Module):
    """(B, c, X, Y, Z) -> five maps, each coarser one with twice the features."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        sizes = features(width)
        downs = [Down(3, before, after, **_STYLE) for before, after in pairwise(sizes)]
        self.levels = nn.ModuleList([TwoConv(3, channels, sizes[0], **_STYLE), *downs])

    def forward(self, images: Tensor) -> list[Tensor]:
        """The finest map first."""
        states, x = [], images
        for level in self.levels:
            x = level(x)
            states.append(x)
        return states


class LightDecoder(nn.Module):
    """For pretraining: from the deepest map alone, a transposed and one 3^3 convolution per level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        steps = []
        for size in reversed(features(width)[:-1]):
            steps += [nn.ConvTranspose3d(2 * size, size, 2, 2), Convolution(3, size, size, **_STYLE)]
        self.steps = nn.Sequential(*steps)
        self.head = nn.Conv3d(width, 1, 1)

    def forward(self, deepest: Tensor) -> Tensor:
        """(B, 16 width, X / 16, ...) -> (B, 1, X, Y, Z)."""
        image: Tensor = self.head(self.steps(deepest))
        return image


class Decoder(nn.Module):
    """For segmentation: a transposed convolution, the skip, and two 3^3 convolutions per level.

    Channels are joined as (skip, up), in the public code as (up, skip): a kernel's halves exchanged (`released.published_names`).
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.ups = nn.ModuleList(UpCat(3, 2 * size, size, size, **_STYLE) for size in reversed(features(width)[:-1]))
        self.head = nn.Conv3d(width, classes, 1)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """The encoder's maps -> logits (B, C, X, Y, Z)."""
        *skips, x = states
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        logits: Tensor = self.head(x)
        return logits
