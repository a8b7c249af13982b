"""What MoME+ claims: size, availability, dispatch, the experts' loss."""

from __future__ import annotations

import pytest
import torch
from mixtures import FOUR, batch, build, counted, trained_pass
from torch import nn

from workbench.contracts import Batch
from workbench.models.mome.blocks import EXPERTS, deep_loss
from workbench.models.mome.mome_plus import EPSILON, Dispatch, MoMEPlus
from workbench.models.registry import create_model
from workbench.sampling.dropout import subsets


def test_mome_plus_at_the_papers_size(meta: torch.device) -> None:
    """132 channels in, 16 out, 320 + 4 into the first transposed convolution, about 156.1 M and a few hundred."""
    with meta:
        model = create_model("mome_plus", modalities=FOUR, classes=4)
    gate, counts = model.mixture.gate, model.parameters_by_component()
    print(counts, model.parameter_count())
    assert gate.encoder[0][0].conv.in_channels == 4 + 4 * 32 == 132
    assert [head.out_channels for head in gate.heads] == [16] * 5
    assert gate.up[0].in_channels == 324
    assert gate.up[1].in_channels == 320
    assert [(layer.in_features, layer.out_features) for layer in model.dispatch.network if isinstance(layer, nn.Linear)] == [
        (4, 4), (4, 8), (8, 16), (16, 16),
    ]  # fmt: skip
    assert not isinstance(model.dispatch.network[-1], nn.ReLU)
    assert counts["dispatch"] == 476
    assert model.parameter_count() == 156_119_580


def dispatch(kind: str = "learned", names: tuple[str, ...] = FOUR) -> Dispatch:
    torch.manual_seed(0)
    return Dispatch(names, kind)


ALL_SETS = torch.tensor([[m in chosen for m in FOUR] for chosen in subsets(FOUR)])


@pytest.mark.parametrize("kind", ["learned", "zero", "table"])
def test_rows_of_available_sequences_are_identity_and_missing_ones_are_never_read(kind: str) -> None:
    matrix = dispatch(kind)(ALL_SETS).detach()
    for row, shown in zip(matrix, ALL_SETS, strict=True):
        assert torch.equal(row[shown], torch.eye(4)[shown])
        assert not row[:, ~shown].any()


def test_a_learned_row_is_rescaled_between_its_smallest_and_largest_and_not_normalised() -> None:
    network = dispatch()
    shown = torch.tensor([[True, False, True, True]])
    raw = network.network(shown.float()).view(4, 4)[1].detach()
    row = network(shown)[0, 1].detach()
    low, high = raw.min(), raw.max()
    for column in (0, 2, 3):
        assert float(row[column]) == pytest.approx(float((raw[column] - low + EPSILON) / (high - low + EPSILON)), rel=1e-5)
    assert EPSILON == 1e-4
    assert row[1] == 0
    sums = dispatch()(ALL_SETS).detach().sum(2)
    assert float((sums - 1).abs().max()) > 0.05, "rows do not add up to one"


def test_the_table_keeps_its_one_published_example() -> None:
    """Of T1c and FLAIR alone, T1c stands in for T1 and for T2."""
    matrix = dispatch("table")(torch.tensor([[False, True, False, True]]))[0]
    assert matrix[0].tolist() == matrix[2].tolist() == [0, 1, 0, 0]
    other = dispatch("table", ("dwi", "swi"))(torch.tensor([[False, True]]))[0]
    assert other.tolist() == [[0, 1], [0, 1]]


def test_experts_read_dispatched_images_and_the_gate_is_told_what_is_there() -> None:
    model, given = build("mome_plus").eval(), batch([[1, 0, 1, 0]])
    assert isinstance(model, MoMEPlus)
    matrix = model.dispatch(given.present)[0].detach()
    inputs = model.dispatched(given.images, given.present).detach()
    assert torch.equal(inputs[0, 0], given.images[0, 0])
    mixed = matrix[1, 0] * given.images[0, 0] + matrix[1, 2] * given.images[0, 2]
    torch.testing.assert_close(inputs[0, 1], mixed)
    with torch.no_grad():
        before = model(given.images, given.present).segmentation
        model.mixture.gate.up[0].weight[-4:] = 0  # what the availability is multiplied with
        assert not torch.allclose(before, model(given.images, given.present).segmentation)


def test_the_experts_loss_of_mome_plus_is_a_mean_over_available_experts() -> None:
    model, given = build("mome_plus", curriculum="quadratic", expert_share=0.0), batch([[1, 0, 1, 0], [0, 1, 1, 1]])
    prediction = trained_pass(model, given)
    levels = [prediction.auxiliary["expert0"], prediction.auxiliary["expert1"]]
    expected = 0.0
    for index, shown in enumerate(([0, 2], [1, 2, 3])):
        one = Batch(FOUR, given.images[:1], given.present[:1], given.labels[index : index + 1], ("lesion",), {})
        own = [deep_loss([level[index : index + 1, e] for level in levels], one, 0.0) for e in shown]
        expected += float(torch.stack(own).mean().detach())
    terms = model.loss(prediction, given, 0.0)
    assert float(terms["experts"].detach()) == pytest.approx(expected, rel=1e-5)
    assert float(terms["fused"].detach()) == 0
    # names decide, not places
    order = [3, 1, 0, 2]
    other = Batch(
        tuple(FOUR[i] for i in order), given.images[:, order], given.present[:, order], given.labels, given.label_set, {}
    )
    assert float(model.loss(prediction, other, 0.0)["experts"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_released_training_step_has_the_fused_loss_alone() -> None:
    model, given = build("mome_plus", curriculum="none", expert_share=0.0), batch([[1, 0, 1, 0]])
    terms = model.loss(trained_pass(model, given), given, 0.0)
    assert set(terms) == {"fused"}
    assert float(terms["fused"].detach()) > 0


def test_stage_one_of_mome_plus_trains_the_experts_of_all_that_is_there() -> None:
    model, given = build("mome_plus"), batch([[1, 0, 1, 0], [0, 0, 1, 0]])
    calls = counted(model)
    prediction = trained_pass(model, given, (EXPERTS,))
    assert calls == {"0": 1, "1": 0, "2": 1, "3": 0, "gate": 0}
    model.loss(prediction, given, 0.0)["experts"].backward()
    reached = {int(name.split(".")[2]) for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {0, 2}
