"""M4oE's mixture: gates that add up to one, absent experts that are out of it, and a released gate that selects nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock

from workbench.contracts import Batch
from workbench.errors import ParameterError
from workbench.models.losses import segmentation_loss
from workbench.models.m4oe.blocks import ExpertBlock, Experts
from workbench.models.m4oe.m4oe import M4oE
from workbench.models.registry import create_model
from workbench.setup.parameters import ExperimentParameters

PRESENT = torch.tensor([[True, True, True, True], [True, False, True, False], [False, False, False, True]])

GIVEN = ("t1", "t1c", "t2", "flair")

TINY = {"width": 12, "window": 2, "checkpointing": False}


def build(modalities: tuple[str, ...] = GIVEN, **options: Any) -> M4oE:
    model = create_model("m4oe", modalities=modalities, **(TINY | options))
    assert isinstance(model, M4oE)
    return model


def test_every_feed_forward_network_is_a_mixture() -> None:
    model = build()
    mixtures = [module for module in model.modules() if isinstance(module, Experts)]
    assert len(mixtures) == 2 * 4 + 2 * 3, "depths 2-2-2-2 in the encoder, 2-2-2 in the decoder"
    assert not any(hasattr(block, "mlp") for block in model.modules() if isinstance(block, SwinTransformerBlock))
    first = mixtures[0].experts[0]
    assert (first.linear1.in_features, first.linear1.out_features, first.linear2.out_features) == (12, 48, 12)  # type: ignore[union-attr]
    blocks = [module for module in model.modules() if isinstance(module, ExpertBlock)]
    assert [block.num_heads for block in blocks[:8:2]] == [3, 6, 12, 24]
    assert [sum(block.shift_size) for block in blocks[:2]] == [0, 3]


def test_checkpointing_changes_nothing() -> None:
    images = torch.randn(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    present = torch.tensor([[True, True, False, True]])
    gradients = []
    for checkpointing in (False, True):
        model = build(checkpointing=checkpointing).train()
        model(images, present, GIVEN).segmentation.square().mean().backward()
        gradients.append(model.embedding.weight.grad)
    torch.testing.assert_close(*gradients)


def test_loss_is_four_tenths_cross_entropy_and_seven_tenths_dice() -> None:
    model = build().train()
    images, present = torch.randn(1, 4, 32, 32, 32), torch.ones(1, 4, dtype=torch.bool)
    labels = torch.randint(0, 4, (1, 32, 32, 32), generator=torch.Generator().manual_seed(2))
    prediction = model(images, present, GIVEN)
    terms = model.loss(prediction, Batch(GIVEN, images, present, labels, ("glioma",), {}), 0.0)
    expected = segmentation_loss(prediction.segmentation, labels, ("glioma",), dice=0.7, cross_entropy=0.4)
    torch.testing.assert_close(terms, {"segmentation": expected})
    paper = ExperimentParameters.build("m4oe", {}).resolve()
    assert (paper.validate_every, paper.patience, paper.epochs) == (2, 7, 150)


def test_absent_experts_stay_silent_in_the_whole_network() -> None:
    model = build().train()
    images, present = torch.randn(2, 4, 32, 32, 32), torch.tensor([[True, False, True, True], [True, False, False, False]])
    model(images, present, GIVEN).segmentation.square().mean().backward()
    for module in model.modules():
        if isinstance(module, Experts):
            assert all(parameter.grad is None for parameter in module.experts[1].parameters())
            assert module.gate.weight.grad is not None
            assert not bool(module.gate.weight.grad[1].any())
    weight = model.embedding.weight.grad
    assert weight is not None
    assert not bool(weight[:, 1].any())


def test_maps_say_which_expert_decides_where() -> None:
    model = build().eval()
    present = PRESENT[:2]
    with torch.no_grad():
        maps = model(torch.randn(2, 4, 32, 32, 32), present, GIVEN, maps=True).maps
        released = build(gate="as_released").eval()(torch.randn(1, 4, 32, 32, 32), present[:1], GIVEN, maps=True).maps
    assert set(maps) == {f"weight_{name}" for name in GIVEN}
    weights = torch.cat([maps[f"weight_{name}"] for name in GIVEN], dim=1)
    assert weights.shape == (2, 4, 8, 8, 8)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 8, 8, 8))
    assert not bool(weights[1, [1, 3]].any())
    assert not released, "a gate of features weighs no sequence"


def test_pooled_features_are_the_mean_of_the_deepest_tokens() -> None:
    model = build().eval()
    images = torch.randn(2, 4, 32, 64, 32)
    with torch.no_grad():
        found = model.pooled_features(images, PRESENT[:2])
        deepest, skips = model.encode(images, PRESENT[:2])
    assert found.shape == (2, 96)
    torch.testing.assert_close(found, (deepest[:, 0, 0, 0] + deepest[:, 0, 1, 0]) / 2)
    assert [tuple(skip.shape[1:]) for skip in skips] == [(8, 16, 8, 12), (4, 8, 4, 24), (2, 4, 2, 48)]


def test_widths_and_counts(meta: torch.device) -> None:
    with meta:
        own = create_model("m4oe", modalities=GIVEN)
        released = create_model("m4oe", modalities=GIVEN, gate="as_released")
        three = create_model("m4oe", modalities=GIVEN[:3])
    assert own.parameter_count() == 77_528_928
    widths = [96, 96, 192, 192, 384, 384, 768, 768, 96, 96, 192, 192, 384, 384]
    assert released.parameter_count() - own.parameter_count() == sum((d + 1) * (d - 4) for d in widths)
    fewer = sum(8 * d * d + 5 * d + d + 1 for d in widths) + 96 * 64  # an expert, its row of the gate, its input channel
    assert own.parameter_count() - three.parameter_count() == fewer
    with pytest.raises(ParameterError, match="multiple of 12"):
        create_model("m4oe", modalities=GIVEN, width=20)


def test_identity_blocks_take_attention_and_experts_and_leave_the_rest_as_it_was() -> None:
    paper, ablated = build(), build(identity_blocks=True)
    before, after = dict(paper.named_parameters()), dict(ablated.named_parameters())
    assert set(before) - set(after) == {name for name in before if ".blocks." in name}
    assert all(torch.equal(after[name], before[name]) for name in after)
    images, present = torch.randn(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(1)), PRESENT[1:2]
    with torch.no_grad():
        for block in paper.modules():
            if isinstance(block, ExpertBlock):  # attention and experts that add nothing
                for layer in (block.attn.proj, *(expert.linear2 for expert in block.experts.experts)):  # type: ignore[union-attr]
                    layer.weight.zero_()
                    layer.bias.zero_()
        silent, identity = paper.eval()(images, present, maps=True), ablated.eval()(images, present, maps=True)
    torch.testing.assert_close(identity.segmentation, silent.segmentation)
    assert silent.maps
    assert not identity.maps, "no gate is left to show"
    assert "experts" not in ablated.diagram()
