"""Masks and regularisation of BrainFM-MRI's pretraining."""

from __future__ import annotations

import pytest
import torch
from brainfm_masks import build

from workbench.contracts import Batch
from workbench.errors import ParameterError
from workbench.evaluation.collapse import effective_rank
from workbench.models.brainfm.pretext import covariance_term, draw_visible, keep_count, regularisation_weights, variance_term
from workbench.models.options import build_options


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


def test_variance_and_covariance_are_their_formulas() -> None:
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [2, 1, 0.5, 0.1, 3, 0]
    )
    std = (rows.var(0) + 1e-4).sqrt()
    assert float(variance_term(rows)) == pytest.approx(float((1 - std).clamp_min(0).mean()), rel=1e-5)
    biased = (rows.var(0, correction=0) + 1e-4).sqrt()
    assert float(variance_term(rows, biased=True)) == pytest.approx(float((1 - biased).clamp_min(0).mean()), rel=1e-5)
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
