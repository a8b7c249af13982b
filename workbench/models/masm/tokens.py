"""Tokens of MASM: from volumes and back, their places, and attention over those that are kept. Letters as in `blocks`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Grid = tuple[int, int, int]


def tokenise(volumes: Tensor, most: int) -> tuple[Tensor, Grid, Grid]:
    """Means over patches, so that there are at most `most` tokens along an edge.

    A patch that reaches over the border is the mean of the voxels inside: padding changes no token.

    Returns:
        tokens (B, M, T, C), their grid, and the patch in voxels.
    """
    sides = volumes.shape[3:]
    patch = tuple(-(-side // most) for side in sides)
    pooled = volumes.flatten(0, 1)
    if max(patch) > 1:
        pooled = F.avg_pool3d(pooled, patch, ceil_mode=True, count_include_pad=False)
    gx, gy, gz = pooled.shape[2:]
    px, py, pz = patch
    return pooled.flatten(2).transpose(1, 2).unflatten(0, volumes.shape[:2]), (gx, gy, gz), (px, py, pz)


def spread(volumes: Tensor, change: Tensor, grid: Grid, patch: Grid) -> Tensor:
    """Volumes plus a change of their tokens (B, M, T, C), enlarged trilinearly; patches of one voxel get exactly the change."""
    enlarged = change.flatten(0, 1).transpose(1, 2).unflatten(2, grid)
    if max(patch) > 1:
        scale = tuple(float(edge) for edge in patch)
        enlarged = F.interpolate(enlarged, scale_factor=scale, mode="trilinear", align_corners=False)
    x, y, z = volumes.shape[3:]
    return volumes + enlarged[..., :x, :y, :z].unflatten(0, volumes.shape[:2])


class Positions(nn.Module):
    """Learned 3-D position embeddings on a grid of `edge`^3, trilinearly interpolated for any other."""

    def __init__(self, width: int, edge: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(1, width, edge, edge, edge))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, grid: Grid) -> Tensor:
        """(T, C) for a grid."""
        table: Tensor = self.table
        if tuple(table.shape[2:]) != grid:
            table = F.interpolate(table, size=grid, mode="trilinear", align_corners=False)
        return table[0].flatten(1).T.clone()  # a view of a parameter would leave a module without a gradient function


class MaskedAttention(nn.Module):
    """Multi-head attention with a policy p in [0, 1] per key (Rao et al., DynamicViT, arXiv 2106.02034, eq. 11):

        w_ij = p_j exp(q_i k_j / sqrt(d)) / sum_j p_j exp(q_i k_j / sqrt(d))

    A key with p = 0 has no weight and, where p is a constant, no gradient; a hard p of a straight-through decision passes the
    gradient of its soft form. A query with no key at all gets zero weights.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor, policy: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (N, Q, C), context (N, K, C), policy (N, K) -> attended (N, Q, C) and weights (N, heads, Q, K), float32."""
        q, k, v = self._split(queries, context)
        policy = policy[:, None, None].float()
        logits = (q @ k.mT).float() / math.sqrt(q.shape[-1])
        highest = logits.detach().masked_fill(policy.detach() <= 0, -torch.inf).amax(-1, keepdim=True)
        # kept keys are at most 0; the limit touches dropped ones, whose value only the policy's gradient sees
        weights = (logits - highest).clamp(max=20.0).exp() * policy
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return self.out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)), weights

    def attend(self, queries: Tensor, context: Tensor, policy: Tensor) -> Tensor:
        """`forward` without the weights; where no gradient is wanted by PyTorch's fused attention, a fraction of the time."""
        if torch.is_grad_enabled():
            return self(queries, context, policy)[0]
        open_ = (policy > 0)[:, None, None].expand(-1, 1, queries.shape[1], -1)
        attended = F.scaled_dot_product_attention(*self._split(queries, context), attn_mask=open_)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _split(self, queries: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(queries), *self.key_value(context).chunk(2, dim=-1))
        )
        return q, k, v


def perceptron(width: int, ratio: int) -> nn.Sequential:
    """Layer norm and a perceptron of one hidden layer."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))
