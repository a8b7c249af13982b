"""BrainFM-MRI's pretraining: who sees how much, what is asked, and the terms that keep features apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.contracts import Batch, Prediction
from workbench.errors import ParameterError
from workbench.evaluation.collapse import effective_rank
from workbench.models.brainfm.brainfm_pretrain import BrainFMPretrain
from workbench.models.brainfm.pretext import (
    covariance_term,
    draw_visible,
    keep_count,
    regularisation_weights,
    variance_term,
)
from workbench.models.options import build_options
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")
SIZES = {
    "token": 8, "width": 24, "depth": 4, "heads": 2, "mlp": 48, "dropout": 0.0, "positions": 4, "decoder_layers": 1,
    "decoder_mlp": 32, "decoder_width": 16,
}  # fmt: skip
MIXED = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 0], [1, 0, 0, 1]]).bool()


def build(modalities: tuple[str, ...] = GIVEN, **options: Any) -> BrainFMPretrain:
    model = create_model("brainfm_pretrain", modalities=modalities, **(SIZES | options))
    assert isinstance(model, BrainFMPretrain)
    return model.train()


def images(count: int = 3, channels: int = 4, side: int = 32) -> Tensor:
    return torch.randn(count, channels, side, side, side, generator=torch.Generator().manual_seed(0))


def tokens_masked(masked: Tensor) -> Tensor:
    """(B, M, T) share of each token's voxels that are asked for."""
    return build().encoder.patches(masked.float()).mean(-1)


def visible(model: BrainFMPretrain, volumes: Tensor, present: Tensor, seed: int = 0, imputation: float = 0.0) -> Tensor:
    """(B,) visible tokens of each sample."""
    torch.manual_seed(seed)
    masked = tokens_masked(model.reconstruct(volumes, present, imputation)["masked"])
    assert bool(((masked == 0) | (masked == 1)).all()), "a token is masked or it is not"
    return ((masked == 0) & present[:, :, None]).sum((1, 2))


# masking


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


def test_tokens_are_drawn_evenly() -> None:
    torch.manual_seed(0)
    shown = draw_visible(4000, 2, 10, 4, 0.0, torch.device("cpu"))
    assert shown.shape == (4000, 4)
    assert bool((shown.diff(dim=1) > 0).all()), "each once, ascending"
    share = torch.bincount(shown.flatten(), minlength=20) / 4000
    assert float((share - 0.2).abs().max()) < 0.03
    assert [keep_count(n, 0.8) for n in (512, 2048, 3, 2)] == [102, 410, 1, 1]
    assert keep_count(10, 0.01) == 9, "one is always masked"


def test_imputation_masks_one_whole_sequence_and_keeps_the_count() -> None:
    torch.manual_seed(0)
    shown = draw_visible(4000, 4, 10, 8, 0.3, torch.device("cpu"))
    seen = torch.zeros(4000, 40).scatter(1, shown, 1.0).view(4000, 4, 10).sum(2)
    assert bool((seen.sum(1) == 8).all())
    always, never = (draw_visible(500, 4, 10, 8, p, torch.device("cpu")) for p in (1.0, 0.0))
    lost = [(torch.zeros(500, 40).scatter(1, rows, 1.0).view(500, 4, 10).sum(2) == 0).sum(1) for rows in (always, never)]
    assert bool((lost[0] >= 1).all())
    assert 0.2 < float((seen == 0).any(1).float().mean()) - float((lost[1] > 0).float().mean()) < 0.4
    one = draw_visible(50, 1, 10, 2, 1.0, torch.device("cpu"))
    assert one.shape == (50, 2), "of a single sequence nothing is taken away"
    with pytest.raises(ParameterError, match="mask_ratio"):
        build_options("brainfm_pretrain", {"mask_ratio": 0.4})
    build_options("brainfm_pretrain", {"mask_ratio": 0.4, "imputation": 0.0})


# what is asked


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


@pytest.mark.parametrize("decoder", ["published", "light"])
def test_what_is_masked_is_not_seen(decoder: str) -> None:
    model, volumes = build(decoder=decoder), images(2)
    present = torch.ones(2, 4).bool()
    torch.manual_seed(0)
    first = model.reconstruct(volumes, present, 0.3)
    torch.manual_seed(0)
    again = model.reconstruct(torch.where(first["masked"], 9.0, volumes), present, 0.3)
    assert torch.equal(first["reconstruction"], again["reconstruction"])
    torch.manual_seed(0)
    changed = model.reconstruct(torch.where(first["masked"], volumes, 9.0), present, 0.3)
    assert not torch.allclose(first["reconstruction"], changed["reconstruction"])


@pytest.mark.parametrize("decoder", ["published", "light"])
def test_the_decoder_lays_visible_tokens_where_they_were_and_mask_tokens_elsewhere(decoder: str) -> None:
    found = build(decoder=decoder).decoder
    assert (found.layers[0].cross is None) == (decoder == "light")
    found.layers, found.norm, found.voxels, found.narrow = nn.ModuleList(), nn.Identity(), nn.Identity(), nn.Identity()
    visible, shown, where = torch.randn(2, 2, 24), torch.tensor([[1, 4], [0, 3]]), torch.randn(2, 5, 24)
    whole = found(visible, shown, where)
    for sample in range(2):
        for place in range(5):
            there = shown[sample].tolist()
            token = visible[sample, there.index(place)] if place in there else found.mask
            torch.testing.assert_close(whole[sample, place], token + where[sample, place])


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


# what keeps features apart


def test_variance_and_covariance_are_their_formulas() -> None:
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [2, 1, 0.5, 0.1, 3, 0]
    )
    std = (rows.var(0) + 1e-4).sqrt()
    assert float(variance_term(rows)) == pytest.approx(float((1 - std).clamp_min(0).mean()), rel=1e-5)
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / 49
    wanted = sum(float(covariance[i, j]) ** 2 for i in range(6) for j in range(6) if i != j) / 6
    assert float(covariance_term(rows)) == pytest.approx(wanted, rel=1e-5)
    same = torch.ones(9, 4, requires_grad=True)
    variance_term(same).backward()
    assert bool(torch.isfinite(same.grad).all()), "at no variance at all the gradient is finite"


@pytest.mark.parametrize(
    ("preset", "progress", "weights"),
    [
        ("paper", 0.0, (0.0, 0.0)),
        ("paper", 0.0625, (0.05, 0.0015)),
        ("paper", 0.125, (0.1, 0.003)),
        ("paper", 1.0, (0.1, 0.003)),
        ("dev", 0.05, (0.0, 0.0)),
        ("dev", 12_000 / 139_000, (0.5, 0.015)),
        ("dev", 0.5, (1.0, 0.03)),
        ("dev", 0.7, (0.7, 0.021)),
        ("none", 0.7, (0.0, 0.0)),
    ],
)
def test_weights_follow_their_schedule(preset: str, progress: float, weights: tuple[float, float]) -> None:
    assert regularisation_weights(progress, preset) == pytest.approx(weights)


def test_the_terms_are_of_all_visible_tokens_with_the_weights_of_the_moment() -> None:
    model, volumes = build(), images(2)
    present = torch.ones(2, 4).bool()
    prediction = model(volumes, present, GIVEN)
    rows = prediction.auxiliary["visible"]
    assert len(rows) == 2 * round(0.2 * 256)
    terms = model.loss(prediction, Batch(GIVEN, volumes, present, None, ("", ""), {}), 0.0625)
    assert float(terms["covariance"]) == pytest.approx(0.0015 * float(covariance_term(rows)), rel=1e-4)
    assert float(terms["variance"]) == pytest.approx(0.05 * float(variance_term(rows)), rel=1e-4, abs=1e-9)


@pytest.mark.slow
def test_the_two_terms_raise_the_effective_rank() -> None:
    """The paper's ablation in its direction: with them features use more directions and vary together less."""
    generator = torch.Generator().manual_seed(0)
    base = torch.nn.functional.interpolate(torch.randn(4, 1, 4, 4, 4, generator=generator), size=(32, 32, 32), mode="trilinear")
    volumes, present = torch.cat([base, 0.3 - base], 1), torch.ones(4, 2).bool()
    batch = Batch(("t1", "t2"), volumes, present, None, ("",) * 4, {})
    ranks, covariances, errors = {}, {}, {}
    for preset in ("none", "dev"):
        model = build(("t1", "t2"), regularisation=preset, decoder="light", imputation=0.0)
        optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
        for step in range(120):
            torch.manual_seed(step)
            terms = model.loss(model(volumes, present), batch, 0.2 + step / 400)
            optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        with torch.no_grad():
            tokens = model.eval().token_features(*model.arrange(volumes, present)).flatten(0, 1)
        ranks[preset], covariances[preset] = effective_rank(tokens.numpy()), float(covariance_term(tokens))
        errors[preset] = float(terms["masked_mse"].detach())
    assert ranks["dev"] > 1.1 * ranks["none"], ranks
    assert covariances["dev"] < 0.5 * covariances["none"], covariances
    assert errors["dev"] < 1.2 * errors["none"], errors
