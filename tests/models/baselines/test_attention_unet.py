"""Attention U-Net: its gates."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.models.baselines.attention_unet import AttentionUNet
from workbench.models.registry import create_model

FOUR = ("t1", "t1c", "t2", "flair")


def test_gates_lie_between_zero_and_one_at_their_levels_resolution() -> None:
    model = create_model("attention_unet", modalities=FOUR, width=4, depth=4)
    assert isinstance(model, AttentionUNet)
    images, present = torch.randn(1, 4, 16, 24, 16), torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        plain, mapped = model.eval()(images, present), model(images, present, maps=True)
    assert list(mapped.maps) == ["gate1", "gate2", "gate3"]
    assert [tuple(gate.shape) for gate in mapped.maps.values()] == [(1, 1, 16, 24, 16), (1, 1, 8, 12, 8), (1, 1, 4, 6, 4)]
    assert all(0 <= float(gate.min()) <= float(gate.max()) <= 1 for gate in mapped.maps.values())
    assert torch.equal(plain.segmentation, mapped.segmentation)
    assert not plain.maps
    assert not any(module._forward_hooks for module in model.modules()), "hooks must not stay"


def test_a_closed_gate_silences_its_skip() -> None:
    model = create_model("attention_unet", modalities=("t1",), width=4, depth=2)
    assert isinstance(model, AttentionUNet)
    (gate,) = model.eval().gates()
    seen: list[Tensor] = []
    gate.register_forward_hook(lambda module, given, output: seen.append(output))
    gate.psi[1].weight.data.zero_()  # batch norm before the sigmoid: alpha is the sigmoid of its bias, everywhere
    gate.psi[1].bias.data.fill_(-200.0)
    with torch.no_grad():
        model(torch.randn(1, 1, 8, 8, 8), torch.ones(1, 1, dtype=torch.bool))
    assert float(seen[0].abs().max()) == 0.0
