"""The mixture of experts inside M4oE's blocks, its windows and its expanding."""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask
from torch import Tensor, nn

from workbench.models.m4oe.blocks import Expand, ExpertBlock, Experts, ExpertStage

PRESENT = torch.tensor([[True, True, True, True], [True, False, True, False], [False, False, False, True]])


def tokens(count: int = 3) -> Tensor:
    return torch.randn(count, 2, 3, 2, 12, generator=torch.Generator().manual_seed(0))


def mixture(released: bool = False) -> Experts:
    torch.manual_seed(3)
    return Experts(12, 4, released)


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
