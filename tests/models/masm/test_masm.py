"""What the paper says of MASM, and our choices where it is silent (they are numbered in the module's docstring)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from masm_cases import GIVEN, build, noise, shown

from workbench.contracts import Batch
from workbench.errors import ParameterError
from workbench.models.catalogue import card
from workbench.models.masm import masm
from workbench.models.masm.blocks import partners
from workbench.models.masm.masm import Masm
from workbench.models.registry import create_model


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
    # the backbone is the U-Net with one sequence instead of four in its first convolution, and without biases in its
    # convolutions, down and up: two a stage, one a transposed one
    biases = 2 * sum(widths) + 2 * sum(widths[:-1]) + sum(widths[:-1])
    backbone = unet.parameter_count() - 27 * 3 * 32 - biases
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
    assert all(f"\n{number:2d}. " in masm.__doc__ for number in range(1, 15))


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


def test_a_case_with_no_known_sequence_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"sample 0 .* needs one of t1, t1c, t2, flair"):
        build().eval()(noise(1, 4, 8, 8, 8), torch.zeros(1, 4, dtype=torch.bool))


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
