"""The parts of MTS-UNET: CMD, its attentions and gate, the classifiers; `mts_unet` joins them and lists every choice."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpatialAttention(nn.Module):
    """Maximum and mean over channels -> 3^3 convolution -> sigmoid, or sigmoid of ReLU as in the published code."""

    def __init__(self, published: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 1, 3, padding=1, bias=False)
        self.published = published

    def forward(self, difference: Tensor) -> Tensor:
        """(B, C, x, y, z) -> (B, 1, x, y, z)."""
        score = self.conv(torch.cat([difference.amax(1, keepdim=True), difference.mean(1, keepdim=True)], dim=1))
        return torch.sigmoid(F.relu(score) if self.published else score)


class ChannelAttention(nn.Module):
    """CBAM's channel branch: average and maximum over space through one shared bottleneck, added, sigmoid."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.bottleneck = nn.Sequential(
            nn.Conv3d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv3d(hidden, channels, 1, bias=False)
        )

    def forward(self, difference: Tensor) -> Tensor:
        """(B, C, x, y, z) -> (B, C, 1, 1, 1)."""
        average, maximum = difference.mean((2, 3, 4), keepdim=True), difference.amax((2, 3, 4), keepdim=True)
        return torch.sigmoid(self.bottleneck(average) + self.bottleneck(maximum))


class CrossModalityDifferential(nn.Module):
    """CMD: from gated T2 and FLAIR (B, 1, X, Y, Z each) to features (B, 2 C) and the attention it used.

    `v1` has a convolution per modality; `cbam` shares one, so that equal images give no difference, and adds channel attention.
    With `published` both equal their authors' code on its weights to float error (`tests/parity`). The cbam file gives the
    spatial convolution (mean, maximum), the v1 file and ours (maximum, mean): a kernel's two channels exchanged. It applies no
    gate and takes T2 and FLAIR from other channels than the data have them in: here the images are gated, and go by name.
    """

    def __init__(self, channels: int, gamma: float, form: str, published: bool) -> None:
        super().__init__()
        self.gamma = gamma

        def conv() -> nn.Conv3d:
            layer = nn.Conv3d(1, channels, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            return layer

        self.conv_t2 = conv()
        self.conv_flair = conv() if form == "v1" else None
        self.channel = ChannelAttention(channels) if form == "cbam" else None
        self.spatial = SpatialAttention(published)

    def difference(self, t2: Tensor, flair: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gated images -> (difference, T2 features, FLAIR features), each (B, C, X/2, Y/2, Z/2)."""
        f_t2 = self.conv_t2(t2)
        f_flair = (self.conv_flair or self.conv_t2)(flair)
        return self.gamma * (f_t2 - f_flair), f_t2, f_flair

    def forward(self, t2: Tensor, flair: Tensor) -> tuple[Tensor, Tensor]:
        """Gated images -> features (B, 2 C) and attention (B, 1 or C, X/2, Y/2, Z/2)."""
        difference, f_t2, f_flair = self.difference(t2, flair)
        if self.channel is None:
            attention = self.spatial(difference)
        else:
            weights = self.channel(difference)
            attention = weights * self.spatial(weights * difference)
        features = [(f + attention * f).mean((2, 3, 4)) for f in (f_t2, f_flair)]
        return torch.cat(features, dim=1), attention


class OwnGate(nn.Sequential):
    """A gate for CMD that needs no segmentation: from T2 and FLAIR (B, 2, X, Y, Z) to logits (B, 1, X, Y, Z).

    Three convolutions of stride 2 (8, 16, 32 channels, instance norm, ReLU), one that looks around at 1/8, and one logit per
    cell, enlarged trilinearly. Nothing but the loss of IDH teaches it where to look.
    """

    WIDTHS = (2, 8, 16, 32)

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(self.WIDTHS):
            layers += [nn.Conv3d(before, after, 3, stride=2, padding=1), nn.InstanceNorm3d(after, affine=True), nn.ReLU()]
        last = self.WIDTHS[-1]
        layers += [nn.Conv3d(last, last, 3, padding=1), nn.ReLU(), nn.Conv3d(last, 1, 1)]
        super().__init__(*layers, nn.Upsample(scale_factor=8, mode="trilinear", align_corners=False))


class Classifier(nn.Sequential):
    """Linear 256, 64, outputs, with ReLU and dropout between: the head of either stream."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(inputs, 256), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(256, 64), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(64, outputs),
        )  # fmt: skip
