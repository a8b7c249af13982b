"""The parts of mmFormer, in the order in which a case meets them; `mmformer` joins them and lists every choice.

Letters: B batch, M sequences, N tokens of a sequence (voxels at 1/16), D their width, w the encoders' first width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import pandas as pd
import torch
from monai.networks.blocks.mlp import MLPBlock
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 5
Layout = Literal["aligned", "published"]
Borders = Literal["zeros", "mirrored"]


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, borders: Borders = "mirrored") -> nn.Sequential:
    """Instance norm (nothing learnt) of the inputs, leaky ReLU 0.2, convolution."""
    return nn.Sequential(
        nn.InstanceNorm3d(inputs), nn.LeakyReLU(0.2), _convolution(inputs, outputs, kernel, stride, borders)
    )  # fmt: skip


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, borders: Borders = "mirrored") -> nn.Conv3d:
    mode: Literal["reflect", "zeros"] = "reflect" if kernel > 1 and borders == "mirrored" else "zeros"
    return nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, padding_mode=mode)


class Encoder(nn.Module):
    """One sequence's CNN: at each of five levels a convolution (stride 2 from the second on) and a residual pair."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widths = tuple(width * 2**level for level in range(LEVELS))
        first: list[nn.Module] = [_convolution(1, width, 3)]
        first += [convolution(a, b, stride=2) for a, b in pairwise(self.widths)]
        self.first = nn.ModuleList(first)
        self.pair = nn.ModuleList(nn.Sequential(convolution(n, n), convolution(n, n)) for n in self.widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 1, X, Y, Z) -> five maps (B, w 2^l, X / 2^l, ...)."""
        states, x = [], image
        for first, pair in zip(self.first, self.pair, strict=True):
            x = first(x)
            x = x + pair(x)
            states.append(x)
        return states


class SelfAttention(nn.Module):
    """Multi-head self-attention: no bias in query, key and value, dropout on the weights and on the output.

    MONAI's SABlock either holds all weights at once or, with its fast form, drops them out at inference too.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))

    def _parts(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value  # each (B, heads, N, D / heads)

    def forward(self, tokens: Tensor, attended: Tensor | None) -> Tensor:
        """Tokens (B, N, D) and which may be attended to, (B, N) bool or None for all -> (B, N, D)."""
        query, key, value = self._parts(tokens)
        mask = None if attended is None else attended[:, None, None, :]
        found = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        mixed: Tensor = self.project(found.transpose(1, 2).flatten(2))
        return mixed

    def mass(self, tokens: Tensor, attended: Tensor | None, parts: int) -> Tensor:
        """(B, N, parts): how much of each token's attention, mean over heads, goes to each of `parts` equal runs of tokens."""
        query, key, _ = self._parts(tokens)
        logits = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
        if attended is not None:
            logits = logits.masked_fill(~attended[:, None, None, :], -torch.inf)
        return logits.softmax(-1).mean(1).unflatten(2, (parts, -1)).sum(-1)


class Transformer(nn.Module):
    """Layers of x + pos, x + drop(attention(norm(x))), x + MLP(norm(x)): the positions are added again before every layer."""

    def __init__(self, width: int, depth: int, heads: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.attentions = nn.ModuleList(SelfAttention(width, heads, dropout) for _ in range(depth))
        self.mlps = nn.ModuleList(MLPBlock(width, mlp, dropout) for _ in range(depth))
        self.drop = nn.Dropout(dropout)

    def forward(
        self, tokens: Tensor, positions: Tensor, attended: Tensor | None = None, parts: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, D), positions (1, N, D) -> tokens, and the last layer's attention mass where `parts` is asked for."""
        mass = None
        for layer, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            tokens = tokens + positions
            normed = self.norms[2 * layer](tokens)
            if parts and layer == len(self.attentions) - 1:
                assert isinstance(attention, SelfAttention)
                mass = attention.mass(normed, attended, parts)
            tokens = tokens + self.drop(attention(normed, attended))
            tokens = tokens + mlp(self.norms[2 * layer + 1](tokens))
        return tokens, mass


def tokens_to_volume(tokens: Tensor, grid: Sequence[int], layout: Layout) -> Tensor:
    """(B, M, N, D) -> (B, M D, x, y, z), N = x y z: what each voxel reads of the inter-modal Transformer's tokens.

    'aligned': voxel v reads token v of every sequence. 'published': the public code lays the tokens out sequence after sequence
    and then views M of them as one voxel, so that voxel v reads tokens M v ... M v + M - 1 of that row: neighbours of one
    sequence (with four sequences and 512 tokens, voxels 0 to 127 see the first sequence only).
    """
    batch, count = tokens.shape[0], tokens.shape[2]
    if layout == "aligned":
        tokens = tokens.transpose(1, 2)
    return tokens.reshape(batch, count, -1).transpose(1, 2).reshape(batch, -1, *grid)


def upsample(x: Tensor, factor: int) -> Tensor:
    """Trilinear, corners on corners as in the public code."""
    return F.interpolate(x, scale_factor=factor, mode="trilinear", align_corners=True)


class Decoder(nn.Module):
    """From the deepest map up: upsample, convolve, concatenate the skip, two convolutions (3^3, 1^3); four times.

    Channels are concatenated as (skip, up). The public code's decoder of single sequences has (up, skip), its fusing
    one as here: the same network, the halves of a kernel exchanged (`released.published_names`).

    Args:
        width: w.
        classes: outputs.
        fused: the maps of how many sequences are fused (1^3, 3^3, 1^3 convolutions) before each level; 0: none, maps come singly.
        heads: logits at the four coarser levels too.
        borders: how the 3^3 convolutions of the fusions pad; all others mirror.
    """

    def __init__(self, width: int, classes: int, fused: int, heads: bool, borders: Borders = "zeros") -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.fusions = nn.ModuleList(
            nn.Sequential(convolution(fused * n, n, 1), convolution(n, n, borders=borders), convolution(n, n, 1))
            for n in (widths if fused else ())
        )
        pairs = list(pairwise(widths))
        self.ups = nn.ModuleList(convolution(deep, n) for n, deep in pairs)
        self.joins = nn.ModuleList(nn.Sequential(convolution(2 * n, n), convolution(n, n, 1)) for n, _ in pairs)
        self.heads = nn.ModuleList(nn.Conv3d(n, classes, 1) for n in (widths if heads else widths[:1]))

    def forward(self, maps: Sequence[Tensor], coarse: bool = False) -> list[Tensor]:
        """Five maps, the finest first -> logits (B, C, X, Y, Z), and if asked those at 1/2, 1/4, 1/8 and 1/16."""
        fused = [fusion(x) for fusion, x in zip(self.fusions, maps, strict=True)] if len(self.fusions) else list(maps)
        x = fused[-1]
        states = [x]
        for level in reversed(range(LEVELS - 1)):
            up = self.ups[level](upsample(x, 2))
            x = self.joins[level](torch.cat([fused[level], up], dim=1))
            states.insert(0, x)
        return [head(state) for head, state in zip(self.heads if coarse else self.heads[:1], states, strict=False)]


def tokens_read(modalities: Sequence[str], tokens: int, voxels: Sequence[int]) -> pd.DataFrame:
    """What `tokens_to_volume` gives each of some voxels to read in either layout, as 'sequence number': for a reader."""
    marks = torch.arange(len(modalities) * tokens).view(1, len(modalities), tokens, 1)
    rows = {}
    for layout in get_args(Layout):
        volume = tokens_to_volume(marks, (tokens, 1, 1), layout)[0, :, :, 0, 0]  # (M, N)
        rows[layout] = [
            ", ".join(f"{modalities[mark // tokens]} {mark % tokens}" for mark in volume[:, voxel].tolist()) for voxel in voxels
        ]
    return pd.DataFrame(rows, index=pd.Index(list(voxels), name="voxel"))
