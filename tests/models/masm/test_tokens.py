"""Tokens of MASM, and attention over those that are kept."""

from __future__ import annotations

import torch
from masm_cases import noise

from workbench.models.masm.tokens import MaskedAttention, spread, tokenise


def test_tokens_are_means_of_patches_and_border_patches_of_what_they_have() -> None:
    volumes = noise(1, 2, 3, 5, 8, 3)
    tokens, grid, patch = tokenise(volumes, 4)
    assert (grid, patch) == ((3, 4, 3), (2, 2, 1))
    as_grid = tokens.transpose(2, 3).reshape(1, 2, 3, *grid)
    torch.testing.assert_close(as_grid[..., 0, 0, 0], volumes[..., :2, :2, 0].mean((3, 4)))
    torch.testing.assert_close(as_grid[..., 2, 3, 2], volumes[..., 4, 6:, 2].mean(3)), "one voxel deep: the padding is not read"
    change = torch.ones_like(tokens)
    torch.testing.assert_close(spread(volumes, change, grid, patch), volumes + 1)
    small = noise(1, 1, 2, 3, 3, 3)
    tokens, grid, patch = tokenise(small, 4)
    torch.testing.assert_close(spread(small, -tokens, grid, patch), torch.zeros_like(small)), "patches of one voxel: exact"


def test_a_key_without_policy_has_no_weight_and_no_gradient() -> None:
    torch.manual_seed(0)
    attention = MaskedAttention(8, 2)
    queries, context = noise(2, 3, 8), noise(2, 5, 8, seed=1).requires_grad_()
    policy = torch.tensor([[1.0, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
    out, weights = attention(queries, context, policy)
    assert not bool(weights[..., [1, 3]].any())
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 3))
    assert not bool(weights[1].any()), "a query without any key"
    out.square().sum().backward()
    assert context.grad is not None
    assert not bool(context.grad[:, [1, 3]].any())
    assert bool(context.grad[0, 0].any())
    with torch.no_grad():
        torch.testing.assert_close(attention.attend(queries, context, policy), out)  # PyTorch's own, a mask in place of a policy
    torch.testing.assert_close(attention.attend(queries, context, policy), out)
