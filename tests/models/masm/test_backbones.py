"""The backbones of MASM: each sequence by itself, and the same gradients when activations are recomputed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from masm_cases import GIVEN, build, noise, shown
from torch import nn


@pytest.mark.parametrize(
    ("backbone", "options", "side"),
    [
        ("unetr", {"width": 4, "token_width": 24}, 32),
        pytest.param("swin_unetr", {"width": 12}, 64, marks=pytest.mark.slow),
    ],
)
def test_other_backbones_encode_each_sequence_by_itself(backbone: str, options: dict[str, Any], side: int) -> None:
    model = build(backbone=backbone, **options).eval()
    images = noise(1, 4, side, side, side)
    with torch.no_grad():
        alone = model.encode(images, shown("t2"))
        together = model.encode(images, shown(*GIVEN))
        logits = model(images, shown("t2")).segmentation
    assert logits.shape == (1, 4, side, side, side)
    assert [level.shape[2] for level in alone] == list(model.backbone.widths)
    for one, all_ in zip(alone, together, strict=True):
        torch.testing.assert_close(one[:, 2], all_[:, 2], rtol=1e-3, atol=1e-3)
        assert not bool(one[:, [0, 1, 3]].any())
    assert not any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) and not isinstance(m, nn.InstanceNorm3d) for m in model.modules()
    )


def test_recomputing_the_encoder_changes_no_gradient() -> None:
    images, present = noise(1, 4, 8, 8, 8), shown("t1", "t1c", "flair")
    found = []
    for checkpointing in (False, True):
        model = build(checkpointing=checkpointing).train()
        torch.manual_seed(3)
        model(images, present).segmentation.square().mean().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-5)
