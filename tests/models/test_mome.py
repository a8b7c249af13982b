"""What MoME's sheet claims: sizes, gate, curriculum, stages, and how cases of several sequences are read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mixtures import FIVE, FOUR, SHAPE, batch, build, counted, trained_pass
from torch import Tensor, nn

from workbench.contracts import Batch
from workbench.errors import ParameterError
from workbench.models.mome.blocks import (
    EXPERTS,
    PlainUNet,
    blend,
    curriculum_weights,
    deep_loss,
    gate_shares,
    joint_progress,
    level_weights,
)
from workbench.models.mome.mome import MoME, expert_alone
from workbench.models.mome.single_image_unet import PooledUNet, draw_image
from workbench.models.registry import create_model
from workbench.sampling.dropout import subsets
from workbench.training.schedule import set_trainable, span_at, stage_spans

# -- sizes -----------------------------------------------------------------------------------------------------------------


def test_mome_at_the_papers_size(meta: torch.device) -> None:
    """Sheet: expert 31.2 M, gating network 31.3 M, in all about 187.3 M; 161 channels in, 10 out at every decoder level."""
    with meta:
        model = create_model("mome", modalities=FIVE, classes=2)
    counts = model.parameters_by_component()
    print(counts, model.parameter_count())
    assert [counts[f"expert {name}"] for name in FIVE] == [31_195_594] * 5
    assert counts["gate"] == 31_340_274
    assert model.parameter_count() == 187_318_244
    gate = model.mixture.gate
    assert gate.encoder[0][0].conv.in_channels == 1 + 5 * 32 == 161
    assert [head.out_channels for head in gate.heads] == [5 * 2] * 5 == [10] * 5
    assert [stage[0].conv.out_channels for stage in gate.encoder] == [32, 64, 128, 256, 320, 320]
    assert model.divisor * 4 == 128  # 320 x 4^3 at the bottom of a 128^3 patch


def test_a_plain_unet_is_nnunets(meta: torch.device) -> None:
    net = PlainUNet(1, 2, (4, 8, 16))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert all(m.bias is not None and not m.bias.any() for m in convolutions), "biases, and all zero at first"
    assert [m.kernel_size[0] for m in convolutions].count(3) == 2 * 3 + 2 * 2
    assert all(m.affine and m.eps == 1e-5 for m in net.modules() if isinstance(m, nn.InstanceNorm3d))
    assert {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)} == {0.01}
    wide = PlainUNet(1, 2, (64, 64, 64)).encoder[1][0].conv.weight  # He: variance 2 / (fan_in (1 + slope^2))
    assert float(wide.detach().var()) == pytest.approx(2 / (64 * 27 * (1 + 1e-4)), rel=0.02)
    out = net(torch.randn(1, 1, *SHAPE))
    assert [tuple(logits.shape[2:]) for logits in out.logits] == [(16, 8, 8), (8, 4, 4)]
    assert out.first.shape == (1, 4, *SHAPE)
    assert out.bottom.shape == (1, 16, 4, 2, 2)
    assert torch.equal(net(torch.ones(1, 1, *SHAPE), coarse=False).logits[0], net(torch.ones(1, 1, *SHAPE)).logits[0])


# -- gate ------------------------------------------------------------------------------------------------------------------


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


# -- losses ----------------------------------------------------------------------------------------------------------------


def test_the_curriculum_at_its_start_middle_and_end() -> None:
    assert [curriculum_weights("quadratic", r) for r in (0.0, 0.5, 1.0)] == [(1.0, 0.0), (0.25, 0.75), (0.0, 1.0)]
    assert [curriculum_weights("linear", r) for r in (0.0, 0.5, 1.0)] == [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    assert curriculum_weights("constant", 0.3) == (0.2, 0.8)
    assert curriculum_weights("none", 0.0) == (0.0, 1.0)


def test_deep_supervision_leaves_the_coarsest_level_out() -> None:
    assert level_weights(5, 0.0) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])
    assert level_weights(1, 0.0) == [1.0]
    assert sum(level_weights(4, 0.1)) == pytest.approx(1)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("r", [0.0, 0.5, 1.0])
def test_the_objective_is_the_papers(share: float, r: float) -> None:
    """L = (1 - r)^2 sum over samples of their own expert's loss + [1 - (1 - r)^2] the fused loss, r within stage 2."""
    model, given = build(expert_share=share, curriculum="quadratic"), batch([[1, 0, 0, 0], [0, 0, 0, 1]])
    prediction = trained_pass(model, given)
    own = torch.zeros(())
    for index, expert in enumerate((0, 3)):
        outputs = model.mixture.experts[expert](given.images[index : index + 1, expert, None]).logits
        labels = given.labels[index : index + 1]
        own = own + deep_loss(outputs, Batch(FOUR, given.images[:1], given.present[:1], labels, ("lesion",), {}), 0.0)
    coarse = prediction.auxiliary["fused1"]
    fused = deep_loss([prediction.segmentation, coarse], given, 0.0)
    terms = model.loss(prediction, given, share + r * (1 - share))
    assert set(terms) == {"experts", "fused"}
    torch.testing.assert_close(terms["experts"], (1 - r) ** 2 * own, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["fused"], (1 - (1 - r) ** 2) * fused, rtol=1e-5, atol=1e-6)


def test_the_experts_loss_is_a_sum_over_the_batch_or_a_mean_over_masks() -> None:
    given = batch([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    given = Batch(FOUR, given.images, given.present, given.labels, ("lesion", "", "lesion"), {})
    found = []
    for reduction in ("sum", "mean"):
        model = build(expert_reduction=reduction, curriculum="constant")
        found.append(float(model.loss(trained_pass(model, given), given, 0.9)["experts"].detach()))
    assert found[0] == pytest.approx(2 * found[1]), "two of three samples have a mask"
    assert found[0] > 0


def test_other_experts_learn_from_the_fused_loss_only() -> None:
    model, given = build(expert_share=0.0), batch([[0, 1, 0, 0]])
    gradients = {}
    for progress in (0.0, 1.0):
        model.zero_grad()
        torch.stack(list(model.loss(trained_pass(model, given), given, progress).values())).sum().backward()
        gradients[progress] = [
            sum(float(p.grad.abs().sum()) for p in net.parameters() if p.grad is not None) for net in model.mixture.experts
        ]
    assert gradients[0.0][1] > 0
    assert [gradients[0.0][i] for i in (0, 2, 3)] == [0, 0, 0]
    assert all(value > 0 for value in gradients[1.0])


def test_no_mask_no_experts_loss_and_no_nan() -> None:
    model, given = build(), batch([[1, 1, 1, 1]])
    blank = Batch(FOUR, given.images, given.present, None, ("",), {})
    terms = model.loss(trained_pass(model, blank), blank, 0.9)
    assert [float(value.detach()) for value in terms.values()] == [0, 0]


# -- stages ----------------------------------------------------------------------------------------------------------------


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


def test_stage_one_trains_the_matching_expert_alone_and_runs_no_other() -> None:
    model, given = build(), batch([[0, 1, 0, 0], [0, 0, 1, 1]])
    stage, joint = model.stages()
    assert stage.learning_rate == 1
    assert joint.learning_rate == pytest.approx(0.1)
    names = [name for name, _ in model.named_parameters()]
    set_trainable(model, stage, names)
    calls = counted(model)
    prediction = trained_pass(model, given, stage.tasks)
    drawn = int(calls["2"] == 0)
    assert calls == {"0": 0, "1": 1, "2": 1 - drawn, "3": drawn, "gate": 0}
    assert prediction.segmentation is None
    terms = model.loss(prediction, given, 0.1)
    assert set(terms) == {"experts"}
    terms["experts"].backward()
    reached = {int(name.split(".")[2]) for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {1, 2 + drawn}
    set_trainable(model, joint, names)
    assert all(p.requires_grad for p in model.parameters())


def test_stage_two_starts_with_new_heads_of_the_experts_and_of_nothing_else() -> None:
    model = build()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert model.enter_stage(model.stages()[0]) == ()
    torch.manual_seed(1)
    anew = model.enter_stage(model.stages()[1])
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if name.startswith(anew) and name.endswith("weight")}
    assert changed == {f"mixture.experts.{e}.heads.{level}.weight" for e in range(4) for level in range(2)}
    assert build(restart_heads=False).enter_stage(model.stages()[1]) == ()
    alone = build(expert_share=0.0)
    assert [stage.name for stage in alone.stages()] == ["joint"]
    assert alone.enter_stage(alone.stages()[0]) == ()


def test_clipping_names_the_gate_alone() -> None:
    for name in ("mome", "mome_plus"):
        model = build(name)
        chosen = [p for key, p in model.named_parameters() if key.startswith(model.clipped)]
        assert sum(p.numel() for p in chosen) == model.parameters_by_component()["gate"]


def _saved_bytes(model: nn.Module, given: Batch) -> int:
    """Bytes that autograd keeps for the backward pass of one joint training pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.loss(trained_pass(model, given), given, 0.9)
    return sum(kept.values())


@pytest.mark.parametrize("name", ["mome", "mome_plus"])
def test_checkpointed_experts_learn_the_same_and_keep_less(name: str) -> None:
    given, gradients, kept = batch([[1, 1, 0, 1]]), [], []
    for experts in ("trained", "checkpointed"):
        model = build(name, experts=experts)
        kept.append(_saved_bytes(model, given))
        torch.stack(list(model.loss(trained_pass(model, given), given, 0.9).values())).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for left, right in zip(*gradients, strict=True):
        assert (left is None) == (right is None)
        assert left is None or torch.equal(left, right)
    assert kept[1] < 0.6 * kept[0]


def test_frozen_experts_stay_what_stage_one_made_them() -> None:
    model, given = build(experts="frozen"), batch([[1, 1, 1, 1]])
    assert model.stages()[1].trainable == ("mixture.gate.",)
    set_trainable(model, model.stages()[1], [name for name, _ in model.named_parameters()])
    assert model.enter_stage(model.stages()[1]) == (), "their heads are not thrown away"
    prediction = trained_pass(model, given)
    terms = model.loss(prediction, given, 0.5)
    assert set(terms) == {"fused"}
    torch.testing.assert_close(terms["fused"], deep_loss([prediction.segmentation, prediction.auxiliary["fused1"]], given, 0.0))
    terms["fused"].backward()
    assert {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None} == {"gate"}
    assert _saved_bytes(model, given) < 0.6 * _saved_bytes(build(), given)
    assert build("mome_plus", experts="frozen").stages()[1].trainable == ("mixture.gate.", "dispatch.")
    with pytest.raises(ParameterError, match="needs a first stage"):
        build(experts="frozen", expert_share=0.0)


# -- one image at a time -----------------------------------------------------------------------------------------------------


def test_training_draws_present_sequences_only_and_each_as_often() -> None:
    present = torch.tensor([[True, False, True, True], [False, True, False, False]]).repeat(300, 1)
    images = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(600, 4, 1, 1, 1)
    torch.manual_seed(0)
    image, which = draw_image(images, present)
    assert torch.equal(image.flatten().long(), which)
    assert present[torch.arange(600), which].all()
    counts = torch.bincount(which[::2], minlength=4).tolist()
    assert counts[1] == 0
    assert all(70 < counts[i] < 130 for i in (0, 2, 3)), counts
    torch.manual_seed(0)
    assert torch.equal(draw_image(images, present)[1], which), "a function of the step's seed"


@pytest.mark.parametrize("name", ["mome", "pooled_unet"])
@pytest.mark.parametrize("how", ["logits", "probabilities"])
def test_a_case_is_the_average_over_its_sequences(name: str, how: str) -> None:
    model, given = build(name, several_images=how).eval(), batch([[1, 0, 1, 0]])
    with torch.no_grad():
        both = model(given.images, given.present).segmentation
        single = [model(given.images[:, [i]], given.present[:, [i]], (FOUR[i],)).segmentation for i in (0, 2)]
    if how == "logits":
        torch.testing.assert_close(both, (single[0] + single[1]) / 2)
    else:
        torch.testing.assert_close(both.softmax(1), (single[0].softmax(1) + single[1].softmax(1)) / 2)


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("mome", {}, 4 * 5),
        ("pooled_unet", {}, 4),
        ("mome_plus", {}, 4 + 28 + 15),
        ("mome_plus", {"dispatch": "zero"}, 4 + 4 + 15),
    ],
)
def test_all_subsets_of_a_case_share_passes(name: str, options: dict[str, Any], passes: int) -> None:
    """15 subsets one by one: 32 readings of one image, each by all networks; or 15 times five networks in MoME+."""
    model, given = build(name, **options).eval(), batch([[1, 1, 1, 1]])
    shown = torch.tensor([[m in chosen for m in FOUR] for chosen in subsets(FOUR)])
    calls = counted(model)
    with torch.no_grad():
        together = model.forward_subsets(given.images, shown)
        assert sum(calls.values()) == passes < 15 * (1 if name == "pooled_unet" else 5)
        for row, logits in zip(shown, together, strict=True):
            torch.testing.assert_close(logits, model(given.images, row[None]).segmentation, rtol=1e-4, atol=1e-4)


def test_pooled_features_are_the_gates_bottleneck() -> None:
    model, given = build().eval(), batch([[1, 0, 0, 1]])
    with torch.no_grad():
        found = model.pooled_features(given.images, given.present)
        expected = sum(model.mix(given.images[:, i, None], coarse=False).bottom.mean((2, 3, 4)) for i in (0, 3)) / 2
    torch.testing.assert_close(found, expected)
    for name in ("mome_plus", "pooled_unet"):
        assert build(name).eval().pooled_features(given.images, given.present).shape == (1, 16)


def test_a_batch_of_one_and_four_sequences_trains_and_predicts() -> None:
    given = batch([[1, 1, 1, 1], [0, 0, 1, 0]])
    for name in ("mome", "mome_plus", "pooled_unet"):
        model = build(name)
        total = torch.stack(list(model.loss(trained_pass(model, given), given, 0.7).values())).sum()
        assert bool(torch.isfinite(total)), name
        total.backward()
        assert bool(torch.isfinite(model.eval()(given.images, given.present).segmentation).all())


def test_sequences_without_an_expert_and_samples_without_sequences_are_refused() -> None:
    given = batch([[1, 1, 1, 1], [0, 0, 0, 0]])
    for name in ("mome", "mome_plus", "pooled_unet"):
        model = build(name)
        with pytest.raises(ParameterError, match="sample 1 of the batch shows none of t1, t1c, t2, flair"):
            model(given.images, given.present)
        with pytest.raises(ParameterError, match="given only swi" + ("" if name == "pooled_unet" else ".*expert of its own")):
            model(given.images[:, :1], given.present[:, :1], ("swi",))
    with pytest.raises(ParameterError, match="no expert for swi; there are: t1, t1c, t2, flair"):
        expert_alone(build(), "swi")


def test_any_names_make_experts() -> None:
    model = build(names=("keys", "adc", "type"))
    assert isinstance(model, MoME)
    assert list(model.parameters_by_component()) == ["expert keys", "expert adc", "expert type", "gate"]


def test_an_expert_alone_is_the_expert_of_the_mixture() -> None:
    model, given = build(), batch([[0, 0, 1, 0]])
    alone = expert_alone(model, "t2").eval()
    assert isinstance(alone, PooledUNet)
    with torch.no_grad():
        found = alone(given.images[:, [2]], given.present[:, [2]]).segmentation
        torch.testing.assert_close(found, model.mixture.experts[2](given.images[:, [2]]).logits[0])


def test_the_span_that_holds_a_step_is_found_at_the_published_size() -> None:
    spans = stage_spans(create_model("mome", modalities=("t1",), width=4, levels=3).stages(), 5800 * 250)
    assert span_at(spans, 4990 * 250).stage.name == EXPERTS
    assert span_at(spans, 5001 * 250).stage.name == "joint"
