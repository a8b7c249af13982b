"""Two decoders that give masked tokens back: BrainFM-MRI's published one, and a light one as in MAE.

    published  8 layers of self-attention over the whole sequence, cross-attention to the visible tokens and an MLP (1024), as
    wide
               as the encoder, ordinary layer norm, pre-norm; a last norm; linear to the token's voxels
    light      self-attention over the whole sequence only, narrow, after a linear layer (He et al., arXiv 2111.06377)

The sequence has the encoder's states where tokens are visible and a learned mask token elsewhere, each with the position and the
embedding of its sequence. Own choices: pre-norm, and that visible tokens get position and embedding again (as in MAE).
"""

from __future__ import annotations

import torch
from monai.networks.blocks.mlp import MLPBlock
from torch import Tensor, nn

from workbench.models.brainfm.encoder import Attention, initialise
from workbench.models.brainfm.facts import BrainFMPretrainOptions


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention where there is one, MLP; pre-norm."""

    def __init__(self, width: int, heads: int, mlp: int, dropout: float, cross: bool) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width) if cross else None
        self.cross = Attention(width, heads, dropout) if cross else None
        self.norm3, self.mlp = nn.LayerNorm(width), MLPBlock(width, mlp, dropout)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """(b, L, D) and the visible tokens (b, K, D) -> (b, L, D)."""
        normed = self.norm1(tokens)
        tokens = tokens + self.attention(normed, normed)
        if self.cross is not None and self.norm2 is not None:
            tokens = tokens + self.cross(self.norm2(tokens), memory)
        return tokens + self.mlp(self.norm3(tokens))


class MaskedDecoder(nn.Module):
    """Visible tokens and places -> voxels of every token."""

    def __init__(self, options: BrainFMPretrainOptions) -> None:
        super().__init__()
        published = options.decoder == "published"
        width = options.width if published else options.decoder_width
        self.mask = nn.Parameter(torch.empty(options.width))
        self.narrow: nn.Module = nn.Identity() if published else nn.Linear(options.width, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, options.heads, options.decoder_mlp, options.dropout, published)
            for _ in range(options.decoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.voxels = nn.Linear(width, options.token**3)
        initialise(self)
        nn.init.normal_(self.mask, std=0.02)

    def forward(self, visible: Tensor, shown: Tensor, where: Tensor) -> Tensor:
        """Voxels (b, L, token^3) of every token of the sequence.

        Args:
            visible: (b, K, D) the encoder's states.
            shown: (b, K) long: their places in the sequence.
            where: (b, L, D) position and modality embedding of every place.
        """
        index = shown[:, :, None].expand(-1, -1, visible.shape[2])
        whole = self.mask.to(visible.dtype).expand(*where.shape).scatter(1, index, visible) + where
        tokens, memory = self.narrow(whole), self.narrow(visible)
        for layer in self.layers:
            tokens = layer(tokens, memory)
        return self.voxels(self.norm(tokens))
