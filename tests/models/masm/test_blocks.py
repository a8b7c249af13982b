"""The parts of MASM: shifts, decisions, attention inside a pair, the join."""

from __future__ import annotations

import pytest
import torch
from masm_cases import GIVEN, noise, shown
from torch import Tensor, nn

from workbench.models.masm.blocks import Join, KeepDecision, ModalityAware, ModalityShift, Shift, mosaic, move


@pytest.mark.parametrize("sequences", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("grid", [(4, 4, 4), (3, 5, 2), (1, 1, 1)])
def test_the_shift_is_exactly_inverted_on_integer_tags(sequences: int, grid: tuple[int, int, int]) -> None:
    tokens = grid[0] * grid[1] * grid[2]
    tags = torch.arange(2 * sequences * tokens).reshape(2, sequences, tokens, 1)
    steps = mosaic(grid, sequences)
    moved = move(tags, steps)
    assert torch.equal(move(moved, -steps), tags)
    assert torch.equal(moved.sort(1).values, tags), "each voxel's tokens stay at their voxel, one per sequence"
    assert torch.equal(moved, tags) == (sequences == 1 or tokens == 1)
    assert torch.equal(Shift(sequences, "mosaic")(Shift(sequences, "mosaic")(tags, grid), grid, back=True), tags)
    assert torch.equal(Shift(sequences, "none")(tags, grid), tags)


def test_each_step_comes_twice_in_a_cell_and_a_token_goes_where_the_formula_says() -> None:
    steps = mosaic((4, 6, 2), 4).reshape(2, 2, 3, 2, 1, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, 8)
    assert torch.equal(steps.sort(1).values, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]).expand(6, 8))
    assert mosaic((2, 2, 2), 4).tolist() == [0, 2, 1, 3, 2, 0, 3, 1]
    assert mosaic((2, 2, 2), 3).tolist() == [0, 2, 1, 0, 2, 1, 0, 2]
    tags = torch.arange(4)[None, :, None].expand(1, 4, 8)
    assert move(tags, mosaic((2, 2, 2), 4))[0, 0].tolist() == [0, 2, 3, 1, 2, 0, 1, 3], "map 0 holds sequence -s mod 4"
    assert sum(p.numel() for p in Shift(4, "mosaic").parameters()) == 0


def test_an_odd_grid_is_a_padded_even_one() -> None:
    whole = mosaic((4, 4, 4), 4).reshape(4, 4, 4)
    assert torch.equal(mosaic((3, 3, 3), 4).reshape(3, 3, 3), whole[:3, :3, :3])


def test_the_learned_shift_starts_from_the_mosaic_is_inverted_exactly_and_learns() -> None:
    shift, fixed = Shift(4, "learned"), Shift(4, "mosaic")
    tokens, grid = noise(1, 4, 27, 5).requires_grad_(), (3, 3, 3)
    assert torch.equal(shift(tokens, grid), fixed(tokens, grid))
    assert shift.logits is not None
    shift.logits.data = noise(8, 4, seed=1)
    moved = shift(tokens, grid)
    assert not torch.equal(moved, fixed(tokens, grid))
    assert torch.equal(shift(moved, grid, back=True), tokens)
    (moved * noise(1, 4, 27, 5, seed=2)).sum().backward()
    assert bool((shift.logits.grad.abs().sum(1) > 0).all()), "every place of the cell learns"  # type: ignore[union-attr]


def test_spatial_attention_mixes_sequences_only_where_tokens_are_shifted() -> None:
    """Without a shift the map of a sequence holds that sequence alone; sequence attention is silenced here."""
    reached = {}
    for form in ("mosaic", "none"):
        torch.manual_seed(0)
        module = ModalityShift(8, 2, 1, 4, 4, 4, form)  # type: ignore[arg-type]
        for part in (module.sequence.out, module.mlp[-1]):
            nn.init.zeros_(part.weight)  # type: ignore[arg-type]
        volumes = noise(1, 4, 8, 4, 4, 4).requires_grad_()
        out, _, _ = module(volumes, shown(*GIVEN))
        (gradient,) = torch.autograd.grad(out[0, 0].sum(), volumes)
        reached[form] = [bool(gradient[0, m].abs().sum() > 0) for m in range(4)]
    assert reached == {"mosaic": [True] * 4, "none": [True, False, False, False]}


class FixedDecision(nn.Module):
    """Keeps what it is told to."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, tokens: Tensor, temperature: float) -> Tensor:
        return self.kept


def aware_module(kept: Tensor | None = None) -> ModalityAware:
    torch.manual_seed(0)
    module = ModalityAware(8, 2, 1, 4, 4, 0.7)
    if kept is not None:
        module.decision = FixedDecision(kept)  # type: ignore[assignment]
    return module.eval()


PAIR = torch.tensor([1, 0])


def test_dropped_places_are_refilled_from_the_pair_and_only_kept_tokens_attend() -> None:
    volumes, present = noise(1, 2, 8, 2, 2, 2), torch.ones(1, 2, dtype=torch.bool)
    kept = torch.ones(1, 2, 8)
    kept[0, 0, 3] = 0  # A drops voxel 3, B keeps it
    kept[0, :, 5] = 0  # both drop voxel 5
    out, found, _ = aware_module(kept)(volumes, present, PAIR, 1.0)
    before, after = volumes.flatten(3), out.flatten(3)
    assert torch.equal(found, kept)
    torch.testing.assert_close(after[0, 0, :, 3], before[0, 1, :, 3]), "B's token takes the place of A's"
    torch.testing.assert_close(after[0, :, :, 5], before[0, :, :, 5]), "nothing to refill it with: it stays"
    changed = (after - before).abs().sum(2)[0] > 1e-6
    assert changed.tolist() == [[True] * 5 + [False] + [True] * 2, [True] * 5 + [False] + [True] * 2]
    # a dropped token is no key: nobody reads it
    louder = volumes.clone()
    louder.flatten(3)[0, 0, :, 3] += 50.0
    louder_out = aware_module(kept)(louder, present, PAIR, 1.0)[0].flatten(3)
    keep = [v for v in range(8) if v != 3]
    torch.testing.assert_close(louder_out[..., keep], after[..., keep])


def test_attention_stays_inside_the_pair() -> None:
    volumes = noise(1, 4, 8, 2, 2, 2).requires_grad_()
    out, _, _ = aware_module(torch.ones(1, 4, 8))(volumes, shown(*GIVEN), torch.tensor([1, 0, 3, 2]), 1.0)
    (gradient,) = torch.autograd.grad(out[0, 0].sum(), volumes)
    assert [bool(gradient[0, m].any()) for m in range(4)] == [True, True, False, False]


def test_the_decision_is_hard_and_its_gradient_is_soft() -> None:
    torch.manual_seed(0)
    decision = KeepDecision(8, 0.7)
    tokens = noise(1, 1, 512, 8)
    kept = decision.train()(tokens, 1.0)
    assert bool(((kept == 0) | (kept == 1)).all())
    assert float(kept.detach().mean()) == pytest.approx(0.7, abs=0.1), "where the bias starts"
    kept.sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in decision.parameters())  # type: ignore[union-attr]
    again = decision(tokens, 1.0)
    assert not torch.equal(kept, again), "drawn anew in every step"
    assert torch.equal(decision.eval()(tokens, 1.0), decision(tokens, 7.0)), "outside training nothing is drawn"
    # a token is kept with the probability of the softmax of its logits, whatever the temperature
    logits = decision.logits[-1]
    assert isinstance(logits, nn.Linear)
    logits.weight.data.zero_()
    logits.bias.data = torch.tensor([1.0, 0.0])
    many = decision.train()(tokens.repeat(1, 1, 40, 1), 0.3)
    assert float(many.detach().mean()) == pytest.approx(1 / (1 + torch.e**-1), abs=0.015)


def test_the_join_does_not_grow_with_the_number_of_sequences() -> None:
    torch.manual_seed(0)
    volumes = torch.ones(1, 4, 3, 2, 2, 2)
    join = Join(3, 4, "concat")
    assert join.map is not None
    join.map.weight.data = torch.eye(3).repeat(1, 4)[..., None, None, None] / 4
    join.map.bias.data.zero_()  # type: ignore[union-attr]
    for names in (("t1",), ("t1", "t2", "flair"), GIVEN):
        present = shown(*names)
        given = volumes * present[:, :, None, None, None, None]
        torch.testing.assert_close(join(given, present), torch.ones(1, 3, 2, 2, 2))
        torch.testing.assert_close(Join(3, 4, "mean")(given, present), torch.ones(1, 3, 2, 2, 2))
    join.map.weight.data[:, :3] *= 2
    assert not torch.equal(join(volumes * shown("t1")[..., None, None, None, None], shown("t1")),
                           join(volumes * shown("t2")[..., None, None, None, None], shown("t2"))), "a map for each"  # fmt: skip
