"""Decoders that give masked tokens back: BrainFM-MRI's published one, one like it, and a light one as in MAE.

    published        8 layers of self-attention over the whole sequence, cross-attention to the visible tokens and an MLP (1024),
                     as wide as the encoder, ordinary layer norm, pre-norm; a last norm; linear to the token's voxels
    cross_attention  the same layers with GELU, and embeddings for all (own)
    light            self-attention over the whole sequence only, narrow, after a linear layer (He et al., arXiv 2111.06377)

The sequence has the encoder's states where tokens are visible and a learned mask token elsewhere. In the two own forms each is
given the position and the embedding of its sequence, the visible ones again, as in MAE. In the published code visible tokens are
given the position alone; and its MLPs compute ReLU, not the GELU they are built with: `nn.TransformerDecoder` copies its layer,
and a copied layer forgets an activation that is a module. `published` does what that code computes, equal to it to float error
(`tests/parity`).
"""

from __future__ import annotations

import torch
from monai.networks.blocks.mlp import MLPBlock
from torch import Tensor, nn

from workbench.models.brainfm.encoder import Attention, initialise
from workbench.models.brainfm.facts import BrainFMPretrainOptions


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention where there is one, MLP; pre-norm."""

    def __init__(self, width: int, heads: int, mlp: int, dropout: float, cross: bool, activation: str = "GELU") -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width) if cross else None
        self.cross = Attention(width, heads, dropout) if cross else None
        self.norm3, self.mlp = nn.LayerNorm(width), MLPBlock(width, mlp, dropout, act=activation)

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
        light = options.decoder_form == "light"
        activation = "RELU" if options.decoder_form == "published" else "GELU"
        width = options.decoder_width if light else options.width
        self.mask = nn.Parameter(torch.empty(options.width))
        self.narrow: nn.Module = nn.Linear(options.width, width) if light else nn.Identity()
        self.layers = nn.ModuleList(
            DecoderLayer(width, options.heads, options.decoder_mlp, options.dropout, not light, activation)
            for _ in range(options.decoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.voxels = nn.Linear(width, options.token**3)
        initialise(self)
        nn.init.normal_(self.mask, std=0.02)

    def forward(self, visible: Tensor, shown: Tensor, where: Tensor, positions: Tensor | None = None) -> Tensor:
        """Voxels (b, L, token^3) of every token of the sequence.

        Args:
            visible: (b, K, D) the encoder's states.
            shown: (b, K) long: their places in the sequence.
            where: (b, L, D) position and modality embedding of every place.
            positions: (b, L, D) position alone, which visible tokens are then given (published); None: they are given `where`.
        """
        return self.decode(self.laid_out(visible, shown, where, positions), visible)

    def laid_out(self, visible: Tensor, shown: Tensor, where: Tensor, positions: Tensor | None = None) -> Tensor:
        """(b, L, D): visible and mask tokens in their places, as the decoder is given them; arguments as in `forward`."""
        index = shown[:, :, None].expand(-1, -1, visible.shape[2])
        given = visible + (where if positions is None else positions).gather(1, index)
        masked = self.mask.to(visible.dtype) + where
        return masked.scatter(1, index, given.to(masked.dtype))

    def decode(self, whole: Tensor, visible: Tensor) -> Tensor:
        """Laid-out tokens (b, L, D) and the visible ones (b, K, D) -> voxels (b, L, token^3)."""
        tokens, memory = self.narrow(whole), self.narrow(visible)
        for layer in self.layers:
            tokens = layer(tokens, memory)
        return self.voxels(self.norm(tokens))
