"""The parts of MGMT-Net, in the order in which a case meets them; `mgmt_net` joins them and lists every choice.

Letters: B batch, M modalities, C' channels of the fused image, C channels of the encoded one, X Y Z space; /8 = an eighth of it.
"""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.blocks.squeeze_and_excitation import ChannelSELayer
from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Norm = Literal["instance", "batch"]
HEADS = (3, 6, 12, 12)
"""Attention heads of the four Swin stages, whose widths are 1, 2, 4, 4 times the first."""


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """Instance or batch norm with learnt scale and shift."""
    return nn.InstanceNorm3d(channels, affine=True) if kind == "instance" else nn.BatchNorm3d(channels)


class CrossModalityAttentionFusion(nn.Module):
    """CMAF: (B, M, X, Y, Z) images -> one image of C' channels, a mixture of the modalities that each voxel weighs for itself.

        F_m   = ReLU(norm(conv3(I_m)))                        one shared embedding, 1 -> C'
        z     = [F_1 ... F_M]                                 (B, M C', X, Y, Z)
        alpha = softmax_m(W2 drop(ReLU(W1 z + b1)) + b2)      (B, M, X, Y, Z)
        F     = sum_m alpha_m F_m                             (B, C', X, Y, Z)

    An absent modality has logit -inf, hence weight zero, and its F_m is zero in z. `form="concat"` is the ablation: the same
    embedding, then F = W z.
    """

    def __init__(
        self, modalities: int, channels: int, norm: Norm, form: Literal["cmaf", "concat"], dropout: float, checkpointing: bool
    ) -> None:
        super().__init__()
        self.channels = channels
        # recomputing batch norm would count its running statistics twice
        self.checkpointing = checkpointing and norm == "instance"
        self.embedding = nn.Sequential(nn.Conv3d(1, channels, 3, padding=1, bias=False), norm_layer(norm, channels), nn.ReLU())
        self.gate = self.mix = None
        if form == "cmaf":
            hidden = max(1, channels // 2)
            self.gate = nn.Sequential(
                nn.Conv3d(modalities * channels, hidden, 1), nn.ReLU(), nn.Dropout(dropout), nn.Conv3d(hidden, modalities, 1)
            )
        else:
            self.mix = nn.Conv3d(modalities * channels, channels, 1)

    def forward(self, images: Tensor, present: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images and present (B, M) -> F and alpha; alpha is None in the ablation."""
        if self.checkpointing and self.training:
            return checkpoint(self._fuse, images, present, use_reentrant=False)
        return self._fuse(images, present)

    def embed(self, images: Tensor, present: Tensor) -> Tensor:
        """F_m of all modalities, (B, M, C', X, Y, Z); of absent ones exactly zero, and they are not in the norm's statistics."""
        flat, there = images.flatten(0, 1)[:, None], present.flatten()
        if there.is_meta or bool(there.all()):  # on the meta device operations are only counted
            embedded = self.embedding(flat)
        else:
            some = self.embedding(flat[there])
            embedded = some.new_zeros(len(flat), *some.shape[1:])
            embedded[there] = some
        return embedded.unflatten(0, images.shape[:2])

    def weights(self, embedded: Tensor, present: Tensor) -> Tensor:
        """alpha (B, M, X, Y, Z) in float32: sums to one over the modalities that are there; all zero where none is."""
        assert self.gate is not None
        logits = self.gate(embedded.flatten(1, 2)).float()
        open_ = present | ~present.any(1, keepdim=True)  # a softmax over nothing but -inf would be NaN
        weights = logits.masked_fill(~open_[:, :, None, None, None], -torch.inf).softmax(1)
        return weights * present[:, :, None, None, None]

    def _fuse(self, images: Tensor, present: Tensor) -> tuple[Tensor, Tensor | None]:
        embedded = self.embed(images, present)
        if self.mix is not None:
            return self.mix(embedded.flatten(1, 2)), None
        weights = self.weights(embedded, present)
        shares = weights.to(embedded.dtype)
        # one modality after the other: the product of all at once would be another M C' channels at full resolution
        fused = shares[:, 0, None] * embedded[:, 0]
        for index in range(1, embedded.shape[1]):
            fused = fused + shares[:, index, None] * embedded[:, index]
        return fused, weights


class CnnBranch(nn.Module):
    """Three stages: 2^3 convolution with stride 2, then residual blocks (two 3^3 convolutions with norm and ReLU)."""

    def __init__(self, inputs: int, width: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        self.widths = (width, 2 * width, 4 * width)
        name = ("INSTANCE", {"affine": True}) if norm == "instance" else "BATCH"
        stages, before = [], inputs
        for channels in self.widths:
            residual = [
                UnetResBlock(3, channels, channels, 3, 1, name, act_name=("relu", {"inplace": False})) for _ in range(blocks)
            ]
            stages.append(nn.Sequential(nn.Conv3d(before, channels, 2, stride=2), *residual))
            before = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C', X, Y, Z) -> features at /2, /4, /8 with 1, 2, 4 times the width."""
        states = []
        for stage in self.stages:
            image = stage(image)
            states.append(image)
        return states


class SwinBranch(nn.Module):
    """Four Swin stages of two blocks (window and shifted-window attention) at /2, /4, /8, /8, on MONAI's 3-D blocks.

    Patches are merged (in the order of MONAI >= 1.5) after the first two stages only: four mergings cannot end at /8.
    """

    def __init__(self, inputs: int, embed: int, window: int, checkpointing: bool) -> None:
        super().__init__()
        self.window = window
        self.width = 4 * embed
        self.embedding = nn.Conv3d(inputs, embed, 2, stride=2)
        self.stages = nn.ModuleList(
            BasicLayer(
                dim=embed * factor,
                depth=2,
                num_heads=heads,
                window_size=(window,) * 3,
                drop_path=[0.0, 0.0],
                qkv_bias=True,
                use_checkpoint=checkpointing,
                use_flash_attention=True,  # without gradients only
            )
            for factor, heads in zip((1, 2, 4, 4), HEADS, strict=True)
        )
        self.merging = nn.ModuleList(PatchMerging(embed * factor) for factor in (1, 2))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C', X, Y, Z) -> (B, 4 embed, /8)."""
        x = self.embedding(image)
        for index, stage in enumerate(self.stages):
            x = self.attend(stage, x)
            if index < len(self.merging):
                x = self.merging[index](x.movedim(1, -1)).movedim(-1, 1)
        normalised: Tensor = self.norm(x.movedim(1, -1))
        return normalised.movedim(-1, 1)

    def attend(self, stage: nn.Module, x: Tensor) -> Tensor:
        """One stage on (B, c, x, y, z), padded with zeros to at least one window.

        MONAI would shrink the window instead and then look up its position biases in the wrong rows of the table.
        """
        sides = x.shape[2:]
        short = [max(0, self.window - side) for side in sides]
        if any(short):
            x = F.pad(x, (0, short[2], 0, short[1], 0, short[0]))
        x = stage(x)
        return x[:, :, : sides[0], : sides[1], : sides[2]]


class AttentionGate(nn.Module):
    """Additive attention on a skip (Oktay et al., arXiv 1804.03999): skip x sigmoid(conv1(ReLU(conv1(skip) + conv1(decoder)))).

    MONAI's block is tied to batch norm, which the `norm` switch must not meet.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.skip, self.decoder = nn.Conv3d(channels, hidden, 1, bias=False), nn.Conv3d(channels, hidden, 1)
        self.score = nn.Conv3d(hidden, 1, 1)

    def forward(self, skip: Tensor, decoder: Tensor) -> Tensor:
        """Both (B, c, x, y, z) -> the skip, attenuated where the decoder sees nothing."""
        return skip * torch.sigmoid(self.score(F.relu(self.skip(skip) + self.decoder(decoder))))


class DecoderStage(nn.Module):
    """Trilinear x 2, conv3, concatenate the skip, conv3-norm-ReLU beside a 1^3 residual; squeeze-and-excitation if asked."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, attention_gate: bool, squeeze_excitation: bool) -> None:
        super().__init__()
        self.up = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.attention_gate = AttentionGate(outputs) if attention_gate else None
        self.conv = nn.Sequential(nn.Conv3d(2 * outputs, outputs, 3, padding=1, bias=False), norm_layer(norm, outputs), nn.ReLU())
        self.residual = nn.Conv3d(2 * outputs, outputs, 1)
        self.squeeze_excitation = ChannelSELayer(3, outputs) if squeeze_excitation else None

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, inputs, x, y, z) and the skip (B, outputs, 2x, 2y, 2z) -> (B, outputs, 2x, 2y, 2z)."""
        x = self.up(F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False))
        if self.attention_gate is not None:
            skip = self.attention_gate(skip, x)
        both = torch.cat([x, skip], dim=1)
        result: Tensor = self.conv(both) + self.residual(both)
        return result if self.squeeze_excitation is None else self.squeeze_excitation(result)


class GatedPooling(nn.Module):
    """(B, C, /8) features and the logarithm of a gate -> (B, C) and the weights (B, 1, /8) that made it.

        a = W_a tanh(W_f F)            attention; zero in the ablation (`form="average"`)
        w = softmax_v(a_v + log g_v)   over all voxels v: they sum to one
        z = sum_v w_v F_v

    Without attention and gate this is the global average; with the gate alone, the average weighted by it.
    """

    def __init__(self, channels: int, form: Literal["attention", "average"]) -> None:
        super().__init__()
        # a bias of W_a would cancel in the softmax
        self.features = nn.Conv3d(channels, channels, 1, bias=False) if form == "attention" else None
        self.attention = nn.Conv3d(channels, 1, 1, bias=False) if form == "attention" else None

    def forward(self, features: Tensor, log_gate: Tensor | None) -> tuple[Tensor, Tensor]:
        """Pooled in float32: thousands of voxels are added up."""
        logits = torch.zeros_like(features[:, :1], dtype=torch.float32)
        if self.features is not None and self.attention is not None:
            logits = self.attention(torch.tanh(self.features(features))).float()
        if log_gate is not None:
            logits = logits + log_gate
        weights = logits.flatten(2).softmax(2).view_as(logits)
        return (weights * features.float()).sum((2, 3, 4)), weights
