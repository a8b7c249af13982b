"""AMAES's pretraining: what is hidden, what is wanted back, what is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from amaes_cases import GIVEN, images, pretraining
from torch import Tensor

from workbench.contracts import PRETRAINING, Batch, Prediction
from workbench.errors import ParameterError
from workbench.models.amaes.facts import AmaesPretrainOptions
from workbench.sampling.augmentation import AugmentationSettings, apply, draw
from workbench.setup.parameters import ExperimentParameters


def batch(values: Tensor, present: Tensor, target: Tensor | None = None, names: tuple[str, ...] = GIVEN) -> Batch:
    return Batch(names[: values.shape[1]], values, present, None, ("",) * len(values), {}, target=target)


def everything(count: int = 2, modalities: int = 2) -> Tensor:
    return torch.ones(count, modalities, dtype=torch.bool)


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


@pytest.mark.parametrize(("masked_only", "masked_mean"), [(False, "all"), (True, "all"), (True, "hidden")])
def test_loss_is_the_mean_square_over_all_voxels_or_of_the_hidden_ones(masked_only: bool, masked_mean: str) -> None:
    """As published, the hidden ones' squares are divided by the number of all voxels."""
    model = pretraining(("t1", "t2"), masked_only=masked_only, masked_mean=masked_mean)
    values, present = images(), torch.tensor([[True, True], [True, False]])
    values = values * present[:, :, None, None, None]
    torch.manual_seed(0)
    hidden = model.draw_hidden(values.shape, values.device)
    reconstruction = values + torch.where(hidden, 2.0, 1.0)
    reconstruction[1, 1] = 100.0  # an absent sequence asks for nothing
    found = model.loss(Prediction(auxiliary={"reconstruction": reconstruction, "hidden": hidden}), batch(values, present), 0.0)
    share = float(hidden[present].float().mean())
    masked = 4 if masked_mean == "hidden" else 4 * share
    assert float(found["reconstruction"]) == pytest.approx(masked if masked_only else 4 * share + (1 - share), rel=1e-5)


def test_what_an_earlier_run_divided_by_is_kept() -> None:
    earlier = AmaesPretrainOptions(**AmaesPretrainOptions.unsaid(), masked_only=True)
    assert earlier.masked_mean == "hidden"
    assert "masked_mean" not in earlier.without_later(earlier.model_dump())
    fresh = AmaesPretrainOptions(masked_only=True)
    assert fresh.without_later(fresh.model_dump())["masked_mean"] == "all"
    assert "masked_mean" not in AmaesPretrainOptions().without_later(AmaesPretrainOptions().model_dump())


def test_hidden_units_are_all_but_the_floor_of_those_shown() -> None:
    """512 units, 40 % shown: 204, not 205 (public code)."""
    hidden = pretraining(("t1",)).draw_hidden((1, 1, 32, 32, 32), torch.device("cpu"))
    assert int(hidden.sum()) == 308 * 4**3


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
