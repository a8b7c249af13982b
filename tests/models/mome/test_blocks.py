"""The gate, the curriculum and the stages of the mixtures."""

from __future__ import annotations

import pytest
import torch
from mixtures import FOUR, SHAPE, batch, build

from workbench.models.mome.blocks import EXPERTS, blend, curriculum_weights, gate_shares, joint_progress
from workbench.models.registry import create_model
from workbench.training.schedule import span_at, stage_spans


def test_the_gate_weighs_every_level_voxel_by_voxel_and_class_by_class() -> None:
    model = build()
    image = torch.randn(1, 1, *SHAPE)
    mixed = model.mix(image, coarse=True)
    alone = [net(image).logits for net in model.mixture.experts]
    for level in range(2):
        expected = sum(mixed.gates[level][:, e] * alone[e][level] for e in range(4))
        torch.testing.assert_close(mixed.fused[level], expected, rtol=1e-4, atol=1e-4)
    first = torch.cat([image, *(net(image).first for net in model.mixture.experts)], dim=1)
    raw = model.mixture.gate(first).logits
    assert first.shape[1] == 1 + 4 * 4
    torch.testing.assert_close(mixed.gates[0], raw[0].unflatten(1, (4, 2)))
    assert float((mixed.gates[0].detach().sum(1) - 1).abs().max()) > 0.1, "the published gate is not normalised"


def test_a_softmax_gate_adds_up_to_one_over_the_experts() -> None:
    mixed = build(gate_normalisation="softmax").mix(torch.randn(1, 1, *SHAPE), coarse=True)
    for gates in mixed.gates:
        torch.testing.assert_close(gates.sum(1), torch.ones_like(gates[:, 0]))


def test_single_and_average_gates_are_what_they_say() -> None:
    image = torch.randn(1, 1, *SHAPE)
    single = build(gating="single")
    assert len(single.mixture.gate.heads) == 1
    fine, coarse = single.mix(image, coarse=True).gates
    cells = fine.unfold(3, 2, 2).unfold(4, 2, 2).unfold(5, 2, 2).mean((-1, -2, -3))
    torch.testing.assert_close(coarse, cells)
    plain = build(gating="average").mix(image, coarse=True)
    torch.testing.assert_close(plain.fused[1], plain.experts[1].mean(1))


def test_fused_logits_add_up_in_float32_under_half_precision() -> None:
    gates, logits = (torch.full((1, 4, 2, 1, 1, 1), value, dtype=torch.float16) for value in (300.0, 400.0))
    assert not torch.isfinite((gates * logits).sum(1)).any(), "in half precision this overflows"
    assert torch.equal(blend(gates, logits), torch.full((1, 2, 1, 1, 1), 480_000.0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = build().mix(torch.randn(1, 1, *SHAPE), coarse=True)
    assert mixed.experts[0].dtype == torch.bfloat16
    for fused, gate, own in zip(mixed.fused, mixed.gates, mixed.experts, strict=True):
        assert fused.dtype == torch.float32
        torch.testing.assert_close(fused, (gate.double() * own.double()).sum(1).float())


def test_gate_maps_are_shares_of_the_experts() -> None:
    gates = torch.tensor([[1.0, -1.0], [-4.0, 2.0]]).view(1, 2, 2, 1, 1, 1)
    assert gate_shares(gates).flatten().tolist() == [0.25, 0.75]
    model, given = build().eval(), batch([[1, 1, 0, 0], [0, 0, 0, 1]])
    maps = model(given.images, given.present, maps=True).maps
    assert set(maps) == {f"weight_{name}" for name in FOUR}
    torch.testing.assert_close(sum(maps.values()), torch.ones(2, 1, *SHAPE))
    alone = model(given.images[1:], given.present[1:], maps=True).maps
    torch.testing.assert_close(maps["weight_t1"][1:], alone["weight_t1"])


def test_the_curriculum_at_its_start_middle_and_end() -> None:
    assert [curriculum_weights("quadratic", r) for r in (0.0, 0.5, 1.0)] == [(1.0, 0.0), (0.25, 0.75), (0.0, 1.0)]
    assert [curriculum_weights("linear", r) for r in (0.0, 0.5, 1.0)] == [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    assert curriculum_weights("constant", 0.3) == (0.2, 0.8)
    assert curriculum_weights("none", 0.0) == (0.0, 1.0)


def test_r_counts_from_the_start_of_stage_two() -> None:
    share = 0.3
    spans = stage_spans(build(expert_share=share).stages(), 1000)
    assert [(span.stage.name, span.start, span.stop) for span in spans] == [(EXPERTS, 0, 300), ("joint", 300, 1000)]
    r = [joint_progress(step / 1000, share) for step in (0, 299, 300, 650, 999)]
    assert r == pytest.approx([0, 0, 0, 0.5, 699 / 700])
    # where the boundary falls between two steps, r is off by less than one
    spans = stage_spans(build(expert_share=share).stages(), 7)
    for step in range(7):
        start = spans[1].start
        assert joint_progress(step / 7, share) == pytest.approx(max(0, step - start) / (7 - start), abs=1 / (7 - start))


def test_the_span_that_holds_a_step_is_found_at_the_published_size() -> None:
    spans = stage_spans(create_model("mome", modalities=("t1",), width=4, levels=3).stages(), 5800 * 250)
    assert span_at(spans, 4990 * 250).stage.name == EXPERTS
    assert span_at(spans, 5001 * 250).stage.name == "joint"
