"""UNETR: tokens on any grid."""

from __future__ import annotations

import pytest
import torch

from workbench.models.baselines.unetr import UNETR
from workbench.models.registry import create_model

FOUR = ("t1", "t1c", "t2", "flair")


@pytest.fixture(scope="module")
def unetr() -> UNETR:
    model = create_model("unetr", modalities=FOUR, width=4, hidden=24, heads=2, mlp=48, positions=32)
    assert isinstance(model, UNETR)
    return model.eval()


def test_at_its_own_grid_unetr_is_monais(unetr: UNETR) -> None:
    images = torch.randn(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, monais in ((unetr.segment(images)[0], unetr.net(images)),):
            torch.testing.assert_close(ours, monais, rtol=1e-5, atol=1e-5)


def test_position_embeddings_are_interpolated_on_the_grid(unetr: UNETR) -> None:
    """A constant embedding stays constant whatever the grid; the real one keeps the order of its axes."""
    embedding = unetr.net.vit.patch_embedding
    learned = embedding.position_embeddings.detach().clone()
    x = torch.arange(2.0).repeat_interleave(4)[None, :, None].expand(1, 8, 24)  # 0 in the first half along X, 1 in the second
    try:
        embedding.position_embeddings.data.copy_(x)
        silent = torch.zeros(1, 4, 64, 32, 48)
        bias = embedding.patch_embeddings.bias.detach()
        found = (unetr.tokens(silent) - bias).reshape(4, 2, 3, 24).detach()
    finally:
        embedding.position_embeddings.data.copy_(learned)
    expected = torch.tensor([0.0, 0.25, 0.75, 1.0])[:, None, None, None].expand(4, 2, 3, 24)
    torch.testing.assert_close(found, expected)


def test_unetr_reads_the_whole_sequence_of_tokens(unetr: UNETR) -> None:
    """One far voxel reaches the other end of the volume: attention is global."""
    images = torch.zeros(1, 4, 64, 16, 16, requires_grad=True)
    unetr.segment(images)[0][0, 0, 0, 0, 0].backward()
    assert images.grad is not None
    assert float(images.grad[..., 48:, :, :].abs().sum()) > 0
