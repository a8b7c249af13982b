"""The encoder of BrainFM-MRI: patch tokens of any sequences, conditioned on what sequence each comes from.

    token    u_m,p = W x_m,p + b + e_m + P_p          x: 16^3 voxels of sequence m at place p; P: learned, shared
    block    h = h + MSA(CLN(h, e)),  h = h + MLP(CLN(h, e))
    CLN      CLN(h, e) = gamma(e) (h - mean h) / sqrt(var h + 1e-5) + beta(e)
             gamma(e) = 1 + W_g e + b_g,  beta(e) = W_b e + b_b

There is no class token and no norm after the last block. All tokens of a sample attend to each other, those of all its sequences.
A batch is cut into **buckets of samples with as many sequences each**: within a bucket nothing is padded, so that an absent
sequence is no key, gets no gradient and costs nothing, and one case never changes what is computed of another.

Three options bring back what the paper's parts are there instead of: `norm` layer has one scale and shift for all sequences;
`modality_embedding` one_hot has a learned e for each sequence it was built for and refuses any other; without `padding_mask` an
absent sequence is a volume of zeros under its name, read like the others. (Padding is to all the model's sequences, not to the
longest case of the batch: own choice, so that a case alone is what it is among others.)

Attention is PyTorch's scaled_dot_product_attention in a block of our own: MONAI 1.6's `SABlock` with it drops weights in
evaluation too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from monai.networks.blocks.mlp import MLPBlock
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.errors import ParameterError
from workbench.models.brainfm.facts import BrainFMEncoderOptions
from workbench.models.brainfm.modality_embedding import ModalityEmbedding, OneHotEmbedding


class ConditionalLayerNorm(nn.Module):
    """Layer norm whose scale and shift are linear functions of a condition; at the start it is layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Linear(width, width), nn.Linear(width, width)
        self.reset()

    def reset(self) -> None:
        """Scale 1, shift 0, whatever the condition. To be called after any initialisation that goes over all linear layers: the
        published code's undoes it."""
        for layer in (self.gamma, self.beta):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, condition: Tensor, kinds: Tensor) -> Tensor:
        """tokens (b, L, D), condition (M, D), kinds (b, L): which row of the condition is each token's."""
        gamma, beta = 1 + self.gamma(condition), self.beta(condition)
        return gamma[kinds] * F.layer_norm(tokens, tokens.shape[-1:]) + beta[kinds]


class PlainLayerNorm(nn.LayerNorm):
    """Layer norm with one learned scale and shift, whatever the sequence."""

    def forward(self, tokens: Tensor, condition: Tensor, kinds: Tensor) -> Tensor:  # type: ignore[override]
        """tokens (b, L, D); the others, which a conditional norm reads, are not read."""
        return super().forward(tokens)


class Attention(nn.Module):
    """Multi-head attention of tokens to a memory, or to themselves."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.memory = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out, self.drop = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """(b, L, D), (b, K, D) -> (b, L, D)."""
        query = rearrange(self.query(tokens), "b l (h d) -> b h l d", h=self.heads)
        key, value = rearrange(self.memory(memory), "b l (two h d) -> two b h l d", two=2, h=self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        return self.drop(self.out(rearrange(mixed, "b h l d -> b l (h d)")))


class Block(nn.Module):
    """One pre-norm layer of the encoder."""

    def __init__(self, options: BrainFMEncoderOptions) -> None:
        super().__init__()
        norm = ConditionalLayerNorm if options.norm == "conditional" else PlainLayerNorm
        self.norm1, self.norm2 = norm(options.width), norm(options.width)
        self.attention = Attention(options.width, options.heads, options.dropout)
        self.mlp = MLPBlock(options.width, options.mlp, options.dropout)

    def forward(self, tokens: Tensor, condition: Tensor, kinds: Tensor) -> Tensor:
        """(b, L, D) -> (b, L, D)."""
        normed = self.norm1(tokens, condition, kinds)
        tokens = tokens + self.attention(normed, normed)
        return tokens + self.mlp(self.norm2(tokens, condition, kinds))


@dataclass(frozen=True)
class Bucket:
    """Samples of a batch with as many sequences each."""

    samples: Tensor
    """(b,) long: their places in the batch."""
    channels: Tensor
    """(b, n) long: the channels of the sequences that each has."""


def buckets(present: Tensor) -> Iterator[Bucket]:
    """The batch by number of sequences, ascending. `present`: (B, M) bool.

    Raises:
        ParameterError: a sample has no sequence at all.
    """
    if present.is_meta:  # counting operations: nothing is known, all is taken to be there
        count, channels = present.shape
        everything = torch.arange(channels, device="meta").expand(count, -1)
        yield Bucket(torch.arange(count, device="meta"), everything)
        return
    counts = present.sum(1).tolist()
    if 0 in counts:
        raise ParameterError(f"sample {counts.index(0)} of the batch has no sequence at all: there is nothing to read")
    for count in sorted(set(counts)):
        samples = torch.tensor([i for i, n in enumerate(counts) if n == count], device=present.device)
        yield Bucket(samples, present[samples].nonzero()[:, 1].view(-1, count))


class BrainFMEncoder(nn.Module):
    """Tokens and transformer.

    Args:
        options: sizes and the file of text vectors.
        modalities: the sequences the model is built for; with text any others are taken as well.
    """

    def __init__(self, options: BrainFMEncoderOptions, modalities: Sequence[str]) -> None:
        super().__init__()
        self.edge = options.token
        self.embed = nn.Linear(options.token**3, options.width)
        self.positions = nn.Parameter(torch.empty(*(options.positions,) * 3, options.width))
        self.padding_mask = options.padding_mask
        self.modality: ModalityEmbedding | OneHotEmbedding = (
            OneHotEmbedding(options.width, modalities)
            if options.modality_embedding == "one_hot"
            else ModalityEmbedding(options.width, modalities, options.embeddings)
        )
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.depth))
        initialise(self)
        if options.positions_start == "sinusoidal":
            self.positions.data.copy_(sinusoids(options.positions, options.width))
        else:
            nn.init.trunc_normal_(self.positions, std=0.02)

    def patches(self, images: Tensor) -> Tensor:
        """(..., X, Y, Z) -> (..., T, token^3): voxels of each token."""
        e = self.edge
        return rearrange(images, "... (x i) (y j) (z k) -> ... (x y z) (i j k)", i=e, j=e, k=e)

    def volumes(self, patches: Tensor, grid: Sequence[int]) -> Tensor:
        """The inverse of `patches`; `grid` = tokens along X, Y, Z."""
        e, (x, y, z) = self.edge, grid
        return rearrange(patches, "... (x y z) (i j k) -> ... (x i) (y j) (z k)", x=x, y=y, z=z, i=e, j=e, k=e)

    def grid(self, images: Tensor) -> tuple[int, int, int]:
        """Tokens along X, Y and Z."""
        x, y, z = (int(side) // self.edge for side in images.shape[-3:])
        return x, y, z

    def places(self, grid: Sequence[int]) -> Tensor:
        """(T, D): position of each token; zero beyond the learned table."""
        x, y, z = grid
        known = self.positions[:x, :y, :z]
        missing = [wanted - has for wanted, has in zip(grid, known.shape, strict=False)]
        return F.pad(known, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0])).flatten(0, 2)

    def readable(self, images: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, M, X, Y, Z) and which of them (B, M) are read: those that are present; without `padding_mask` all, absent
        ones as zeros."""
        if self.padding_mask:
            return images, present
        return images.masked_fill(~present[:, :, None, None, None], 0), torch.ones_like(present)

    def tokens(self, images: Tensor, condition: Tensor) -> Tensor:
        """(B, M, X, Y, Z), (M, D) -> (B, M, T, D)."""
        return self.embed(self.patches(images)) + condition[:, None] + self.places(self.grid(images))

    def forward(self, tokens: Tensor, condition: Tensor, kinds: Tensor, taps: Sequence[int] = ()) -> list[Tensor]:
        """States (b, L, D) after the layers in `taps` (counted from 1; () = the last).

        Args:
            tokens: (b, L, D).
            condition: (M, D) modality embeddings.
            kinds: (b, L) long: row of the condition of each token.
            taps: layers, ascending.
        """
        wanted, states = tuple(taps) or (len(self.blocks),), []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens, condition, kinds)
            if number in wanted:
                states.append(tokens)
        return states

    def encode(self, tokens: Tensor, condition: Tensor, present: Tensor, taps: Sequence[int] = ()) -> list[Tensor]:
        """Whole cases, bucket by bucket: states averaged over the sequences of each sample, (B, T, D) per tap.

        Args:
            tokens: (B, M, T, D) of all sequences.
            condition: (M, D).
            present: (B, M) bool: the tokens of others are never read.
            taps: as in `forward`.
        """
        found: list[list[Tensor]] = []
        order = []
        for bucket in buckets(present):
            chosen = tokens[bucket.samples[:, None], bucket.channels]  # (b, n, T, D)
            kinds = bucket.channels.repeat_interleave(tokens.shape[2], dim=1)
            states = self(chosen.flatten(1, 2), condition, kinds, taps)
            found.append([state.unflatten(1, chosen.shape[1:3]).mean(1) for state in states])
            order.append(bucket.samples)
        back = torch.argsort(torch.cat(order))
        return [torch.cat(parts)[back] for parts in zip(*found, strict=True)]


def sinusoids(edge: int, width: int) -> Tensor:
    """(edge, edge, edge, width): a third of the features for each axis, sines and cosines of its index at falling frequencies."""
    frequency = 10_000.0 ** (-torch.arange(width // 6) / (width // 6))
    angle = torch.arange(edge)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # (edge, width / 3)
    shape = (edge, edge, edge, width // 3)
    return torch.cat([axis[:, None, None].expand(shape), axis[:, None].expand(shape), axis.expand(shape)], dim=3)


def initialise(module: nn.Module) -> None:
    """Xavier for every linear layer, zeros for its bias (published code); conditional layer norm stays layer norm."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, ConditionalLayerNorm):
            part.reset()
