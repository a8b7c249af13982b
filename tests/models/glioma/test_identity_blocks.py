"""The identity ablation of the glioma methods: Swin blocks go, everything else stays as it was."""

from __future__ import annotations

import math
from typing import Any

import mgmt_cases
import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock

from workbench.errors import ParameterError
from workbench.models.method import MethodModule
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")
TINY = {"feature_size": 12, "window": 4, "cmd_channels": 4, "backbones": 1, "checkpointing": False}


def build(method: str, **options: Any) -> MethodModule:
    if method == "mgmt_net":
        return mgmt_cases.build(**options)
    return create_model(method, modalities=GIVEN, classes=4, markers=("idh", "codel"), **(TINY | options))


@pytest.mark.parametrize(("method", "places"), [("mts_unet", 16), ("mgmt_net", 8)])
def test_blocks_go_and_all_else_keeps_its_shape_and_its_first_weights(method: str, places: int) -> None:
    both = {"backbones": 2} if method == "mts_unet" else {}
    paper, ablated = build(method, **both), build(method, **both, identity_blocks=True)
    blocks = [name for name, module in paper.named_modules() if isinstance(module, SwinTransformerBlock)]
    assert len(blocks) == places
    before, after = dict(paper.named_parameters()), dict(ablated.named_parameters())
    gone = set(before) - set(after)
    assert gone == {name for name in before if name.startswith(tuple(f"{block}." for block in blocks))}
    assert set(after) <= set(before)
    assert all(torch.equal(after[name], before[name]) for name in after)
    assert paper.parameter_count() - ablated.parameter_count() == sum(math.prod(before[name].shape) for name in gone)


@pytest.mark.parametrize("method", ["mts_unet", "mgmt_net"])
def test_it_computes_what_the_network_does_when_its_blocks_add_nothing(method: str) -> None:
    """A Swin block adds attention and perceptron to its input: with both last layers at zero it is the identity."""
    paper, ablated = build(method, seed=1).eval(), build(method, seed=1, identity_blocks=True).eval()
    side = max(paper.minimum, 16)
    images, present = torch.randn(1, 4, side, side, side, generator=torch.Generator().manual_seed(0)), torch.ones(1, 4).bool()
    with torch.no_grad():
        kept = paper(images, present)
        for module in paper.modules():
            if isinstance(module, SwinTransformerBlock):
                for layer in (module.attn.proj, module.mlp.linear2):
                    layer.weight.zero_()
                    layer.bias.zero_()
        silent, identity = paper(images, present), ablated(images, present)
    torch.testing.assert_close(identity.segmentation, silent.segmentation)
    torch.testing.assert_close(identity.markers, silent.markers)
    assert not torch.allclose(identity.segmentation, kept.segmentation, atol=1e-3), "the blocks do something"


def test_every_parameter_that_is_left_learns() -> None:
    model = build("mgmt_net", identity_blocks=True, dropout=0.0, fusion_dropout=0.0).train()
    prediction = model(mgmt_cases.noise(1, 4, 16, 16, 16), mgmt_cases.everything())
    parts = [prediction.segmentation, *prediction.auxiliary.values(), *prediction.markers.values()]
    total = torch.stack([part.square().mean() for part in parts if part is not None]).sum()
    gradients = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    assert [name for (name, _), g in zip(model.named_parameters(), gradients, strict=True) if g is None] == []


def test_diagrams_say_so() -> None:
    assert "identity for its blocks" in build("mgmt_net", identity_blocks=True).diagram()
    assert "identity for its blocks" not in build("mgmt_net").diagram()
    assert "encoder without Swin blocks" in build("mts_unet", identity_blocks=True).diagram()


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ParameterError, match="'branch' cnn has none"):
        build("mgmt_net", branch="cnn", identity_blocks=True)
    with pytest.raises(ParameterError, match="no Swin block to load 'pretrained' weights into"):
        build("mts_unet", pretrained="weights.pt", identity_blocks=True)
