"""nnU-Net's convolutional U-Nets: the plain one, of `unet`, the pooled U-Net and MoME's experts and gates, and that with a
residual encoder. Both equal nnU-Net's own on its weights to float error (`tests/parity`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

SLOPE = 0.01
"""Of the leaky ReLU."""


def stage_features(width: int, levels: int) -> tuple[int, ...]:
    """Features per stage by nnU-Net's rule: doubling, at most ten times the first (32, 64, 128, 256, 320, 320)."""
    return tuple(min(width * 2**level, width * 10) for level in range(levels))


@dataclass(frozen=True)
class NetworkOutput:
    """What a `PlainUNet` makes of a batch."""

    logits: tuple[Tensor, ...]
    """(B, outputs, x, y, z) per decoder level that has a head, the finest first."""
    first: Tensor
    """(B, width, X, Y, Z): output of the first encoder stage, before any down-sampling."""
    bottom: Tensor
    """(B, features, x, y, z): output of the last encoder stage."""


class PlainUNet(nn.Module):
    """The plain convolutional U-Net of nnU-Net v2 (Isensee et al., Nature Methods 2021), biases included.

    Two 3^3 convolutions with bias, instance norm (affine, eps 1e-5) and leaky ReLU (0.01) per stage, the first of a stage with
    stride 2; transposed convolutions up; two convolutions per decoder stage; a 1^3 head at each decoder level. He
    initialisation for a leaky ReLU of slope 0.01, biases zero.

    Args:
        channels: of the input.
        outputs: of each head.
        features: per stage, the finest first.
        heads: decoder levels with a head, from the finest; None = all.
        vector: length of a vector that is joined to the bottleneck (MoME+'s availability); 0 = none.
    """

    def __init__(
        self, channels: int, outputs: int, features: Sequence[int], *, heads: int | None = None, vector: int = 0
    ) -> None:
        super().__init__()
        inputs = [channels, *features[:-1]]
        pairs = enumerate(zip(inputs, features, strict=True))
        self.encoder = nn.ModuleList(_stage(before, after, 1 if level == 0 else 2) for level, (before, after) in pairs)
        upward = list(zip(reversed(features[1:]), reversed(features[:-1]), strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(below + (vector if step == 0 else 0), here, 2, stride=2)
            for step, (below, here) in enumerate(upward)
        )
        self.decoder = nn.ModuleList(_stage(2 * here, here, 1) for _, here in upward)
        self.heads = nn.ModuleList(nn.Conv3d(f, outputs, 1) for f in features[: -1 if heads is None else heads])
        self.apply(_he)

    def restart_heads(self) -> None:
        """New random heads, from torch's global generator."""
        self.heads.apply(_he)

    def forward(self, x: Tensor, vector: Tensor | None = None, coarse: bool = True) -> NetworkOutput:
        """(B, channels, X, Y, Z), and (B, vector) for the bottleneck; without `coarse` the finest head only."""
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        bottom = x
        if vector is not None:
            x = torch.cat([x, vector.to(x)[:, :, None, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
        states = []
        for up, stage, skip in zip(self.up, self.decoder, reversed(skips[:-1]), strict=True):
            x = stage(torch.cat([up(x), skip], dim=1))
            states.append(x)
        heads = list(zip(self.heads, reversed(states), strict=False))
        return NetworkOutput(tuple(head(state) for head, state in (heads if coarse else heads[:1])), skips[0], bottom)


class ResidualEncoderUNet(PlainUNet):
    """nnU-Net's U-Net with a residual encoder (Isensee et al., *nnU-Net Revisited*, MICCAI 2024, arXiv 2404.09556).

    A 3^3 convolution as stem; per stage residual blocks, of which the first halves the resolution; one convolution per decoder
    stage. The rest is as in `PlainUNet`.

    Args:
        channels: of the input.
        outputs: of each head.
        features: per stage, the finest first; the stem has the first's.
        blocks: residual blocks per stage.
        heads: decoder levels with a head, from the finest; None = all.
    """

    def __init__(
        self, channels: int, outputs: int, features: Sequence[int], blocks: Sequence[int], *, heads: int | None = None
    ) -> None:
        super().__init__(channels, outputs, features, heads=heads)
        stages = []
        for level, (after, count) in enumerate(zip(features, blocks, strict=True)):
            before = features[max(0, level - 1)]
            first = ResidualBlock(before, after, 1 if level == 0 else 2)
            stages.append(nn.Sequential(first, *(ResidualBlock(after, after, 1) for _ in range(count - 1))))
        stages[0].insert(0, _block(channels, features[0], 1))
        self.encoder = nn.ModuleList(stages)
        self.decoder = nn.ModuleList(nn.Sequential(_block(2 * here, here, 1)) for here in reversed(features[:-1]))
        self.apply(_he)


class ResidualBlock(nn.Module):
    """Convolution, norm, leaky ReLU; convolution, norm; the input added; leaky ReLU.

    The input comes by average pooling where the block halves the resolution, and by a 1^3 convolution without bias and a norm
    where it changes the features.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _block(inputs, outputs, stride), _block(outputs, outputs, 1, active=False)
        self.pool = nn.AvgPool3d(stride) if stride > 1 else nn.Identity()
        self.project = _block(inputs, outputs, 1, kernel=1, bias=False, active=False) if inputs != outputs else nn.Identity()
        self.active = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, X, Y, Z) -> (B, outputs, X / stride, ...)."""
        summed: Tensor = self.active(self.second(self.first(x)) + self.project(self.pool(x)))
        return summed


def _block(inputs: int, outputs: int, stride: int, *, kernel: int = 3, bias: bool = True, active: bool = True) -> Convolution:
    return Convolution(
        3, inputs, outputs, strides=stride, kernel_size=kernel, bias=bias, adn_ordering="NA" if active else "N",
        norm=("instance", {"affine": True}), act=("leakyrelu", {"negative_slope": SLOPE}),
    )  # fmt: skip


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_block(inputs, outputs, stride), _block(outputs, outputs, 1))


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
