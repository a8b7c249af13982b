"""AMAES: what is hidden, what is asked for, what augmentation reversal takes as its target, and what is transferred."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.contracts import PRETRAINING, Batch, Prediction
from workbench.errors import InputError, ParameterError
from workbench.models.amaes import Amaes
from workbench.models.amaes_pretrain import AmaesPretrain
from workbench.models.amaes_unet import FIRST, LightDecoder
from workbench.models.pretrained_file import save_encoder
from workbench.models.registry import create_model
from workbench.models.seen import Seen
from workbench.sampling.augmentation import AugmentationSettings, apply, draw
from workbench.setup.parameters import ExperimentParameters

GIVEN = ("t1", "t1c", "t2", "flair")


def pretraining(modalities: tuple[str, ...] = GIVEN, **options: Any) -> AmaesPretrain:
    model = create_model("amaes_pretrain", modalities=modalities, **({"width": 4} | options))
    assert isinstance(model, AmaesPretrain)
    return model


def tuning(modalities: tuple[str, ...] = GIVEN, **options: Any) -> Amaes:
    model = create_model("amaes", modalities=modalities, **({"width": 4} | options))
    assert isinstance(model, Amaes)
    return model


def images(count: int = 2, modalities: int = 2) -> Tensor:
    values = torch.zeros(count, modalities, 32, 32, 32)
    inside = torch.randn(count, modalities, 24, 24, 24, generator=torch.Generator().manual_seed(1)) + 3
    values[..., 4:28, 4:28, 4:28] = inside
    return values


def batch(values: Tensor, present: Tensor, target: Tensor | None = None, names: tuple[str, ...] = GIVEN) -> Batch:
    return Batch(names[: values.shape[1]], values, present, None, ("",) * len(values), {}, target=target)


def everything(count: int = 2, modalities: int = 2) -> Tensor:
    return torch.ones(count, modalities, dtype=torch.bool)


def saved(folder: Path, **options: Any) -> tuple[AmaesPretrain, Path]:
    source = pretraining(**options)
    save_encoder(folder / "encoder", source.encoder_state(), source.encoder_description(), Seen(collections=("brats2021",)))
    return source, folder / "encoder.safetensors"


# -- sizes and recipe --------------------------------------------------------------------------------------------------


def test_sizes_are_the_papers(meta: torch.device) -> None:
    with meta:
        base, extra = (create_model("amaes", modalities=("t1",), classes=2, width=width) for width in (32, 64))
        pretrained = create_model("amaes_pretrain", modalities=GIVEN)
        one = create_model("amaes_pretrain", modalities=("t1",))
    assert (base.parameter_count(), extra.parameter_count()) == (22_578_306, 90_298_626)  # the paper: 22 M and 90 M
    assert pretrained.parameter_count() == one.parameter_count() == 17_877_153, "one channel, whatever the sequences are"
    assert pretrained.parameters_by_component() == {"encoder": 14_132_960, "decoder": 3_744_193}


def test_recipes_are_the_published_ones() -> None:
    pretrain, tune = (ExperimentParameters.build(name, {}).resolve() for name in ("amaes_pretrain", "amaes"))
    assert (pretrain.patch, pretrain.epochs, pretrain.batch_size, pretrain.learning_rate) == (128, 100, 8, 1e-4)
    assert pretrain.warmup * pretrain.epochs == 5
    assert (pretrain.options()["masked_share"], pretrain.options()["mask_unit"]) == (0.6, 4)
    assert pretrain.options()["reversal"]
    assert pretrain.augment, "the published default preset, none, would be a plain masked autoencoder"
    assert not pretrain.options()["masked_only"]
    assert (tune.epochs, tune.steps_per_epoch, tune.batch_size, tune.weight_decay) == (500, 100, 8, 3e-5)
    assert (tune.modality_dropout, tune.dropout_mode) == (1.0, "subset")


def test_the_light_decoder_has_one_convolution_per_level_and_no_skip() -> None:
    decoder = LightDecoder(4)
    kinds = [type(module).__name__ for module in decoder.steps]
    assert kinds == ["ConvTranspose3d", "Convolution"] * 4
    assert [module.in_channels for module in decoder.modules() if isinstance(module, nn.Conv3d)] == [32, 16, 8, 4, 4]
    model = tuning()
    assert [type(module).__name__ for module in model.decoder.ups] == ["UpCat"] * 4
    assert sum(isinstance(module, nn.Conv3d) for module in model.decoder.modules()) == 4 * 2 + 1
    assert [tuple(state.shape[1:3]) for state in model.encoder(torch.randn(1, 4, 32, 32, 32))] == [
        (4, 32), (8, 16), (16, 8), (32, 4), (64, 2)
    ]  # fmt: skip
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.01}


# -- what is hidden ----------------------------------------------------------------------------------------------------


def test_sixty_percent_of_the_units_of_each_image_are_hidden_each_image_for_itself() -> None:
    model = pretraining()
    torch.manual_seed(0)
    hidden = model.draw_hidden((2, 3, 32, 48, 32), torch.device("cpu"))
    units = hidden.unfold(2, 4, 4).unfold(3, 4, 4).unfold(4, 4, 4).flatten(-3)
    assert torch.equal(units.all(-1), units.any(-1)), "units of 4^3 are hidden as a whole"
    assert units[..., 0].flatten(2).sum(2).tolist() == [[round(0.6 * 8 * 12 * 8)] * 3] * 2
    flat = hidden.flatten(2).flatten(0, 1)
    assert all(not torch.equal(flat[i], flat[j]) for i in range(6) for j in range(i))
    again = model.draw_hidden((2, 3, 32, 48, 32), torch.device("cpu"))
    assert not torch.equal(hidden, again)


def test_hidden_units_are_zero_when_the_encoder_sees_them_and_one_image_goes_in_at_a_time() -> None:
    model = pretraining().train()
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    values, present = images(2, 4), torch.tensor([[True, False, True, True], [False, True, False, False]])
    torch.manual_seed(0)
    prediction = model(values * present[:, :, None, None, None], present, GIVEN)
    hidden = prediction.auxiliary["hidden"]
    assert seen[0].shape == (4, 1, 32, 32, 32), "four sequences are there in all"
    torch.testing.assert_close(seen[0][:, 0], values.masked_fill(hidden, 0.0)[present])
    reconstruction = prediction.auxiliary["reconstruction"]
    assert not bool(reconstruction[~present].any())
    assert bool(reconstruction[present].flatten(1).any(1).all())


def test_a_sequence_is_reconstructed_from_itself_alone() -> None:
    model = pretraining().eval()
    values = images(1, 2)
    other = values.clone()
    other[:, 1] = 0
    with torch.no_grad():
        both = model.reconstruct(values, everything(1))
        alone = model.reconstruct(other, torch.tensor([[True, False]]))
    torch.testing.assert_close(both[:, 0], alone[:, 0], rtol=1e-3, atol=1e-3)


def test_units_must_fit() -> None:
    pretraining(mask_unit=8).check_size((32, 32, 48))
    with pytest.raises(ParameterError, match="multiples of 5; found 32x32x32"):
        pretraining(mask_unit=5).check_size((32, 32, 32))


# -- what is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked_only", [False, True])
def test_loss_is_the_mean_square_over_all_voxels_or_the_hidden_ones(masked_only: bool) -> None:
    model = pretraining(("t1", "t2"), masked_only=masked_only)
    values, present = images(), torch.tensor([[True, True], [True, False]])
    values = values * present[:, :, None, None, None]
    torch.manual_seed(0)
    hidden = model.draw_hidden(values.shape, values.device)
    reconstruction = values + torch.where(hidden, 2.0, 1.0)
    reconstruction[1, 1] = 100.0  # an absent sequence asks for nothing
    found = model.loss(Prediction(auxiliary={"reconstruction": reconstruction, "hidden": hidden}), batch(values, present), 0.0)
    share = float(hidden[present].float().mean())
    assert float(found["reconstruction"]) == pytest.approx(4 if masked_only else 4 * share + (1 - share), rel=1e-5)


def test_augmentation_reversal_asks_for_the_image_after_space_and_before_intensity() -> None:
    """The sampler's augmentation and the loss together: what is shown was changed in both, what is wanted in space alone."""
    always = AugmentationSettings(flip=(1.0, 0.0, 0.0), affine=1.0, gamma=1.0, noise=1.0, bias=1.0)
    given = batch(images(), everything())
    drawn = draw(0, 0, given, always)
    shown = apply(given, drawn)
    nothing: dict[str, Any] = {"gamma": {}, "noise": {}, "bias": {}}
    spatial = apply(given, {"samples": [sample | nothing for sample in drawn["samples"]]}).images
    assert shown.target is not None
    assert torch.equal(shown.target, spatial)
    assert not torch.equal(shown.images, spatial)
    assert not torch.equal(spatial, given.images)

    def asked(reversal: bool, given: Batch, answer: Tensor) -> float:
        model = pretraining(GIVEN[:2], reversal=reversal)
        return float(model.loss(Prediction(auxiliary={"reconstruction": answer}), given, 0.0)["reconstruction"])

    assert asked(True, shown, spatial) == 0
    assert asked(False, shown, shown.images) == 0
    assert asked(True, shown, shown.images) > 0.001
    assert asked(False, shown, spatial) > 0.001
    assert asked(True, given, given.images) == 0, "without augmentation there is nothing to reverse"


def test_what_modality_dropout_took_away_is_neither_shown_nor_asked_for() -> None:
    model = pretraining(GIVEN[:2]).train()
    whole, present = images(), torch.tensor([[True, True], [True, False]])
    given = batch(whole * present[:, :, None, None, None], present, target=whole)
    answer = whole.clone()
    answer[1, 1] = -50.0
    assert float(model.loss(Prediction(auxiliary={"reconstruction": answer}), given, 0.0)["reconstruction"]) == 0


def test_the_loss_finds_sequences_by_name() -> None:
    model = pretraining(("t1", "t2"))
    values, present = images(), torch.tensor([[True, False], [True, True]])
    turned = Batch(("t2", "t1"), values.flip(1), present.flip(1), None, ("", ""), {})
    answer = torch.where(present[:, :, None, None, None], values, -9.0)
    assert float(model.loss(Prediction(auxiliary={"reconstruction": answer}), turned, 0.0)["reconstruction"]) == 0


def test_a_perfect_answer_examines_to_zero_and_hides_its_share() -> None:
    model = pretraining(("t1", "t2")).eval()
    values, present = images(), torch.tensor([[True, True], [True, False]])
    values = values * present[:, :, None, None, None]
    model.reconstruct = lambda images, present: values  # type: ignore[method-assign]
    found = model.examine(values, present, seed=0)
    assert found.metrics["reconstruction_l1"].tolist() == [0, 0]
    assert found.metrics["hidden_l1"].tolist() == [0, 0]
    assert found.metrics["zero_l1"].tolist() == pytest.approx([3, 3], abs=0.1)
    assert found.voxels.tolist() == [24**3] * 2
    lost = (found.pictures["shown"] == 0) & (values != 0)
    assert float(lost[0, 0].sum() / (values[0, 0] != 0).sum()) == pytest.approx(0.6, abs=0.06)


def test_it_learns_from_images_alone() -> None:
    model = pretraining()
    assert model.stages()[0].tasks == (PRETRAINING,)
    assert model.markers == ()


# -- transfer ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stem", "factor"), [("mean", 0.25), ("copied", 1.0)])
def test_the_one_filter_serves_every_sequence(tmp_path: Path, stem: str, factor: float) -> None:
    source, path = saved(tmp_path)
    model, fresh = tuning(stem=stem), tuning()
    coverage = model.load_pretrained(path)
    for name, value in source.encoder_state().items():
        own = model.state_dict()[name]
        assert torch.equal(own, value.expand_as(own) * factor if name == FIRST else value), name
    assert all(torch.equal(a, b) for a, b in zip(model.decoder.parameters(), fresh.decoder.parameters(), strict=True))
    assert (coverage.adapted, coverage.missing, coverage.unexpected, coverage.skipped) == ((FIRST,), (), (), {})
    assert len(coverage.matched) + 1 == coverage.total == len(source.encoder_state())
    assert coverage.seen.collections == ("brats2021",), "whom it has seen travels with it"
    assert "t1c from its only channel" in str(coverage)


def test_equal_images_give_what_one_image_gave(tmp_path: Path) -> None:
    source, path = saved(tmp_path)
    model = tuning()
    model.load_pretrained(path)
    image = images(1, 1)
    with torch.no_grad():
        for ours, theirs in zip(model.encoder(image.expand(1, 4, -1, -1, -1)), source.encoder(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_published_transfer_leaves_the_first_convolution_random(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    model, fresh = tuning(stem="random"), tuning(stem="random")
    coverage = model.load_pretrained(path)
    assert set(coverage.skipped) == {FIRST}
    assert torch.equal(model.state_dict()[FIRST], fresh.state_dict()[FIRST])
    assert not torch.equal(model.state_dict()["encoder.levels.1.convs.conv_0.conv.weight"],
                           fresh.state_dict()["encoder.levels.1.convs.conv_0.conv.weight"])  # fmt: skip


def test_one_sequence_takes_the_file_as_it_is(tmp_path: Path) -> None:
    source, path = saved(tmp_path)
    model = tuning(("dwi",))
    coverage = model.load_pretrained(path)
    assert coverage.adapted == ()
    assert torch.equal(model.state_dict()[FIRST], source.state_dict()[FIRST])


def test_what_does_not_fit_is_refused_with_what_to_set(tmp_path: Path) -> None:
    source, path = saved(tmp_path, width=8)
    model = tuning()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=r"width 8, this model has 4 \(set width to 8\)"):
        model.load_pretrained(path)
    state, description = load_file(path), dict(source.encoder_description())
    less = {name: value for name, value in state.items() if "levels.4" not in name}
    save_encoder(tmp_path / "less", less, description, Seen())
    with pytest.raises(InputError, match="6 are not in it and 0 have another shape"):
        tuning(width=8).load_pretrained(tmp_path / "less.safetensors")
    save_encoder(tmp_path / "two", state | {FIRST: state[FIRST].repeat(1, 2, 1, 1, 1)}, description, Seen())
    with pytest.raises(InputError, match="2 channels, expected 1"):
        tuning(width=8).load_pretrained(tmp_path / "two.safetensors")
    save_encoder(tmp_path / "swin", state, description | {"architecture": "swin"}, Seen())
    with pytest.raises(InputError, match="architecture 'swin', expected 'amaes_unet'"):
        model.load_pretrained(tmp_path / "swin.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "all or nothing"


@pytest.mark.slow
def test_it_learns_to_fill_in_two_volumes() -> None:
    ramp = torch.linspace(0, 2, 32)
    values = torch.stack([ramp.view(1, 32, 1, 1).expand(1, 32, 32, 32), 2 - ramp.view(1, 1, 32, 1).expand(1, 32, 32, 32)])
    model = pretraining(("t1",)).train()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    given = batch(values, everything(2, 1))
    for step in range(40):
        torch.manual_seed(step)
        terms = model.loss(model(values, given.present, ("t1",)), given, 0.0)
        optimiser.zero_grad()
        terms["reconstruction"].backward()
        optimiser.step()
    found = model.eval().examine(values, given.present, seed=0)
    assert bool((found.metrics["hidden_l1"] < 0.3 * found.metrics["zero_l1"]).all()), found.metrics
