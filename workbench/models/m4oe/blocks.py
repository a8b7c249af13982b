"""The parts of M4oE: experts behind a gate, Swin blocks that have them, and a decoder's steps up. Tokens are (B, x, y, z, d)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.blocks.mlp import MLPBlock
from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask, get_window_size
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Experts(nn.Module):
    """What stands in a Swin block's place of its feed-forward network: one such network per sequence, and a gate.

        expert        g = softmax_e(W_g x + b_g) over the available experts,   y = sum_e g_e FFN_e(x)
        as_released   g = softmax over the d features of (W_g x + b_g),        y = g * sum_e FFN_e(x)

    The public code's gate is as wide as the features and its output is spread over the experts: each gets the same weights, so
    that none is selected, whatever the available sequences are.
    """

    def __init__(self, width: int, experts: int, released: bool) -> None:
        super().__init__()
        self.released = released
        self.experts = nn.ModuleList(MLPBlock(width, 4 * width) for _ in range(experts))
        self.gate = nn.Linear(width, width if released else experts)

    def weights(self, tokens: Tensor, present: Tensor) -> Tensor:
        """(B, x, y, z, d) and (B, E) -> (B, x, y, z, E) in float32: of available experts, adding up to 1; zero for the others.

        With the released gate (B, x, y, z, d): adding up to 1 over the features.
        """
        logits = self.gate(tokens).float()
        if self.released:
            return logits.softmax(-1)
        open_ = (present | ~present.any(1, keepdim=True))[:, None, None, None]  # over nothing but -inf softmax would be NaN
        return logits.masked_fill(~open_, -torch.inf).softmax(-1) * present[:, None, None, None]

    def forward(self, tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mixture (B, x, y, z, d) and the gate's weights. An expert runs on the samples that have its sequence."""
        weights = self.weights(tokens, present)
        shares = weights.to(tokens.dtype)
        mixed = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            rows = present[:, index]
            if self.released:
                mixed = mixed + shares * expert(tokens)
            elif rows.is_meta or bool(rows.all()):  # on the meta device operations are only counted
                mixed = mixed + shares[..., index, None] * expert(tokens)
            elif bool(rows.any()):
                part = shares[rows, ..., index, None] * expert(tokens[rows])
                mixed = mixed.index_add(0, rows.nonzero()[:, 0], part.to(mixed.dtype))
        return mixed, weights


class ExpertBlock(SwinTransformerBlock):
    """MONAI's Swin block, with `Experts` in the place of its feed-forward network."""

    def __init__(self, width: int, heads: int, window: int, shifted: bool, experts: int, released: bool) -> None:
        shift = window // 2 if shifted else 0
        super().__init__(
            dim=width, num_heads=heads, window_size=(window,) * 3, shift_size=(shift,) * 3, use_flash_attention=True
        )  # fmt: skip
        del self.mlp
        self.experts = Experts(width, experts, released)

    def forward(self, x: Tensor, mask_matrix: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Tokens, the windows' mask and (B, E) -> tokens and the gate's weights."""
        x = x + self.forward_part1(x, mask_matrix)
        mixed, weights = self.experts(self.norm2(x), present)
        return x + mixed, weights


class ExpertStage(nn.Module):
    """Two blocks: attention in windows, then in windows shifted by half a side."""

    def __init__(self, width: int, heads: int, window: int, experts: int, released: bool, checkpointing: bool) -> None:
        super().__init__()
        self.window, self.checkpointing = window, checkpointing
        self.blocks = nn.ModuleList(
            ExpertBlock(width, heads, window, shifted, experts, released) for shifted in (False, True)
        )  # fmt: skip

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and (B, E) -> tokens and the last gate's weights.

        A map smaller than a window is padded to one, with zeros that can be attended to: MONAI would shrink the window instead
        and then look up its position biases in the wrong rows of the table.
        """
        sides = x.shape[1:4]
        short = [max(0, self.window - side) for side in sides]
        if any(short):
            x = F.pad(x, (0, 0, 0, short[2], 0, short[1], 0, short[0]))
        window, shift = get_window_size(x.shape[1:4], (self.window,) * 3, (self.window // 2,) * 3)
        padded = [-(-side // size) * size for side, size in zip(x.shape[1:4], window, strict=True)]
        mask = compute_mask(padded, window, shift, x.device)
        weights = x
        for block in self.blocks:
            x, weights = self._run(block, x, mask, present)
        kept = (slice(None), *(slice(side) for side in sides))
        return x[kept], weights[kept]

    def _run(self, block: Callable[..., Any], *arguments: Tensor) -> tuple[Tensor, Tensor]:
        if self.checkpointing and self.training:
            found: tuple[Tensor, Tensor] = checkpoint(block, *arguments, use_reentrant=False)
            return found
        return block(*arguments)


class Expand(nn.Module):
    """The reverse of patch merging: a linear layer, whose output is dealt out to `factor`^3 finer tokens, and layer norm."""

    def __init__(self, width: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(width, factor**3 * outputs, bias=False)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, x, y, z, d) -> (B, f x, f y, f z, outputs)."""
        batch, sides, f = x.shape[0], x.shape[1:4], self.factor
        dealt = self.linear(x).view(batch, *sides, f, f, f, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
        finer: Tensor = self.norm(dealt.reshape(batch, *(f * side for side in sides), -1))
        return finer


def to_tokens(volume: Tensor) -> Tensor:
    """(B, d, x, y, z) -> (B, x, y, z, d)."""
    return volume.movedim(1, -1)


def to_volume(tokens: Tensor) -> Tensor:
    """(B, x, y, z, d) -> (B, d, x, y, z)."""
    return tokens.movedim(-1, 1)


def widths(first: int, levels: int) -> Sequence[int]:
    """Features per level, doubling."""
    return [first << level for level in range(levels)]
