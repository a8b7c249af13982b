"""BrainFM-MRI's pretraining: who sees how much, what is asked, and the terms that keep features apart."""

from __future__ import annotations

import pytest
import torch
from brainfm_masks import GIVEN, build, images, tokens_masked, visible
from torch import Tensor

from workbench.contracts import Batch, Prediction
from workbench.models.brainfm.pretext import covariance_term, variance_term

MIXED = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 0], [1, 0, 0, 1]]).bool()


@pytest.mark.parametrize("ratio", [0.5, 0.8])
def test_every_sample_sees_as_much_as_it_would_alone(ratio: float) -> None:
    model, volumes = build(mask_ratio=ratio), images()
    arranged, _ = model.arrange(volumes, MIXED)
    together = visible(model, arranged, MIXED)
    alone = torch.cat([visible(model, arranged[i : i + 1], MIXED[i : i + 1]) for i in range(3)])
    assert torch.equal(together, alone)
    assert together.tolist() == [round((1 - ratio) * 64 * n) for n in (4, 1, 2)]


def test_without_the_padding_mask_absent_sequences_are_counted_masked_and_asked_for() -> None:
    model, volumes = build(padding_mask=False, regularisation="none"), images()
    torch.manual_seed(0)
    found = model(volumes, MIXED, GIVEN).auxiliary
    shares = tokens_masked(found["masked"])
    assert ((shares == 0).sum((1, 2))).tolist() == [51, 51, 51], "20 % of 256 tokens, whatever is there"
    assert bool((shares.sum(2) > 0).all())
    there = MIXED[:, :, None, None, None]
    term = model.loss(Prediction(auxiliary=found), Batch(GIVEN, volumes, MIXED, None, ("",) * 3, {}), 0.0)["masked_mse"]
    error = (found["reconstruction"] - volumes.where(there, 0.0)).square()[found["masked"]].mean()
    torch.testing.assert_close(term, error)


def test_the_published_count_starves_cases_with_many_sequences() -> None:
    model = build(keep="batch_minimum")
    arranged, _ = model.arrange(images(), MIXED)
    assert visible(model, arranged, MIXED).tolist() == [13, 13, 13], "5 % of the 256 tokens of the first"


@pytest.mark.parametrize("decoder", ["published", "light"])
def test_absent_sequences_get_no_gradient_and_have_no_influence(decoder: str) -> None:
    model, volumes = build(decoder=decoder), images().requires_grad_()

    def objective(given: Tensor) -> Tensor:
        torch.manual_seed(0)
        terms = model.loss(model(given, MIXED, GIVEN), Batch(GIVEN, given, MIXED, None, ("",) * 3, {}), 0.5)
        return torch.stack(list(terms.values())).sum()

    first = objective(volumes)
    first.backward()
    assert torch.equal(volumes.grad.flatten(2).abs().sum(2) == 0, ~MIXED)
    other = torch.where(MIXED[:, :, None, None, None], volumes.detach(), torch.full_like(volumes, float("nan")))
    assert float(objective(other)) == float(first.detach())


def test_the_loss_counts_masked_acquired_finite_voxels_of_the_unaugmented_image() -> None:
    model = build(regularisation="none")
    target = images(2, side=16)
    present = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 1]]).bool()
    masked = torch.rand(target.shape) < 0.5
    masked &= present[:, :, None, None, None]
    given = target.clone()
    given[0, 0, 3, 3, 3] = float("nan")
    masked[0, 0, 3, 3, 3] = True
    back = torch.where(masked, target + 2, torch.full_like(target, 100.0))
    back[0, 0, 3, 3, 3] = 1e6
    found = {"reconstruction": back, "masked": masked, "visible": torch.randn(5, 24)}
    order = [3, 1, 0, 2]
    names = tuple(GIVEN[i] for i in order)
    batch = Batch(names, torch.zeros_like(target), present[:, order], None, ("", ""), {}, target=given[:, order])
    terms = model.loss(Prediction(auxiliary=found), batch, 0.5)
    assert set(terms) == {"masked_mse"}
    assert float(terms["masked_mse"]) == pytest.approx(4.0, rel=1e-5)


def test_z_scores_below_zero_can_be_learned() -> None:
    """The published main branch clamps predictions to 0..1: no gradient below and above."""
    model = build(("t1",), regularisation="none", imputation=0.0, decoder="light")
    volumes, present = torch.full((1, 1, 16, 16, 16), -2.0), torch.ones(1, 1).bool()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(25):
        torch.manual_seed(step)
        term = model.loss(model(volumes, present), Batch(("t1",), volumes, present, None, ("",), {}), 0.0)["masked_mse"]
        optimiser.zero_grad()
        term.backward()
        optimiser.step()
    assert float(term.detach()) < 1, "from 4"


@pytest.mark.parametrize("padding_mask", [True, False])
def test_a_repaired_case_scores_zero_and_imputation_asks_for_a_whole_sequence(padding_mask: bool) -> None:
    model = build(padding_mask=padding_mask).eval()
    volumes = torch.zeros(2, 4, 32, 32, 32)
    volumes[:, :, 8:24, 8:24, 8:24] = torch.randn(2, 4, 16, 16, 16) + 3
    present = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    arranged, _ = model.arrange(volumes, present)
    real = model.reconstruct

    def perfect(given: Tensor, there: Tensor, imputation: float) -> dict[str, Tensor]:
        found = real(given, there, imputation)
        back = torch.where(present[:, :, None, None, None], arranged + (imputation > 0), 9.0)  # what is absent scores nothing
        return found | {"reconstruction": back}

    model.reconstruct = perfect  # type: ignore[method-assign]
    found = model.examine(volumes, present, seed=0)
    assert found.metrics["masked_mse"].tolist() == [0, 0]
    assert found.metrics["foreground_mse"].tolist() == [0, 0]
    assert float(found.metrics["zero_mse"][0]) == pytest.approx(10, abs=1)
    assert float(found.metrics["imputed_mse"][0]) == pytest.approx(1)
    assert bool(found.metrics["imputed_mse"][1].isnan()), "one sequence: there is nothing to give it back from"
    assert found.voxels.tolist() == [16**3] * 2
    masked = found.pictures["wanted"] != found.pictures["shown"]
    assert 0.5 < float(masked[0][:, 8:24, 8:24, 8:24].float().mean()) < 1


def test_the_terms_are_of_all_visible_tokens_with_the_weights_of_the_moment() -> None:
    model, volumes = build(), images(2)
    present = torch.ones(2, 4).bool()
    prediction = model(volumes, present, GIVEN)
    rows = prediction.auxiliary["visible"]
    assert len(rows) == 2 * round(0.2 * 256)
    terms = model.loss(prediction, Batch(GIVEN, volumes, present, None, ("", ""), {}), 0.0625)
    assert float(terms["covariance"]) == pytest.approx(0.0015 * float(covariance_term(rows)), rel=1e-4)
    assert float(terms["variance"]) == pytest.approx(0.05 * float(variance_term(rows)), rel=1e-4, abs=1e-9)
