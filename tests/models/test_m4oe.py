"""M4oE's mixture: gates that add up to one, absent experts that are out of it, and a released gate that selects nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask
from torch import Tensor, nn

from workbench.contracts import Batch
from workbench.errors import ParameterError
from workbench.models.losses import segmentation_loss
from workbench.models.m4oe import M4oE
from workbench.models.m4oe_blocks import Expand, ExpertBlock, Experts, ExpertStage
from workbench.models.registry import create_model
from workbench.setup.parameters import ExperimentParameters

GIVEN = ("t1", "t1c", "t2", "flair")
TINY = {"width": 12, "window": 2, "checkpointing": False}
PRESENT = torch.tensor([[True, True, True, True], [True, False, True, False], [False, False, False, True]])


def build(modalities: tuple[str, ...] = GIVEN, **options: Any) -> M4oE:
    model = create_model("m4oe", modalities=modalities, **(TINY | options))
    assert isinstance(model, M4oE)
    return model


def tokens(count: int = 3) -> Tensor:
    return torch.randn(count, 2, 3, 2, 12, generator=torch.Generator().manual_seed(0))


def mixture(released: bool = False) -> Experts:
    torch.manual_seed(3)
    return Experts(12, 4, released)


# -- the mixture -------------------------------------------------------------------------------------------------------


def test_gate_rows_add_up_to_one_over_the_available_experts() -> None:
    weights = mixture().weights(tokens(), PRESENT)
    assert weights.shape == (3, 2, 3, 2, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 3, 2))
    for sample, row in zip(weights, PRESENT, strict=True):
        assert not bool(sample[..., ~row].any())
        assert bool((sample[..., row] > 0).all())
    assert float(weights[0].std((0, 1, 2)).min().detach()) > 0, "each token weighs for itself"


def test_the_output_is_the_weighted_sum_of_the_available_experts() -> None:
    experts, x = mixture(), tokens()
    found, weights = experts(x, PRESENT)
    logits = experts.gate(x)
    for index, row in enumerate(PRESENT.tolist()):
        there = [e for e in range(4) if row[e]]
        gates = logits[index][..., there].softmax(-1)
        expected = sum(gates[..., k, None] * experts.experts[e](x[index]) for k, e in enumerate(there))
        torch.testing.assert_close(found[index], expected)
        torch.testing.assert_close(weights[index][..., there], gates)


def test_an_absent_expert_gets_no_gradient_and_does_not_run() -> None:
    experts = mixture()
    runs = dict.fromkeys(range(4), 0)
    for index, expert in enumerate(experts.experts):

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, index: int = index) -> None:
            runs[index] += len(output)

        expert.register_forward_hook(count)
    present = torch.tensor([[True, False, True, False], [True, False, False, False]])
    experts(tokens(2), present)[0].square().sum().backward()
    assert runs == {0: 2, 1: 0, 2: 1, 3: 0}, "samples that each expert read"
    for index, expert in enumerate(experts.experts):
        assert all((parameter.grad is not None) == (index in (0, 2)) for parameter in expert.parameters())
    gate = experts.gate.weight.grad
    assert gate is not None
    assert bool(gate[0].any())
    assert bool(gate[2].any())
    assert not bool(gate[[1, 3]].any()), "the gate's rows of absent experts"


def test_a_sample_with_nothing_is_zero_and_not_nan() -> None:
    found, weights = mixture()(tokens(1), torch.zeros(1, 4, dtype=torch.bool))
    assert not bool(weights.any())
    assert not bool(found.any())


def test_the_released_gate_gives_every_expert_the_same_weights() -> None:
    """Its weights are of features, not of experts: the experts' outputs are merely added up, whichever sequences are there."""
    released, x = mixture(released=True), tokens()
    assert released.gate.out_features == 12
    found, weights = released(x, PRESENT)
    assert weights.shape == x.shape
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 3, 2))
    plain = released.gate(x).softmax(-1) * sum(expert(x) for expert in released.experts)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(released(x, PRESENT.flip(1))[0], found)
    released.experts = nn.ModuleList(reversed(list(released.experts)))
    torch.testing.assert_close(released(x, PRESENT)[0], found)
    own = mixture()
    before = own(x, PRESENT)[0]
    own.experts = nn.ModuleList(reversed(list(own.experts)))
    assert not torch.allclose(own(x, PRESENT)[0], before, atol=1e-3), "with a gate of its own each expert counts by itself"


# -- the network -------------------------------------------------------------------------------------------------------


def test_with_one_expert_a_block_is_monais_swin_block() -> None:
    torch.manual_seed(0)
    plain = SwinTransformerBlock(12, 3, (2, 2, 2), (1, 1, 1))
    block = ExpertBlock(12, 3, 2, True, 1, released=False)
    missing, unexpected = block.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing} == {"experts"}
    block.experts.experts[0].load_state_dict(plain.mlp.state_dict())
    assert {name.split(".")[0] for name in unexpected} == {"mlp"}
    x = torch.randn(2, 4, 4, 6, 12)
    mask = compute_mask([4, 4, 6], (2, 2, 2), (1, 1, 1), x.device)
    found, weights = block(x, mask, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(found, plain(x, mask))
    assert bool((weights == 1).all())


def test_every_feed_forward_network_is_a_mixture_of_the_sheets_form() -> None:
    model = build()
    mixtures = [module for module in model.modules() if isinstance(module, Experts)]
    assert len(mixtures) == 2 * 4 + 2 * 3, "depths 2-2-2-2 in the encoder, 2-2-2 in the decoder"
    assert not any(hasattr(block, "mlp") for block in model.modules() if isinstance(block, SwinTransformerBlock))
    first = mixtures[0].experts[0]
    assert (first.linear1.in_features, first.linear1.out_features, first.linear2.out_features) == (12, 48, 12)  # type: ignore[union-attr]
    blocks = [module for module in model.modules() if isinstance(module, ExpertBlock)]
    assert [block.num_heads for block in blocks[:8:2]] == [3, 6, 12, 24]
    assert [sum(block.shift_size) for block in blocks[:2]] == [0, 3]


def test_a_map_smaller_than_a_window_reads_its_position_biases_rightly() -> None:
    """Padded by hand to one window, the stage gives the same on the voxels that are there."""
    torch.manual_seed(0)
    stage = ExpertStage(12, 3, 4, 2, False, False)
    for name, parameter in stage.named_parameters():
        if "bias_table" in name:
            nn.init.normal_(parameter)
    present, x = torch.ones(1, 2, dtype=torch.bool), torch.randn(1, 2, 4, 3, 12)
    padded = torch.zeros(1, 4, 4, 4, 12)
    padded[:, :2, :, :3] = x
    torch.testing.assert_close(stage(x, present)[0], stage(padded, present)[0][:, :2, :, :3])


def test_expanding_deals_a_tokens_features_to_its_finer_tokens() -> None:
    expand = Expand(4, 2, 2)
    expand.norm = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(1, 1, 2, 1, 4)
    found = expand(x)
    assert found.shape == (1, 2, 4, 2, 2)
    first, second = expand.linear(x)[0, 0, :, 0].view(2, 2, 2, 2, 2)
    assert torch.equal(found[0, :, :2], first)
    assert torch.equal(found[0, :, 2:], second)


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
