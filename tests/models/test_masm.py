"""What the paper says of MASM, and our choices where it is silent (they are numbered in the module's docstring)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.contracts import Batch
from workbench.errors import ParameterError
from workbench.models.catalogue import card
from workbench.models.masm import masm
from workbench.models.masm.blocks import (
    Join,
    KeepDecision,
    MaskedAttention,
    ModalityAware,
    ModalityShift,
    Shift,
    mosaic,
    move,
    partners,
    spread,
    tokenise,
)
from workbench.models.masm.masm import Masm
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")
SMALL: dict[str, Any] = {"width": 4, "levels": 3, "heads": 2, "grid": 4, "mlp_ratio": 1, "checkpointing": False}


def build(modalities: tuple[str, ...] = GIVEN, seed: int = 0, **options: Any) -> Masm:
    model = create_model("masm", modalities=modalities, seed=seed, **(SMALL | options))
    assert isinstance(model, Masm)
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shown(*names: str, given: tuple[str, ...] = GIVEN) -> Tensor:
    return torch.tensor([[name in names for name in given]])


# -- sizes and what each option changes --------------------------------------------------------------------------------


def test_parameters_by_component_at_the_papers_size(meta: torch.device) -> None:
    with meta:
        model = create_model("masm", modalities=GIVEN)
        unet = create_model("unet", modalities=GIVEN, deep_supervision=False)
    assert isinstance(model, Masm)
    widths = (32, 64, 128, 256, 320, 320)
    assert model.backbone.widths == widths
    attention = {c: 4 * c * (c + 1) for c in widths}
    mlp = {c: 2 * c + 8 * c * c + 5 * c for c in widths}

    def decision(c: int) -> int:
        h = c // 2
        return 2 * c + h * (c + 1) + h * (2 * h + 1) + 2 * (h + 1)

    aware = sum(decision(c) + 512 * c + 2 * c + attention[c] + mlp[c] for c in widths[:-1])
    shift = 64 * 320 + 4 * 320 + 2 * attention[320] + mlp[320]
    join = sum(4 * c * c + c for c in widths)
    # the backbone is the U-Net with one sequence instead of four in its first convolution
    backbone = unet.parameter_count() - 27 * 3 * 32
    assert model.parameters_by_component() == {"backbone": backbone, "aware": aware, "shifted": shift, "join": join}
    assert model.parameter_count() == card("masm").parameters == 36_908_846


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"shift": "none"}, 0),  # shift against no shift at equal parameters
        ({"shift": "learned"}, 8 * 4),
        ({"pairing": "random"}, 0),
        ({"final_temperature": 0.5, "gather": True, "ratio_weight": 2.0, "checkpointing": True}, 0),
        ({"masking": "none"}, -sum(2 * c + h * (c + 1) + h * (2 * h + 1) + 2 * (h + 1) for c, h in ((4, 2), (8, 4)))),
        ({"join": "mean"}, -sum(4 * c * c + c for c in (4, 8, 16))),
    ],
)
def test_each_ablation_changes_what_it_says_and_nothing_else(options: dict[str, Any], difference: int) -> None:
    assert build(**options).parameter_count() - build().parameter_count() == difference


@pytest.mark.parametrize(
    ("mixers", "aware", "shifted"), [("aware", "012", ""), ("shift", "", "012"), ("none", "", ""), ("aware_shift", "01", "2")]
)
def test_where_the_modules_stand(mixers: str, aware: str, shifted: str) -> None:
    model = build(mixers=mixers, width=8)
    assert ("".join(model.aware), "".join(model.shifted)) == (aware, shifted)
    with torch.no_grad():
        logits = model.eval()(noise(1, 4, 8, 16, 8), shown("t1", "flair")).segmentation
    assert logits.shape == (1, 4, 8, 16, 8)


@pytest.mark.parametrize(
    ("backbone", "options", "side"),
    [
        ("unetr", {"width": 4, "token_width": 24}, 32),
        pytest.param("swin_unetr", {"width": 12}, 64, marks=pytest.mark.slow),
    ],
)
def test_other_backbones_encode_each_sequence_by_itself(backbone: str, options: dict[str, Any], side: int) -> None:
    model = build(backbone=backbone, **options).eval()
    images = noise(1, 4, side, side, side)
    with torch.no_grad():
        alone = model.encode(images, shown("t2"))
        together = model.encode(images, shown(*GIVEN))
        logits = model(images, shown("t2")).segmentation
    assert logits.shape == (1, 4, side, side, side)
    assert [level.shape[2] for level in alone] == list(model.backbone.widths)
    for one, all_ in zip(alone, together, strict=True):
        torch.testing.assert_close(one[:, 2], all_[:, 2], rtol=1e-3, atol=1e-3)
        assert not bool(one[:, [0, 1, 3]].any())
    assert not any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) and not isinstance(m, nn.InstanceNorm3d) for m in model.modules()
    )


def test_bad_options_are_named() -> None:
    for options, message in (
        ({"width": 6, "heads": 4}, "multiple of 'heads'"),
        ({"backbone": "swin_unetr", "width": 16}, "multiple of 12"),
        ({"backbone": "unetr", "token_width": 30}, "token_width"),
        ({"width": 0}, "-1 for the backbone's own"),
        ({"final_temperature": 0.0}, "must be positive"),
    ):
        with pytest.raises(ParameterError, match=message):
            build(**options)
    assert create_model("masm", modalities=("t1",), levels=3, width=-1).architecture()["options"]["width"] == 32  # type: ignore[index]


def test_every_assumption_is_shown_and_the_title_says_what_it_is() -> None:
    assert "re-implementation without public code" in card("masm").title
    model = build()
    assert set(masm.ASSUMPTIONS) < set(model.notes)
    assert model.notes[-1] == "pairs: t1-t1c, t2-flair"
    assert masm.__doc__ is not None
    assert all(f"\n{number:2d}. " in masm.__doc__ for number in range(1, 14))


# -- the shift ---------------------------------------------------------------------------------------------------------


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


# -- tokens, masks, pairs ----------------------------------------------------------------------------------------------


def test_tokens_are_means_of_patches_and_border_patches_of_what_they_have() -> None:
    volumes = noise(1, 2, 3, 5, 8, 3)
    tokens, grid, patch = tokenise(volumes, 4)
    assert (grid, patch) == ((3, 4, 3), (2, 2, 1))
    as_grid = tokens.transpose(2, 3).reshape(1, 2, 3, *grid)
    torch.testing.assert_close(as_grid[..., 0, 0, 0], volumes[..., :2, :2, 0].mean((3, 4)))
    torch.testing.assert_close(as_grid[..., 2, 3, 2], volumes[..., 4, 6:, 2].mean(3)), "one voxel deep: the padding is not read"
    change = torch.ones_like(tokens)
    torch.testing.assert_close(spread(volumes, change, grid, patch), volumes + 1)
    small = noise(1, 1, 2, 3, 3, 3)
    tokens, grid, patch = tokenise(small, 4)
    torch.testing.assert_close(spread(small, -tokens, grid, patch), torch.zeros_like(small)), "patches of one voxel: exact"


@pytest.mark.parametrize("names", [GIVEN, ("t1", "flair"), ("dwi",), ("adc", "t2", "dwi", "flair", "swi")])
def test_pairs(names: tuple[str, ...]) -> None:
    found = {name: names[index] for name, index in zip(names, partners(names, masm.CLINICAL_PAIRS), strict=True)}
    expected = {"t1": "t1c", "t1c": "t1", "t2": "flair", "flair": "t2", "dwi": "adc", "adc": "dwi"}
    assert found == {name: expected[name] if expected.get(name) in names else name for name in names}
    with torch.no_grad():
        model = build(names).eval()
        assert model(noise(1, len(names), 8, 8, 8), torch.ones(1, len(names), dtype=torch.bool)).segmentation is not None


def test_random_pairs_are_drawn_from_the_seed_are_not_clinical_and_are_kept_with_the_weights() -> None:
    drawn = {build(pairing="random", seed=seed).pairs for seed in range(8)}
    assert drawn == {("t1-t2", "t1c-flair"), ("t1-flair", "t1c-t2")}
    first, other = build(pairing="random", seed=0), build(pairing="random", seed=1)
    assert first.pairs == build(pairing="random", seed=0).pairs
    other.load_state_dict(first.state_dict())
    assert torch.equal(first.partner, other.partner)


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


def test_gathering_the_kept_tokens_gives_the_same_numbers() -> None:
    model = build().eval()
    images, present = noise(2, 4, 16, 16, 8), torch.tensor([[True] * 4, [True, False, True, True]])
    with torch.no_grad():
        for module in model._aware_modules():  # otherwise nearly all are kept before anything is learnt
            assert module.decision is not None
            module.decision.logits[-1].bias.zero_()
            for layer in (module.decision.local[1], module.decision.logits[0]):
                layer.weight.mul_(8)
        dense = model(images, present, maps=True)
        for module in model._aware_modules():
            module.gathering = True
        gathered = model(images, present)
    shares = torch.stack([dense.maps[f"keep_{name}"].mean() for name in GIVEN])
    assert bool((shares > 0.05).any()), "some are kept"
    assert bool((shares < 0.95).any()), "and some are dropped"
    torch.testing.assert_close(gathered.segmentation, dense.segmentation, rtol=1e-4, atol=1e-4)


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


def test_the_temperature_moves_with_the_run_and_survives_a_resume() -> None:
    model = build(temperature=1.0, final_temperature=0.5)
    batch = Batch(GIVEN, noise(1, 4, 8, 8, 8), shown(*GIVEN), torch.ones(1, 8, 8, 8, dtype=torch.long), ("glioma",), {})
    model.loss(model.train()(batch.images, batch.present), batch, 0.5)
    assert float(model.temperature) == 0.75
    assert float(model.state_dict()["temperature"]) == 0.75
    still = build()
    still.loss(still.train()(batch.images, batch.present), batch, 0.5)
    assert float(still.temperature) == 1.0


def test_the_keep_ratio_loss_is_the_squared_distance_from_the_target() -> None:
    model = build(ratio_weight=2.0, keep_ratio=0.7).train()
    present = torch.tensor([[True] * 4, [True, False, False, False]])
    batch = Batch(GIVEN, noise(2, 4, 8, 8, 8), present, None, ("", ""), {})
    prediction = model(batch.images, present)
    shares = prediction.auxiliary["kept"]
    assert shares.shape == (2, 2), "samples, levels with MA"
    assert bool(((shares >= 0) & (shares <= 1)).all())
    term = model.loss(prediction, batch, 0.0)["keep_ratio"]
    torch.testing.assert_close(term, 2 * (shares - 0.7).square().mean())
    plain = build().train()
    assert "keep_ratio" not in plain.loss(plain(batch.images, present), batch, 0.0), "the paper may have none: off by default"


# -- absent sequences --------------------------------------------------------------------------------------------------


def test_a_key_without_policy_has_no_weight_and_no_gradient() -> None:
    torch.manual_seed(0)
    attention = MaskedAttention(8, 2)
    queries, context = noise(2, 3, 8), noise(2, 5, 8, seed=1).requires_grad_()
    policy = torch.tensor([[1.0, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
    out, weights = attention(queries, context, policy)
    assert not bool(weights[..., [1, 3]].any())
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 3))
    assert not bool(weights[1].any()), "a query without any key"
    out.square().sum().backward()
    assert context.grad is not None
    assert not bool(context.grad[:, [1, 3]].any())
    assert bool(context.grad[0, 0].any())
    with torch.no_grad():
        torch.testing.assert_close(attention.attend(queries, context, policy), out)  # PyTorch's own, a mask in place of a policy
    torch.testing.assert_close(attention.attend(queries, context, policy), out)


@pytest.mark.parametrize("mixers", ["aware_shift", "aware", "shift"])
@pytest.mark.parametrize("names", [("t1",), ("t1c", "flair"), ("t1", "t2", "flair")])
def test_absent_sequences_have_zero_influence_and_zero_gradient(mixers: str, names: tuple[str, ...]) -> None:
    """Even where something stands in their features: they are no keys, refill nothing and are not joined."""
    model = build(mixers=mixers, shift="learned").eval()
    present = shown(*names)
    absent = ~present[0]
    levels = [level.requires_grad_() for level in model.encode(noise(1, 4, 16, 8, 8), shown(*GIVEN))]
    other = [torch.where(present[:, :, None, None, None, None], level, 30 * noise(*level.shape)) for level in levels]
    mixed, again = (model.mix(given, present)[0] for given in (levels, other))
    logits = [model.decode(given, present) for given in (mixed, again)]
    assert torch.equal(*logits)
    for one, two in zip(mixed, again, strict=True):
        assert torch.equal(one[:, ~absent], two[:, ~absent])
    gradients = torch.autograd.grad(logits[0].square().sum(), levels)
    for gradient in gradients:
        assert not bool(gradient[:, absent].any())
        assert bool(gradient[:, ~absent].any())


def test_every_subset_is_predicted_and_shares_the_encoder() -> None:
    model = build().eval()
    images = noise(2, 4, 16, 8, 8)
    rows = torch.tensor([[bool(code >> bit & 1) for bit in range(4)] for code in range(1, 16)])
    encoded: list[int] = []
    model.backbone.down[0].register_forward_pre_hook(lambda _, given: encoded.append(len(given[0])))  # type: ignore[union-attr]
    with torch.no_grad():
        together = model.forward_subsets(images, rows)
        assert encoded == [8], "two cases of four sequences, once"
        for row, logits in [*zip(rows, together, strict=True)][::3]:  # one to three sequences, each at least once
            alone = model(images, row.expand(2, -1)).segmentation
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)
        model.forward_subsets(images, rows[:3])
        assert encoded[-1] == 4, "what no set shows is not encoded"
    assert not torch.allclose(together[0], together[1], atol=1e-3), "subsets differ"


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


def test_a_case_with_no_known_sequence_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"sample 0 .* needs one of t1, t1c, t2, flair"):
        build().eval()(noise(1, 4, 8, 8, 8), torch.zeros(1, 4, dtype=torch.bool))


# -- what it shows -----------------------------------------------------------------------------------------------------


def test_maps_and_features() -> None:
    model = build().eval()
    images, present = noise(1, 4, 16, 8, 8), shown("t1", "t1c", "t2")
    with torch.no_grad():
        maps = model(images, present, maps=True).maps
        features = model.pooled_features(images, present)
        single = model.pooled_features(images, shown("t1"))
    assert set(maps) == {f"{kind}_{name}" for kind in ("keep", "weight") for name in GIVEN}
    assert all(values.ndim == 5 and 0 <= float(values.min()) <= float(values.max()) <= 1 for values in maps.values())
    torch.testing.assert_close(sum(maps[f"weight_{name}"] for name in GIVEN), torch.ones_like(maps["weight_t1"]))
    assert not bool(maps["weight_flair"].any())
    assert not bool(maps["keep_flair"].any())
    assert maps["keep_t1"].shape == (1, 1, 4, 4, 4)
    assert features.shape == single.shape == (1, 16)
    assert not torch.allclose(features, single)
    names = set(build(masking="none", mixers="aware").eval()(images, present, maps=True).maps)
    assert not names, "nothing is dropped and nothing is shifted"


def test_recomputing_the_encoder_changes_no_gradient() -> None:
    images, present = noise(1, 4, 8, 8, 8), shown("t1", "t1c", "flair")
    found = []
    for checkpointing in (False, True):
        model = build(checkpointing=checkpointing).train()
        torch.manual_seed(3)
        model(images, present).segmentation.square().mean().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("gather", [False, True])
def test_half_precision_trains_and_predicts(gather: bool) -> None:
    model = build(gather=gather, shift="learned", ratio_weight=2.0)
    images, present = noise(1, 4, 16, 8, 8), shown("t1", "t1c", "flair")
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model.train()(images, present)
        with torch.inference_mode():
            half = model.eval()(images, present, maps=True)
    (prediction.segmentation.float().square().mean() + prediction.auxiliary["kept"].float().sum()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    with torch.inference_mode():
        full = model(images, present)
    torch.testing.assert_close(half.segmentation.float(), full.segmentation, rtol=0.1, atol=0.1)
