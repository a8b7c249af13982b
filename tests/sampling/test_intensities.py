"""nnU-Net's changes of intensity: how often, how strongly, where, and that they can be made again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from workbench.sampling.augmentation_settings import AugmentationSettings, augmentation_settings
from workbench.sampling.intensities import OPERATIONS, change_intensities, draw_intensities

NAMES = ("t1", "t1c", "t2", "flair")


def only(operation: str, chance: float = 1.0) -> AugmentationSettings:
    return AugmentationSettings(**{operation: chance})


def images() -> torch.Tensor:
    """(1, 4, 12, 14, 10): a block of standard normal voxels shifted by 1, zeros around it."""
    volume = torch.zeros(1, 4, 12, 14, 10)
    volume[:, :, 2:-2, 2:-2, 2:-2] = torch.randn(1, 4, 8, 10, 6, generator=torch.Generator().manual_seed(1)) + 1
    return volume


def one(operation: str, value: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(before, after, inside) of t2, the one channel that is changed."""
    before = images()
    after = change_intensities(before, NAMES, [{operation: {"t2": value}, "flip": [0]}])
    assert torch.equal(after[:, [0, 1, 3]], before[:, [0, 1, 3]])
    assert torch.equal(before, images()), "the batch itself stays as it is"
    inside = before[0, 2].numpy() != 0
    assert np.array_equal(after[0, 2].numpy() != 0, inside), "outside the brain stays 0"
    return before[0, 2].numpy(), after[0, 2].numpy(), inside


def test_each_happens_as_often_as_it_should() -> None:
    settings, n = augmentation_settings("nnunet"), 1500
    drawn = [draw_intensities(seed, NAMES, settings) for seed in range(n)]
    json.dumps(drawn)
    for operation in OPERATIONS:
        some = operation in ("blur", "low_resolution")
        share = np.mean([len(sample.get(operation, {})) / 4 for sample in drawn])
        chance = getattr(settings, operation) * (0.5 if some else 1.0)
        assert share == pytest.approx(chance, abs=4 * np.sqrt(chance / n)), operation
        if not some:
            assert {len(sample[operation]) for sample in drawn if operation in sample} == {4}, "all of a sample or none"
    assert draw_intensities(7, NAMES, settings) == drawn[7], "a function of the seed"
    assert draw_intensities(7, NAMES, AugmentationSettings()) == {}


@pytest.mark.parametrize(
    ("operation", "low", "high"),
    [("brightness", 0.75, 1.25), ("contrast", 0.75, 1.25), ("gamma_inverted", 0.7, 1.5), ("gamma_plain", 0.7, 1.5)],
)
def test_factors_lie_as_often_below_one_as_above(operation: str, low: float, high: float) -> None:
    found = np.array([v for seed in range(300) for v in draw_intensities(seed, NAMES, only(operation))[operation].values()])
    assert low <= found.min() < low + 0.02
    assert high - 0.02 < found.max() <= high
    assert (found < 1).mean() == pytest.approx(0.5, abs=0.06)


def test_noise_is_one_draw_for_all_sequences_of_a_sample() -> None:
    drawn = draw_intensities(3, NAMES, only("gaussian"))["gaussian"]
    assert len({tuple(value) for value in drawn.values()}) == 1
    before = images()
    noise = (change_intensities(before, NAMES, [{"gaussian": drawn}]) - before)[0]
    inside = before[0, 0] != 0
    torch.testing.assert_close(noise[0][inside], noise[3][inside], atol=1e-5, rtol=0)
    before_, after, there = one("gaussian", [0.1, 5])
    assert np.std((after - before_)[there]) == pytest.approx(0.1, rel=0.1)


def test_blur_spreads_a_voxel_by_its_deviations() -> None:
    flat, lit = torch.ones(1, 1, 11, 11, 11), torch.ones(1, 1, 11, 11, 11)
    lit[0, 0, 5, 5, 5] = 2
    blurred = [change_intensities(part, ["t2"], [{"blur": {"t2": [0.5, 1.0, 0.8]}}])[0, 0].double() for part in (lit, flat)]
    spread = blurred[0] - blurred[1]
    assert float(spread.sum()) == pytest.approx(1, abs=0.005)
    places = torch.arange(-5, 6, dtype=torch.float64)
    for axis, deviation in enumerate((0.5, 1.0, 0.8)):
        along = spread.sum([other for other in range(3) if other != axis])
        assert float((along * places**2).sum()) == pytest.approx(deviation**2, rel=0.03)


def test_brightness_multiplies_and_contrast_stretches_within_the_range() -> None:
    before, after, inside = one("brightness", 1.2)
    np.testing.assert_allclose(after[inside], 1.2 * before[inside], rtol=1e-5)
    before, after, inside = one("contrast", 1.25)
    x = before[inside]
    np.testing.assert_allclose(after[inside], np.clip((x - x.mean()) * 1.25 + x.mean(), x.min(), x.max()), rtol=1e-4, atol=1e-5)


def test_low_resolution_keeps_every_second_voxel() -> None:
    before, after, inside = one("low_resolution", 0.5)
    coarse = torch.from_numpy(before[1::2, 1::2, 1::2].copy())  # nearest to the middle of each pair
    expected = torch.nn.functional.interpolate(coarse[None, None], size=before.shape, mode="trilinear")[0, 0].numpy()
    np.testing.assert_allclose(after[inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize(("operation", "sign"), [("gamma_plain", 1), ("gamma_inverted", -1)])
def test_gamma_keeps_mean_and_deviation(operation: str, sign: int) -> None:
    before, after, inside = one(operation, 1.4)
    x = sign * before[inside].astype(np.float64)
    y = ((x - x.min()) / np.ptp(x)) ** 1.4 * np.ptp(x) + x.min()
    y = (y - y.mean()) / y.std() * x.std() + x.mean()
    np.testing.assert_allclose(after[inside], sign * y, rtol=1e-3, atol=1e-3)
    assert np.argmax(after) == np.argmax(np.where(inside, before, -9)), "order is kept"


def test_nothing_drawn_or_nothing_there_changes_nothing() -> None:
    before = images()
    assert change_intensities(before, NAMES, [{"gamma": {"t1": 2.0}}]) is before
    empty = torch.zeros_like(before)
    every = {operation: {"t1": value} for operation, value in
             (("gaussian", [0.1, 1]), ("blur", [1, 1, 1]), ("contrast", 1.2), ("gamma_plain", 1.4))}  # fmt: skip
    assert not change_intensities(empty, NAMES, [every]).any()
