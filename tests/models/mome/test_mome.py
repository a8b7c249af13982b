"""What MoME claims: sizes, gate, curriculum, stages, and how cases of several sequences are read."""

from __future__ import annotations

import pytest
import torch
from mixtures import FIVE, FOUR, batch, build, counted, trained_pass
from torch import Tensor, nn

from workbench.contracts import Batch
from workbench.errors import ParameterError
from workbench.models.mome.blocks import deep_loss
from workbench.models.mome.mome import MoME, expert_alone
from workbench.models.mome.single_image_unet import PooledUNet
from workbench.models.registry import create_model
from workbench.training.schedule import set_trainable


def test_mome_at_the_papers_size(meta: torch.device) -> None:
    """Expert 31.2 M, gating network 31.3 M, in all about 187.3 M; 161 channels in, 10 out at every decoder level."""
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
