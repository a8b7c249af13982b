"""Backbones of MASM: an encoder of single sequences into levels of features, and a decoder of joined levels into logits.

Fused early, the encoder reads `inputs` sequences as channels of one image.
Each has `widths` (features per level, the finest first), `strides` (voxels per side of a level's cell), `divisor`, `minimum`,
`encode`: (N, inputs, X, Y, Z) -> a list of (N, width, x, y, z), and `decode`: the same levels, joined -> (N, classes, X, Y, Z).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetOutBlock, UnetUpBlock
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from workbench.models.baselines.facts import TOKEN, UNETROptions
from workbench.models.baselines.unetr import UNETR
from workbench.models.swin.backbone import SwinBackbone

NORM = ("INSTANCE", {"affine": True})
ACT = ("leakyrelu", {"inplace": False, "negative_slope": 0.01})  # in place would break Grad-CAM's hooks


class UNetLevels(nn.Module):
    """nnU-Net's plain U-Net, made of MONAI's DynUNet blocks (no biases), without deep supervision."""

    def __init__(self, classes: int, width: int, levels: int, inputs: int = 1) -> None:
        super().__init__()
        self.widths = tuple(min(width * 2**level, width * 10) for level in range(levels))
        self.strides = tuple(2**level for level in range(levels))
        self.divisor = self.strides[-1]
        self.minimum = 2 * self.divisor  # instance norm needs more than one voxel at the bottom
        ups = list(zip(self.widths[1:], self.widths, strict=False))
        self.down = nn.ModuleList(
            UnetBasicBlock(3, before, after, 3, 1 if index == 0 else 2, NORM, ACT)
            for index, (before, after) in enumerate(zip((inputs, *self.widths), self.widths, strict=False))
        )
        self.up = nn.ModuleList(UnetUpBlock(3, below, here, 3, 1, 2, NORM, ACT) for below, here in ups)
        self.head = UnetOutBlock(3, width, classes)
        self.apply(DynUNet.initialize_weights)

    def encode(self, images: Tensor) -> list[Tensor]:
        """All levels."""
        levels, x = [], images
        for block in self.down:
            x = block(x)
            levels.append(x)
        return levels

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """Joined levels -> logits."""
        x = levels[-1]
        for block, skip in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            x = block(x, skip)
        return self.head(x)


class SwinLevels(nn.Module):
    """Swin UNETR: six levels, what its decoder is handed: states of the transformer after their residual blocks."""

    def __init__(self, classes: int, width: int, inputs: int = 1) -> None:
        super().__init__()
        self.widths = (width, *(width * 2**level for level in range(3)), 8 * width, 16 * width)
        self.strides = (1, 2, 4, 8, 16, 32)
        self.divisor, self.minimum = 32, 64
        self.net = SwinBackbone(inputs, classes, width, 7, False)

    def encode(self, images: Tensor) -> list[Tensor]:
        """All levels."""
        net = self.net
        s0, s1, s2, s3, s4 = (net.layer_norm(state) for state in net.encode(images))
        return [net.encoder1(images), net.encoder2(s0), net.encoder3(s1), net.encoder4(s2), s3, net.encoder10(s4)]

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """Joined levels -> logits."""
        net, x = self.net, levels[5]
        for block, skip in zip(
            (net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1), levels[4::-1], strict=True
        ):
            x = block(x, skip)
        return net.out(x)


class UNETRLevels(nn.Module):
    """UNETR: five levels, the image and the transformer's states after layers 4, 7, 10 and 12 as its decoder is handed them."""

    def __init__(self, classes: int, width: int, hidden: int, inputs: int = 1) -> None:
        super().__init__()
        self.widths = (width, 2 * width, 4 * width, 8 * width, hidden)
        self.strides = (1, 2, 4, 8, TOKEN)
        self.divisor = self.minimum = TOKEN
        options = UNETROptions(width=width, hidden=hidden, heads=12, mlp=4 * hidden)
        names = tuple(f"sequence{number}" for number in range(inputs))
        self.whole = UNETR(modalities=names, classes=classes, markers=(), options=options)

    def encode(self, images: Tensor) -> list[Tensor]:
        """All levels."""
        net, grid = self.whole.net, [side // TOKEN for side in images.shape[2:]]
        state, states = self.whole.tokens(images), []
        for block in net.vit.blocks:
            state = block(state)
            states.append(state)
        z3, z6, z9, z12 = (
            tokens.transpose(1, 2).unflatten(2, grid) for tokens in (states[3], states[6], states[9], net.vit.norm(state))
        )
        return [net.encoder1(images), net.encoder2(z3), net.encoder3(z6), net.encoder4(z9), z12]

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """Joined levels -> logits."""
        net, x = self.whole.net, levels[4]
        for block, skip in zip((net.decoder5, net.decoder4, net.decoder3, net.decoder2), levels[3::-1], strict=True):
            x = block(x, skip)
        return net.out(x)


Backbone = UNetLevels | SwinLevels | UNETRLevels


def build_backbone(kind: str, classes: int, width: int, levels: int, token_width: int, inputs: int = 1) -> Backbone:
    """The backbone of this kind: 'unet', 'swin_unetr' or 'unetr'."""
    if kind == "swin_unetr":
        return SwinLevels(classes, width, inputs)
    if kind == "unetr":
        return UNETRLevels(classes, width, token_width, inputs)
    return UNetLevels(classes, width, levels, inputs)


def encode_one_by_one(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """As `backbone.encode`, each of the N sequences recomputed in the backward pass: one's activations at a time in memory."""
    parts = [checkpoint(backbone.encode, images[i : i + 1], use_reentrant=False) for i in range(len(images))]
    return [torch.cat(level) for level in zip(*parts, strict=True)]
