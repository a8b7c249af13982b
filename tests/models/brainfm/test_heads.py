"""The heads of BrainFM-MRI, each on states made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.models.brainfm.facts import BrainFMOptions
from workbench.models.brainfm.heads import HEADS, Head


def head(name: str, token: int = 8) -> tuple[Head, list[Tensor]]:
    """A head and four states of 2 x 2 x 3 tokens."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"head": name, "token": token, "width": 24, "heads": 2, "head_width": 4}
    return HEADS[name](BrainFMOptions(**sizes), classes=3).eval(), [torch.randn(2, 24, 2, 2, 3) for _ in range(4)]


@pytest.mark.parametrize("token", [8, 16])
@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_logits_are_at_full_resolution(name: str, token: int) -> None:
    found, states = head(name, token)
    size = (2 * token, 2 * token, 3 * token)
    stem = found.stem(torch.randn(2, 1, *size)) if found.stemmed else None
    assert found(states, stem, size).shape == (2, 3, *size)


@torch.no_grad()
def test_shallow_and_linear_heads_read_the_last_state_alone_and_have_no_stem() -> None:
    for name in ("shallow", "linear"):
        found, states = head(name)
        again = found([*(torch.zeros_like(state) for state in states[:3]), states[3]], None, (16, 16, 24))
        assert torch.equal(found(states, None, (16, 16, 24)), again)
        with pytest.raises(TypeError, match="has no stem"):
            found.stem(torch.zeros(1, 1, 8, 8, 8))


@torch.no_grad()
def test_unetr_reads_every_state_that_its_levels_have_room_for() -> None:
    for token, unread in ((16, set()), (8, {0})):
        found, states = head("unetr", token)
        size = (2 * token, 2 * token, 3 * token)
        stem = found.stem(torch.randn(2, 1, *size))
        whole = found(states, stem, size)
        silent = {k for k in range(4) if torch.equal(whole, found([s * (i != k) for i, s in enumerate(states)], stem, size))}
        assert silent == unread


@torch.no_grad()
def test_the_linear_head_of_equal_tokens_is_one_value_everywhere() -> None:
    found, states = head("linear")
    states[3] = states[3][:, :, :1, :1, :1].expand_as(states[3])
    logits = found(states, None, (16, 16, 24))
    torch.testing.assert_close(logits, logits[:, :, :1, :1, :1].expand_as(logits))
