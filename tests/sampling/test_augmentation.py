from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from workbench.contracts import Batch
from workbench.sampling.augmentation import AugmentationSettings, apply, bias_field, draw, sampling_grid
from workbench.sampling.augmentation_settings import augmentation_settings

SHAPE = (18, 22, 14)
NAMES = ("t1", "t1c", "flair")
NOTHING = {"flip": (0.0, 0.0, 0.0), "affine": 0.0, "gamma": 0.0, "noise": 0.0, "bias": 0.0}
EVERYTHING = AugmentationSettings(flip=(0.5, 0.5, 0.5), affine=1.0, gamma=1.0, noise=1.0, bias=1.0)


def only(**on) -> AugmentationSettings:
    return AugmentationSettings(**{**NOTHING, **on})


def make_batch(samples: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    """Off-centre ellipsoid brains of standard normal voxels; sample 1 lacks t1c."""
    generator = torch.Generator().manual_seed(seed)
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    brain = torch.from_numpy(((axes[0] - 8) / 6.5) ** 2 + ((axes[1] - 11) / 8) ** 2 + ((axes[2] - 7) / 5) ** 2 <= 1)
    images = torch.randn((samples, 3, *SHAPE), generator=generator).to(dtype) * brain
    present = torch.ones((samples, 3), dtype=torch.bool)
    present[1:2, 1] = False
    images[~present] = 0
    labels = torch.zeros((samples, *SHAPE), dtype=torch.long)
    labels[:, 5:9, 6:12, 5:8] = 2
    labels[:, 6:8, 8:10, 6:7] = 3
    return Batch(NAMES, images, present, labels, ("glioma",) * samples, {}, record={"step": 4})


def inside(batch: Batch) -> torch.Tensor:
    return batch.images != 0


def test_nothing_drawn_changes_nothing():
    batch = make_batch()
    result = apply(batch, draw(0, 0, batch, only()))
    assert torch.equal(result.images, batch.images)
    assert torch.equal(result.labels, batch.labels)
    assert torch.equal(result.target, batch.images)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flip_mirrors_images_labels_and_target_of_the_drawn_samples(axis):
    batch = make_batch(8)
    chance = [0.0, 0.0, 0.0]
    chance[axis] = 0.5
    drawn = draw(1, 0, batch, only(flip=tuple(chance)))
    result = apply(batch, drawn)
    flipped = [sample["flip"] == [axis] for sample in drawn["samples"]]
    assert 0 < sum(flipped) < 8
    for index, turned in enumerate(flipped):
        image, labels = batch.images[index], batch.labels[index]
        if turned:
            image, labels = image.flip(axis + 1), labels.flip(axis)
        assert torch.equal(result.images[index], image)
        assert torch.equal(result.target[index], image)
        assert torch.equal(result.labels[index], labels)


def test_affine_equals_scipy_and_moves_labels_alike():
    batch = make_batch(3, dtype=torch.float64)
    drawn = draw(5, 2, batch, only(affine=1.0))
    result = apply(batch, drawn)
    for index, sample in enumerate(drawn["samples"]):
        matrix = np.array(sample["affine"])
        middle = (np.array(SHAPE) - 1) / 2
        options = {"offset": middle - matrix @ middle, "mode": "constant"}
        brain = ndimage.affine_transform((batch.images[index] != 0).any(0).double().numpy(), matrix, order=1, **options) > 0.5
        for channel in range(3):
            image = batch.images[index, channel].numpy()
            expected = ndimage.affine_transform(image, matrix, order=1, **options) * brain
            found = result.images[index, channel].numpy()
            agree = np.isclose(found, expected, atol=1e-9)
            assert agree.mean() > 0.999  # a voxel of exactly one half of brain may fall either way
        expected = ndimage.affine_transform(batch.labels[index].numpy(), matrix, order=0, **options)
        assert (result.labels[index].numpy() == expected).mean() > 0.995
        assert set(np.unique(result.labels[index])) == {0, 2, 3}


def test_rotation_and_scale_stay_within_their_range():
    batch = make_batch(3)
    for step in range(30):
        for sample in draw(0, step, batch, only(affine=1.0, rotation=20.0, scale=0.3))["samples"]:
            matrix = np.array(sample["affine"])
            factor = np.linalg.det(matrix) ** (-1 / 3)
            assert 1 / 1.3 <= factor <= 1.3
            turn = matrix * factor
            np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
            assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) <= 20 * np.sqrt(3) + 1


def test_the_grid_of_no_change_is_the_identity():
    grid = sampling_grid(torch.eye(3, dtype=torch.float64)[None], SHAPE)
    image = torch.rand(1, 1, *SHAPE, dtype=torch.float64)
    again = torch.nn.functional.grid_sample(image, grid, align_corners=True)
    torch.testing.assert_close(again, image, atol=1e-10, rtol=0)


def test_air_and_absent_modalities_stay_exactly_zero():
    batch = make_batch(6, seed=3)
    for step in range(4):
        result = apply(batch, draw(2, step, batch, EVERYTHING))
        moved = result.target != 0
        assert not result.images[~moved].any()
        assert not result.images[1, 1].any()
        assert not result.images[:, :, 0, 0].any()
        assert torch.isfinite(result.images).all()
        assert torch.equal(result.present, batch.present)
        # nothing of the brain is lost either
        assert (result.images[moved] != 0).float().mean() > 0.999


@pytest.mark.parametrize("kind", ["gamma", "noise", "bias"])
def test_intensities_change_inside_the_brain_only_and_the_target_does_not(kind):
    batch = make_batch()
    result = apply(batch, draw(0, 0, batch, only(**{kind: 1.0})))
    assert torch.equal(result.target, batch.images)
    assert torch.equal(inside(result), inside(batch))
    changed = (result.images - batch.images).abs()[inside(batch)]
    assert 0.001 < changed.mean() < 0.5
    assert set(result.record["augmentation"]["samples"][1][kind]) == {"t1", "flair"}


@pytest.mark.parametrize("kind", ["gamma", "bias"])
def test_gamma_and_bias_keep_mean_and_deviation(kind):
    batch = make_batch()
    result = apply(batch, draw(3, 0, batch, only(**{kind: 1.0}, gamma_range=0.7, bias_strength=0.5)))
    for before, after in zip(batch.images.flatten(0, 1), result.images.flatten(0, 1), strict=True):
        if before.any():
            assert after[before != 0].mean() == pytest.approx(before[before != 0].mean().item(), abs=1e-4)
            assert after[before != 0].std() == pytest.approx(before[before != 0].std().item(), rel=1e-4)


def test_gamma_is_the_power_law_on_the_brains_range():
    batch = make_batch(1)
    parameters = {"samples": [{"flip": [], "affine": None, "gamma": {"t1c": 0.6}, "noise": {}, "bias": {}}]}
    result = apply(batch, parameters)
    before = batch.images[0, 1].double().numpy()
    brain = before != 0
    low, high = before[brain].min(), before[brain].max()
    power = ((before[brain] - low) / (high - low)) ** 0.6
    expected = (power - power.mean()) / power.std() * before[brain].std() + before[brain].mean()
    np.testing.assert_allclose(result.images[0, 1].numpy()[brain], expected, atol=1e-4)
    assert torch.equal(result.images[0, [0, 2]], batch.images[0, [0, 2]])


def test_noise_is_rician():
    """Where there is no signal the mean is sigma sqrt(pi / 2) (Rayleigh); where there is much the noise is Gaussian."""
    images = torch.full((1, 1, 40, 40, 40), 20.0)
    images[:, :, :20] = -1.0
    batch = Batch(("t1",), images, torch.ones((1, 1), dtype=torch.bool), None, ("",), {})
    parameters = {"samples": [{"flip": [], "affine": None, "gamma": {}, "noise": {"t1": [0.5, 11]}, "bias": {}}]}
    result = apply(batch, parameters).images[0, 0]
    assert (result[:20] + 1).mean() == pytest.approx(0.5 * np.sqrt(np.pi / 2), rel=0.02)
    assert result[20:].mean() == pytest.approx(20, abs=0.02)
    assert result[20:].std() == pytest.approx(0.5, rel=0.02)


def test_a_bias_field_is_smooth_of_the_strength_asked_and_its_own():
    field = bias_field((30, 40, 20), 0.3, 5)
    assert field.abs().max() == pytest.approx(0.3)
    assert field.diff(dim=0).abs().max() < 0.1
    assert torch.equal(field, bias_field((30, 40, 20), 0.3, 5))
    assert not torch.equal(field, bias_field((30, 40, 20), 0.3, 6))


def test_records_replay_to_the_bit_also_through_json():
    batch = make_batch(4)
    result = apply(batch, draw(9, 17, batch, EVERYTHING))
    assert result.record["step"] == 4
    again = apply(batch, json.loads(json.dumps(result.record)))
    assert torch.equal(again.images, result.images)
    assert torch.equal(again.labels, result.labels)
    assert torch.equal(again.target, result.target)
    assert again.record == result.record


def test_draws_depend_on_seed_and_step_alone():
    batch = make_batch(3)
    assert draw(1, 5, batch, EVERYTHING) == draw(1, 5, make_batch(3, seed=8), EVERYTHING)
    assert draw(1, 5, batch, EVERYTHING) != draw(1, 6, batch, EVERYTHING)
    assert draw(1, 5, batch, EVERYTHING) != draw(2, 5, batch, EVERYTHING)


def test_a_sample_is_changed_alike_in_any_company():
    batch = make_batch(3)
    drawn = draw(1, 5, batch, EVERYTHING)
    together = apply(batch, drawn)
    for index in range(3):
        part = slice(index, index + 1)
        alone = replace(batch, images=batch.images[part], present=batch.present[part], labels=batch.labels[part])
        found = apply(alone, {"samples": drawn["samples"][part]})
        torch.testing.assert_close(found.images[0], together.images[index], atol=1e-5, rtol=0)
        assert torch.equal(found.labels[0], together.labels[index])


def test_dropped_modalities_move_with_the_target():
    full = make_batch(3)
    images = full.images.clone()
    images[:, 2] = 0
    present = full.present.clone()
    present[:, 2] = False
    batch = replace(full, images=images, present=present, target=full.images)
    drawn = draw(1, 5, batch, only(affine=1.0, flip=(1.0, 0.0, 0.0)))
    result, expected = apply(batch, drawn), apply(full, drawn)
    assert torch.equal(result.target, expected.target)
    assert torch.equal(result.images[:, :2], expected.images[:, :2])
    assert not result.images[:, 2].any()


def test_nnunets_set_turns_and_zooms_apart_and_can_be_made_again():
    batch, settings = make_batch(4), augmentation_settings("nnunet")
    drawn = [draw(step, 0, batch, settings)["samples"] for step in range(300)]
    json.dumps(drawn)
    matrices = np.array([sample["affine"] for samples in drawn for sample in samples if sample["affine"] is not None])
    views = np.cbrt(np.linalg.det(matrices))
    turned = np.array([not np.allclose(m / v, np.eye(3)) for m, v in zip(matrices, views, strict=True)])
    zoomed = ~np.isclose(views, 1)
    assert len(matrices) / 1200 == pytest.approx(0.36, abs=0.05)
    assert [turned.sum() / 1200, zoomed.sum() / 1200] == pytest.approx([0.2, 0.2], abs=0.04)
    assert 0.7 <= views.min() < 0.72
    assert 1.38 < views.max() <= 1.4
    flips = np.mean([[axis in sample["flip"] for axis in range(3)] for samples in drawn for sample in samples], axis=0)
    assert flips == pytest.approx([0.5, 0.5, 0.5], abs=0.06)
    step = next(step for step, samples in enumerate(drawn) if any("blur" in sample for sample in samples))
    once, again = (apply(batch, draw(step, 0, batch, settings)) for _ in range(2))
    assert torch.equal(once.images, again.images)
    assert torch.equal(apply(batch, json.loads(json.dumps(once.record))).images, once.images)
    assert not once.images[1, 1].any(), "an absent sequence stays absent"
    assert not once.images[~(once.target != 0)].any()


def test_batches_without_labels_and_wrong_records():
    batch = replace(make_batch(2), labels=None)
    assert apply(batch, draw(0, 0, batch, EVERYTHING)).labels is None
    with pytest.raises(ValueError, match="expected parameters of 2 samples, found 1"):
        apply(batch, {"samples": [{}]})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_it_agrees_with_the_cpu():
    batch = make_batch(3)
    drawn = draw(1, 5, batch, AugmentationSettings(flip=(0.5, 0.5, 0.5), affine=1.0, gamma=1.0, noise=0.0, bias=1.0))
    here, there = apply(batch, drawn), apply(batch.to("cuda"), drawn)
    assert (torch.isclose(here.images, there.images.cpu(), atol=1e-3)).float().mean() > 0.999
    assert (here.labels == there.labels.cpu()).float().mean() > 0.999
    noisy = draw(1, 5, batch, EVERYTHING)
    assert torch.equal(apply(batch.to("cuda"), noisy).images, apply(batch.to("cuda"), noisy).images)
