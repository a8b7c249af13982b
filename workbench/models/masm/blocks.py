"""The parts of MASM, in the order in which a case meets them; `masm` joins them and lists every choice.

Letters: B batch, M sequences, C features, T tokens of a level, x y z its voxels. Volumes of all sequences of a case are
(B, M, C, x, y, z), tokens (B, M, T, C), `present` (B, M) bool. What stands at an absent sequence is read by none of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.masm.tokens import Grid, MaskedAttention, Positions, perceptron, spread, tokenise

# -- Modality-Aware ------------------------------------------------------------------------------------------------------


class KeepDecision(nn.Module):
    """Keep or drop, per token, from the token and the mean over all tokens of its sequence (DynamicViT's form).

    local = GELU(W LN(t)), C -> C/2; logits = MLP([local, mean local]), C -> C/2 -> 2, whose bias starts at a probability of
    `start` to keep.
    """

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.local = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, half), nn.GELU())
        self.logits = nn.Sequential(nn.Linear(2 * half, half), nn.GELU(), nn.Linear(half, 2))
        bias = self.logits[-1].bias
        assert isinstance(bias, Tensor)
        with torch.no_grad():
            bias.copy_(torch.tensor([math.log(start / (1 - start)), 0.0]))

    def forward(self, tokens: Tensor, temperature: float) -> Tensor:
        """(B, M, T, C) -> (B, M, T) of 0 and 1: in training drawn by a straight-through Gumbel softmax, else the likelier one."""
        local = self.local(tokens)
        logits = self.logits(torch.cat([local, local.mean(2, keepdim=True).expand_as(local)], dim=-1)).float()
        if not self.training:
            return (logits[..., 0] >= logits[..., 1]).float()
        return F.gumbel_softmax(logits, tau=temperature, hard=True)[..., 0]


class ModalityAware(nn.Module):
    """MA: tokens are kept or dropped, dropped places are refilled from the paired sequence, kept tokens attend inside the pair.

        k_A = keep(t_A)                                            0 or 1 per token
        s_A = k_A t_A + (1 - k_A) t_B      where B is there and kept the place; else t_A
        s_A <- s_A + k_A attention(query A; keys and values: kept of A and kept of B)
        s_A <- s_A + k_A MLP(s_A)
        F_A <- F_A + enlarge(s_A - t_A)

    Args:
        width: features C.
        heads: attention heads.
        ratio: of the perceptron.
        grid: most tokens along an edge.
        edge: of the grid of position embeddings.
        start: share of tokens that are kept before anything is learnt; None: no mask, all are kept.
    """

    def __init__(self, width: int, heads: int, ratio: int, grid: int, edge: int, start: float | None) -> None:
        super().__init__()
        self.grid = grid
        self.gathering = False
        """Outside training: compute only what is kept."""
        self.refills_only = False
        """Without attention and perceptron, see `leave_out_blocks`."""
        self.decision = KeepDecision(width, start) if start is not None else None
        self.positions = Positions(width, edge)
        self.norm = nn.LayerNorm(width)
        self.attention = MaskedAttention(width, heads)
        self.mlp = perceptron(width, ratio)

    def leave_out_blocks(self) -> None:
        """An ablation: attention and perceptron become the identity, and what only they read goes with them."""
        self.refills_only = True
        del self.positions, self.norm, self.attention, self.mlp

    def forward(self, volumes: Tensor, present: Tensor, partner: Tensor, temperature: float) -> tuple[Tensor, Tensor, Grid]:
        """Volumes, presence and the index (M,) of each sequence's partner (its own where it has none).

        Returns:
            The volumes, which tokens were kept (B, M, T; 0 at absent sequences), and the grid of tokens.
        """
        tokens, grid, patch = tokenise(volumes, self.grid)
        there = present[:, :, None].float()
        kept = there.expand(*tokens.shape[:3]) if self.decision is None else self.decision(tokens, temperature) * there
        lent = kept[:, partner]  # where the partner has a token to offer; own keys twice leave the weights as they are
        own, refilled = kept.to(tokens.dtype)[..., None], ((1 - kept) * lent).to(tokens.dtype)[..., None]
        state = tokens + refilled * (tokens[:, partner] - tokens)
        if not self.refills_only:
            placed = self.norm(tokens + self.positions(grid).to(tokens.dtype))
            if self.gathering and not self.training and not tokens.is_meta:
                state = self._gathered(state, placed, kept > 0, lent > 0, partner)
            else:
                context, policy = torch.cat([placed, placed[:, partner]], dim=2), torch.cat([kept, lent], dim=2)
                attended = self.attention.attend(*(part.flatten(0, 1) for part in (placed, context, policy)))
                state = state + own * attended.unflatten(0, present.shape)
                state = state + own * self.mlp(state)
        change = torch.where(present[:, :, None, None], state - tokens, torch.zeros((), dtype=state.dtype, device=state.device))
        return spread(volumes, change, grid, patch), kept, grid

    def _gathered(self, state: Tensor, placed: Tensor, kept: Tensor, lent: Tensor, partner: Tensor) -> Tensor:
        """The same on kept tokens alone, sequence by sequence."""
        result = state.clone()
        for sample in range(len(state)):
            for index, mate in enumerate(partner.tolist()):
                chosen = kept[sample, index]
                queries = placed[sample, index, chosen][None]
                if not queries.shape[1]:
                    continue
                context = torch.cat([queries, placed[sample, mate, lent[sample, index]][None]], dim=1)
                part = (
                    state[sample, index, chosen] + self.attention.attend(queries, context, context.new_ones(context.shape[:2]))[0]
                )
                result[sample, index, chosen] = part + self.mlp(part)
        return result


# -- Modality-Shift ------------------------------------------------------------------------------------------------------


def mosaic(grid: Grid, sequences: int) -> Tensor:
    """By how many places the tokens of each voxel move along the sequences: (T,), (2 (x % 2) + (y % 2) + 2 (z % 2)) mod M.

    With four sequences each of 0 to 3 occurs exactly twice in a 2 x 2 x 2 cell. An odd side ends in a cut cell: the same as
    padding the grid with tokens that nobody attends to.
    """
    x, y, z = (torch.arange(side) % 2 for side in grid)
    return ((2 * x[:, None, None] + y[None, :, None] + 2 * z[None, None, :]) % sequences).flatten()


def places(grid: Grid) -> Tensor:
    """Which of the eight places of its 2 x 2 x 2 cell each voxel has: (T,), 4 (x % 2) + 2 (y % 2) + (z % 2)."""
    x, y, z = (torch.arange(side) % 2 for side in grid)
    return (4 * x[:, None, None] + 2 * y[None, :, None] + z[None, None, :]).flatten()


def move(tokens: Tensor, steps: Tensor) -> Tensor:
    """Roll tokens (B, M, T, ...) along the sequences, each voxel by its own number of `steps` (T,): token m goes to m + steps."""
    count = tokens.shape[1]
    source = (torch.arange(count, device=tokens.device)[:, None] - steps.to(tokens.device)) % count  # (M, T)
    source = source.reshape(1, *source.shape, *[1] * (tokens.ndim - 3))
    return tokens.take_along_dim(source, dim=1)


class Shift(nn.Module):
    """The move of tokens between sequences and its exact inverse.

    'mosaic' has no parameters. 'learned' has a logit per place of the cell and number of steps; the likeliest is taken, its
    gradient is that of the softmax (straight-through), and it starts from the mosaic. 'none' moves nothing.
    """

    def __init__(self, sequences: int, form: Literal["mosaic", "learned", "none"]) -> None:
        super().__init__()
        self.sequences, self.form = sequences, form
        self.logits = nn.Parameter(F.one_hot(mosaic((2, 2, 2), sequences), sequences).float()) if form == "learned" else None

    def steps(self, grid: Grid) -> Tensor:
        """(T,) places that each voxel's tokens move on."""
        if self.form == "none":
            return torch.zeros(math.prod(grid), dtype=torch.long)
        if self.logits is None:
            return mosaic(grid, self.sequences)
        return self.logits.detach().argmax(1)[places(grid).to(self.logits.device)]

    def forward(self, tokens: Tensor, grid: Grid, back: bool = False) -> Tensor:
        """Tokens (B, M, T, C) moved, or moved back."""
        sign = -1 if back else 1
        moved = move(tokens, sign * self.steps(grid))
        if self.logits is None or not torch.is_grad_enabled():
            return moved
        soft = self.logits.softmax(1)
        slope = (soft - soft.detach())[places(grid).to(soft.device)]  # (T, steps): zero, with the gradient of the softmax
        for count in range(self.sequences):
            moved = moved + slope[:, count, None] * tokens.roll(sign * count, dims=1)
        return moved


class ModalityShift(nn.Module):
    """MS: tokens move between the sequences, attend to each other in space, move back, and attend along the sequences.

        t <- t + back(spatial attention(move(LN(t + positions))))      each map holds tokens of several sequences
        t <- t + sequence attention(LN(t))                             voxel by voxel
        t <- t + MLP(t)

    Absent sequences are keys of neither.
    """

    def __init__(
        self, width: int, heads: int, ratio: int, grid: int, edge: int, sequences: int, form: Literal["mosaic", "learned", "none"]
    ) -> None:
        super().__init__()
        self.grid = grid
        self.positions = Positions(width, edge)
        self.shift = Shift(sequences, form)
        self.spatial_norm = nn.LayerNorm(width)
        self.spatial = MaskedAttention(width, heads)
        self.sequence_norm = nn.LayerNorm(width)
        self.sequence = MaskedAttention(width, heads)
        self.mlp = perceptron(width, ratio)

    def forward(self, volumes: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Grid]:
        """Volumes and presence.

        Returns:
            The volumes; how much each sequence is attended to, the mean over heads and over the sequences that ask, (B, M, T),
            sum 1 over the sequences that are there; and the grid of tokens.
        """
        tokens, grid, patch = tokenise(volumes, self.grid)
        there = present[:, :, None].float().expand(*tokens.shape[:3])
        zero = torch.zeros((), dtype=tokens.dtype, device=tokens.device)
        placed = self.spatial_norm(tokens + self.positions(grid).to(tokens.dtype))
        moved = self.shift(placed, grid).flatten(0, 1)
        attended = self.spatial.attend(moved, moved, move(there, self.shift.steps(grid)).flatten(0, 1))
        back = self.shift(attended.unflatten(0, present.shape), grid, back=True)
        state = tokens + torch.where(present[:, :, None, None], back, zero)

        columns = self.sequence_norm(state).transpose(1, 2).flatten(0, 1)  # (B T, M, C)
        attended, weights = self.sequence(columns, columns, there.transpose(1, 2).flatten(0, 1))
        state = state + attended.unflatten(0, (len(tokens), -1)).transpose(1, 2)
        state = state + self.mlp(state)
        change = torch.where(present[:, :, None, None], state - tokens, zero)

        asking = there / there.sum(1, keepdim=True).clamp_min(1)
        weights = weights.mean(1).unflatten(0, (len(tokens), -1))  # (B, T, asking, asked)
        return spread(volumes, change, grid, patch), torch.einsum("btqk,bqt->bkt", weights, asking), grid


# -- to the decoder ------------------------------------------------------------------------------------------------------


class Join(nn.Module):
    """Sequences into one volume: the mean over those present of W_m F_m ('concat') or of F_m ('mean').

    'concat' is a 1^3 convolution of the concatenated volumes, absent ones zero, times M / number present: its size does not
    depend on how many there are, and every sequence has a map of its own.
    """

    def __init__(self, width: int, sequences: int, form: Literal["concat", "mean"]) -> None:
        super().__init__()
        self.sequences = sequences
        self.map = nn.Conv3d(sequences * width, width, 1) if form == "concat" else None

    def forward(self, volumes: Tensor, present: Tensor) -> Tensor:
        """(B, M, C, x, y, z) and presence -> (B, C, x, y, z)."""
        share = present / present.sum(1, keepdim=True).clamp_min(1)
        shared = volumes * share.to(volumes.dtype)[:, :, None, None, None, None]
        return shared.sum(1) if self.map is None else self.map(self.sequences * shared.flatten(1, 2))


class First(nn.Module):
    """The one stream that there is when sequences are fused early: (B, 1, C, x, y, z) -> (B, C, x, y, z)."""

    def forward(self, volumes: Tensor, present: Tensor) -> Tensor:
        """Volumes; presence is not asked."""
        return volumes[:, 0]


def partners(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[int]:
    """Index of each name's partner; its own where its partner is not among the names, or it has none."""
    mates = {a: b for one, two in pairs for a, b in ((one, two), (two, one))}
    return [names.index(mates[name]) if mates.get(name) in names else index for index, name in enumerate(names)]
