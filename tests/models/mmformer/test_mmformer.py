"""What is published of mmFormer: sizes, blocks, both layouts, masked tokens, and losses for the sequences that are there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from workbench.contracts import Batch
from workbench.models.catalogue import card
from workbench.models.losses import clamped_segmentation_loss
from workbench.models.mmformer.blocks import SelfAttention, upsample
from workbench.models.mmformer.facts import MMFormerOptions
from workbench.models.mmformer.mmformer import MMFormer
from workbench.models.registry import create_model, flops, paper_model
from workbench.setup.parameters import ExperimentParameters

GIVEN = ("flair", "t1c", "t1", "t2")

TINY = {"width": 2, "embedding": 8, "heads": 2, "mlp": 8, "positions": 32, "dropout": 0.0}


def build(modalities: tuple[str, ...] = GIVEN, **options: Any) -> MMFormer:
    model = create_model("mmformer", modalities=modalities, **(TINY | options))
    assert isinstance(model, MMFormer)
    torch.manual_seed(7)
    if model.positions is not None:
        nn.init.normal_(model.positions)  # they start at zero, which would hide mistakes
    return model


def cases(count: int = 2, modalities: int = 4) -> Tensor:
    return torch.randn(count, modalities, 32, 32, 32, generator=torch.Generator().manual_seed(1))


def batch(images: Tensor, present: Tensor, label_set: str = "glioma") -> Batch:
    labels = torch.randint(0, 4, (len(images), 32, 32, 32), generator=torch.Generator().manual_seed(2))
    return Batch(GIVEN[: images.shape[1]], images, present, labels, (label_set,) * len(images), {})


def test_the_size_is_the_public_codes_less_four_convolutions_that_it_never_uses(meta: torch.device) -> None:
    with meta:
        model = create_model("mmformer", modalities=GIVEN)
        wide = create_model("mmformer", modalities=GIVEN, width=16)
    assert model.parameter_count() == 36_391_760
    unused = 4 * (512 * 128 + 128)  # 1^3 convolutions from 512 back to 128
    assert model.parameter_count() + unused == 36_654_416
    assert round((model.parameter_count() + unused) / 1e6, 1) == 36.7
    assert wide.parameter_count() + 4 * (512 * 256 + 256) == pytest.approx(61.6e6, rel=0.002)  # as published for width 16
    parts = model.parameters_by_component()
    assert parts["encoders"] == 4 * 1_473_216
    assert parts["own"] == 4 * 512 * 512, "learned positions of 8^3 tokens for each sequence"
    assert parts["intra"] == 4 * parts["inter"] == 4 * 5_250_048


def test_operations_can_be_counted() -> None:
    one = flops("mmformer")
    assert 2.4e11 < one < 2.7e11
    shown = torch.ones(15, 4, dtype=torch.bool, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        paper_model(card("mmformer")).eval().forward_subsets(torch.zeros(1, 4, 128, 128, 128, device="meta"), shown)
    assert counter.get_total_flops() / one == pytest.approx(6.6, abs=0.05), "fifteen subsets share the sequences' own parts"


def test_the_papers_recipe_shows_every_subset_equally_often() -> None:
    paper = ExperimentParameters.build("mmformer", {}).resolve()
    assert (paper.modality_dropout, paper.dropout_mode) == (1.0, "subset")
    assert (paper.patch, paper.epochs, paper.batch_size, paper.learning_rate, paper.weight_decay) == (128, 1000, 8, 2e-4, 1e-4)


def test_both_layouts_have_the_same_weights_and_compute_something_else() -> None:
    aligned, published = build().eval(), build(layout="published").eval()
    published.load_state_dict(aligned.state_dict())
    images, present = cases(1), torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        assert not torch.allclose(aligned(images, present).segmentation, published(images, present).segmentation, atol=1e-3)


def test_masked_tokens_are_as_if_they_were_not_there() -> None:
    model = build().eval()
    assert model.inter is not None
    present = torch.tensor([[True, False, True, False], [True, True, True, True]])
    tokens = torch.randn(2, 4, 8, 8) * present[:, :, None, None]
    mixed, _ = model.mix(tokens, present, (32, 32, 32))
    positions = model.learned_positions((32, 32, 32))
    alone, _ = model.inter(tokens[:1, [0, 2]].flatten(1, 2), positions[[0, 2]].flatten(0, 1)[None])
    torch.testing.assert_close(mixed[:1, [0, 2]].flatten(1, 2), alone)
    assert not bool(mixed[0, [1, 3]].any())
    full, _ = model.inter(tokens[1:].flatten(1, 2), positions.flatten(0, 1)[None])
    torch.testing.assert_close(mixed[1:].flatten(1, 2), full)


def test_the_papers_zero_tokens_take_part_with_their_positions() -> None:
    model = build(absent_tokens="zero").eval()
    assert model.inter is not None
    present = torch.tensor([[True, False, True, False]])
    tokens = torch.randn(1, 4, 8, 8) * present[:, :, None, None]
    mixed, _ = model.mix(tokens, present, (32, 32, 32))
    everything, _ = model.inter(tokens.flatten(1, 2), model.learned_positions((32, 32, 32)).flatten(0, 1)[None])
    torch.testing.assert_close(mixed.flatten(1, 2), everything)
    assert bool(mixed[0, 1].any())
    model.options = model.options.model_copy(update={"absent_tokens": "masked"})
    assert not torch.allclose(model.mix(tokens, present, (32, 32, 32))[0][:, 0], mixed[:, 0], atol=1e-4)


@pytest.mark.parametrize("absent_tokens", ["masked", "zero"])
def test_nothing_of_an_absent_sequence_learns(absent_tokens: str) -> None:
    model = build(absent_tokens=absent_tokens).train()
    present = torch.tensor([[True, False, True, True]] * 2)
    given = batch(cases() * present[:, :, None, None, None], present)
    prediction = model(given.images, given.present, GIVEN)
    torch.stack(list(model.loss(prediction, given, 0.0).values())).sum().backward()
    for part in (model.encoders[1], model.embed[1], model.intra[1]):
        assert all(parameter.grad is None for parameter in part.parameters())
    assert all(bool(parameter.grad.any()) for parameter in model.encoders[0].parameters() if parameter.grad is not None)
    assert model.positions is not None
    assert model.positions.grad is not None
    assert bool(model.positions.grad[0].any())
    assert bool(model.positions.grad[1].any()) == (absent_tokens == "zero")


def test_a_batch_of_one_and_four_sequence_cases_trains() -> None:
    model = build().train()
    present = torch.tensor([[False, True, False, False], [True, True, True, True]])
    given = batch(cases() * present[:, :, None, None, None], present)
    prediction = model(given.images, given.present, GIVEN)
    assert prediction.auxiliary["alone_t1c"].shape[0] == 2
    assert prediction.auxiliary["alone_flair"].shape[0] == 1
    total = torch.stack(list(model.loss(prediction, given, 0.0).values())).sum()
    total.backward()
    assert torch.isfinite(total)


def test_the_objective_is_fused_plus_four_levels_plus_the_sequences_that_are_there() -> None:
    model = build().train()
    present = torch.tensor([[True, False, True, True], [True, False, False, True]])
    given = batch(cases() * present[:, :, None, None, None], present)
    prediction = model(given.images, given.present, GIVEN)
    found = prediction.auxiliary
    assert set(found) == {"level1", "level2", "level3", "level4", "alone_flair", "alone_t1", "alone_t2"}
    assert [found[f"level{k}"].shape[2] for k in range(1, 5)] == [16, 8, 4, 2]
    terms = {name: float(term.detach()) for name, term in model.loss(prediction, given, 0.0).items()}

    def one(logits: Tensor, rows: slice = slice(None), factor: int = 1) -> float:
        probabilities = logits.detach().softmax(1)
        probabilities = upsample(probabilities, factor) if factor > 1 else probabilities
        assert given.labels is not None
        return float(clamped_segmentation_loss(probabilities, given.labels[rows], given.label_set[rows]))

    assert terms["segmentation"] == pytest.approx(one(prediction.segmentation))
    assert terms["levels"] == pytest.approx(sum(one(found[f"level{k}"], factor=2**k) for k in range(1, 5)))
    expected = one(found["alone_flair"]) + one(found["alone_t1"], slice(0, 1)) + one(found["alone_t2"])
    assert terms["sequences"] == pytest.approx(expected)


def test_presence_goes_by_name_in_the_loss_too() -> None:
    model = build().train()
    present = torch.tensor([[True, False, True, True], [True, True, True, True]])
    given = batch(cases() * present[:, :, None, None, None], present)
    order = [3, 1, 0, 2]
    names = tuple(GIVEN[i] for i in order)
    turned = Batch(names, given.images[:, order], present[:, order], given.labels, given.label_set, {})
    terms = model.loss(model(given.images, given.present, GIVEN), given, 0.0)
    again = model.loss(model(turned.images, turned.present, names), turned, 0.0)
    for name, term in terms.items():
        torch.testing.assert_close(again[name], term)


def test_the_shared_decoder_reads_the_cnn_and_not_the_transformer() -> None:
    model = build().train()
    prediction = model(cases(1), torch.ones(1, 4, dtype=torch.bool), GIVEN)
    prediction.auxiliary["alone_t1"].sum().backward()
    assert all(parameter.grad is None for parameter in (*model.intra.parameters(), *model.embed.parameters()))
    assert all(parameter.grad is None for parameter in model.encoders[0].parameters())
    assert all(parameter.grad is not None for parameter in model.encoders[2].parameters())


@pytest.mark.parametrize(("option", "gone"), [("intra", "intra"), ("inter", "inter"), ("auxiliary", "separate")])
def test_ablations_leave_their_part_out(option: str, gone: str) -> None:
    chosen: dict[str, Any] = {option: False}
    whole, less = build(), build(**chosen).train()
    assert gone not in less.parameters_by_component()
    assert less.parameter_count() < whole.parameter_count()
    given = batch(cases(1), torch.ones(1, 4, dtype=torch.bool))
    prediction = less(given.images, given.present, GIVEN)
    terms = less.loss(prediction, given, 0.0)
    assert set(terms) == ({"segmentation"} if option == "auxiliary" else {"segmentation", "levels", "sequences"})
    torch.stack(list(terms.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in less.parameters())


@pytest.mark.parametrize(("word", "means"), [(True, "shown"), ("false", "off"), ("acquired", "acquired")])
def test_auxiliary_takes_the_words_it_had_as_a_switch(word: Any, means: str) -> None:
    options = ExperimentParameters.build("mmformer", {"auxiliary": word}).options()
    assert options["auxiliary"] == means
    assert MMFormerOptions(**options).without_later(options)["auxiliary"] == {"shown": True, "off": False}.get(means, means)


def test_only_the_fusions_pad_with_zeros() -> None:
    model, before = build(), build(fusion_borders="mirrored")
    modes = {name: part.padding_mode for name, part in model.named_modules() if isinstance(part, nn.Conv3d) and part.padding[0]}
    zeros = {name for name, mode in modes.items() if mode == "zeros"}
    assert zeros == {f"decoder.fusions.{level}.1.2" for level in range(5)}
    assert all(part.padding_mode == "reflect" for part in before.modules() if isinstance(part, nn.Conv3d) and part.padding[0])


def test_fifteen_subsets_encode_every_sequence_once() -> None:
    model = build().eval()
    calls = {"encoder": 0, "intra": 0, "decoder": 0}

    def counting(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1

        return hook

    for encoder in model.encoders:
        encoder.register_forward_hook(counting("encoder"))
    for transformer in model.intra:
        transformer.register_forward_hook(counting("intra"))
    model.decoder.register_forward_hook(counting("decoder"))
    shown = torch.tensor([[bool(code >> m & 1) for m in range(4)] for code in range(1, 16)])
    images = cases(1)
    with torch.no_grad():
        found = model.forward_subsets(images, shown)
        assert calls == {"encoder": 4, "intra": 4, "decoder": 15}
        for row, logits in zip(shown, found, strict=True):
            torch.testing.assert_close(logits, model(images, row[None]).segmentation, rtol=1e-4, atol=1e-4)


def test_positions_are_interpolated_on_the_grid_of_tokens() -> None:
    model = build()
    assert model.positions is not None
    torch.testing.assert_close(model.learned_positions((32, 32, 32)), model.positions, rtol=0, atol=0)
    with torch.no_grad():
        ramp = torch.arange(2.0)[None, None, :].expand(2, 2, 2)  # along Z
        model.positions.copy_(ramp.reshape(1, 8, 1).expand(4, 8, 8))
    larger = model.learned_positions((32, 48, 64)).unflatten(1, (2, 3, 4))
    assert larger.shape == (4, 2, 3, 4, 8)
    torch.testing.assert_close(larger[0, :, :, :, 0], torch.tensor([0, 0.25, 0.75, 1]).expand(2, 3, 4))


def test_attention_per_sequence_adds_up_to_one_and_absent_ones_get_none() -> None:
    model = build().eval()
    present = torch.tensor([[True, False, True, True], [False, True, False, False]])
    with torch.no_grad():
        maps = model(cases() * present[:, :, None, None, None], present, GIVEN, maps=True).maps
    assert set(maps) == {f"weight_{name}" for name in GIVEN}
    weights = torch.stack([maps[f"weight_{name}"] for name in GIVEN], dim=1)
    assert weights.shape == (2, 4, 1, 2, 2, 2)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 1, 2, 2, 2))
    assert not bool(weights[0, 1].any())
    torch.testing.assert_close(weights[1, 1], torch.ones(1, 2, 2, 2))
    assert bool((weights[0, [0, 2, 3]] > 0).all())


def test_pooled_features_are_the_mean_token_of_the_sequences_that_are_there() -> None:
    model = build().eval()
    present = torch.tensor([[True, False, True, True], [False, True, False, False]])
    images = cases() * present[:, :, None, None, None]
    with torch.no_grad():
        found = model.pooled_features(images, present)
        _, tokens, _ = model.encode(images, present)
        mixed, _ = model.mix(tokens, present, images.shape[2:])
    assert found.shape == (2, 8)
    torch.testing.assert_close(found[0], mixed[0, [0, 2, 3]].mean((0, 1)))
    torch.testing.assert_close(found[1], mixed[1, 1].mean(0))


def test_both_transformers_off_is_the_identity_on_tokens() -> None:
    model = build(intra=False, inter=False).eval()
    assert not any(isinstance(module, SelfAttention) for module in model.modules())
    assert model.positions is None
    images, present = cases(1), torch.tensor([[True, True, False, True]])
    with torch.no_grad():
        _, tokens, _ = model.encode(model.arrange(images, present)[0], present)
        deepest = model.encoders[0](images[:, :1])[-1]
        assert torch.equal(tokens[:, 0], model.embed[0](deepest).flatten(2).transpose(1, 2))
        mixed, _ = model.mix(tokens, present, images.shape[2:])
    assert torch.equal(mixed, tokens)
