from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from workbench.geometry import Grid
from workbench.prepare.resampling import crop, overlap, prepared_grid, resample, resample_inside, resample_labels

ORIENTATIONS = [
    tuple(axes[i] if up else "LPI"["RAS".index(axes[i])] for i, up in enumerate(signs))
    for axes in permutations("RAS")
    for signs in product((True, False), repeat=3)
]


def reoriented(array: np.ndarray, grid: Grid, codes: tuple[str, ...]) -> tuple[np.ndarray, Grid]:
    """The same image stored along other axes; nibabel is the oracle."""
    image = nib.Nifti1Image(array, grid.affine)
    transform = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes))
    turned = image.as_reoriented(transform)
    return np.asarray(turned.dataobj), Grid.of(turned)


def ras(shape: tuple[int, int, int], spacing: tuple[float, float, float], origin=(-11.0, 7.0, 3.0)) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@settings(max_examples=60, deadline=None)
@given(
    codes=st.sampled_from(ORIENTATIONS),
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    spacing=st.sampled_from([0.5, 1.0, 3.0]),
    margin=st.sampled_from([0.0, 1.0, 50.0]),
    seed=st.integers(0, 1000),
)
def test_no_interpolation_and_the_exact_way_back_in_every_orientation(codes, shape, spacing, margin, seed):
    rng = np.random.default_rng(seed)
    stored, native = reoriented(rng.normal(size=shape).astype(np.float32), ras(shape, (spacing,) * 3), codes)
    brain = rng.random(native.shape) < 0.3
    brain[tuple(n // 2 for n in native.shape)] = True
    grid = prepared_grid(native, brain, spacing, margin)
    assert grid.orientation == "RAS"
    prepared = resample(stored, native, grid)
    inside = resample(brain, native, grid)
    assert inside.dtype == bool
    assert inside.sum() == brain.sum()
    back = resample(prepared, grid, native, fill=-7.0)
    box = resample(np.ones(grid.shape, bool), grid, native)
    assert box[brain].all()
    np.testing.assert_array_equal(back, np.where(box, stored, np.float32(-7)))
    if not margin:
        for axis in range(3):
            assert np.take(inside, 0, axis).any()
            assert np.take(inside, -1, axis).any()


@pytest.mark.parametrize("codes", [("R", "A", "S"), ("L", "P", "S"), ("I", "R", "A"), ("P", "L", "I")])
def test_interpolation_reproduces_a_linear_image_in_world_space(codes):
    """Linear interpolation of a linear function is that function: any swapped axis, flip or half-voxel shift shows."""
    base = ras((12, 15, 9), (2.0, 1.5, 3.0))
    shaped, native = reoriented(np.zeros(base.shape, np.float32), base, codes)

    def ramp(grid: Grid) -> np.ndarray:
        index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)], axis=-1)
        world = index @ grid.affine.T
        return (world @ [1.0, -2.0, 0.5, 10.0]).astype(np.float32)

    grid = prepared_grid(native, np.ones(shaped.shape, bool), 1.0)
    assert grid.shape == (24, 23, 27)
    assert grid.spacing == pytest.approx((1, 1, 1))
    found = resample(ramp(native), native, grid)
    np.testing.assert_allclose(found[2:-2, 2:-2, 2:-2], ramp(grid)[2:-2, 2:-2, 2:-2], atol=1e-3)
    back = resample(ramp(grid), grid, native)
    np.testing.assert_allclose(back, ramp(native), atol=2.0)  # the rim continues constantly
    np.testing.assert_allclose(back[1:-1, 1:-1, 1:-1], ramp(native)[1:-1, 1:-1, 1:-1], atol=1e-3)


def test_the_separable_path_equals_scipy():
    rng = np.random.default_rng(0)
    source, array = ras((11, 9, 13), (2.0, 1.0, 3.0)), rng.normal(size=(11, 9, 13)).astype(np.float32)
    target = ras((17, 12, 20), (1.1, 0.7, 1.3), origin=(-10.0, 7.4, 4.0))
    matrix = np.linalg.inv(source.affine) @ target.affine
    expected = ndimage.affine_transform(array, matrix[:3, :3], matrix[:3, 3], target.shape, order=1, mode="nearest")
    np.testing.assert_allclose(resample(array, source, target), expected, atol=1e-5)


def test_coarser_voxels_get_the_mean_of_what_they_span():
    array = np.random.default_rng(1).normal(size=(8, 12, 10)).astype(np.float32)
    source = ras(array.shape, (1.0, 1.0, 1.0))
    target = prepared_grid(source, np.ones(array.shape, bool), 2.0)
    expected = array.reshape(4, 2, 6, 2, 5, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(resample(array, source, target, antialias=True), expected, atol=1e-6)
    third = prepared_grid(source, np.ones(array.shape, bool), 3.0)
    assert third.shape == (3, 4, 4)
    mean = resample(array, source, third, antialias=True)
    np.testing.assert_allclose(mean[1, 1, 1], _box(array, third, (1, 1, 1)), atol=1e-5)


def _box(array: np.ndarray, grid: Grid, voxel: tuple[int, int, int]) -> float:
    """Mean over a target voxel by brute force: 12 points per source voxel along each axis."""
    low = (grid.affine @ [*voxel, 1])[:3] - np.array([-11.0, 7.0, 3.0]) - 1.5
    fine = [np.floor(low[a] + (np.arange(36) + 0.5) / 12 + 0.5).astype(int) for a in range(3)]
    return float(array[np.ix_(*fine)].mean())


def test_outside_the_field_of_view_is_the_fill_value():
    array = np.ones((4, 5, 6), np.float32)
    source = ras(array.shape, (2.0, 2.0, 2.0), origin=(0, 0, 0))
    target = ras((12, 12, 14), (1.0, 1.0, 1.0), origin=(-1.5, -1.5, -1.5))
    found = resample(array, source, target, fill=-3)
    # the source spans -1 to 7 mm along X: centres -0.5 to 6.5
    assert set(np.unique(found)) == {-3.0, 1.0}
    np.testing.assert_array_equal(np.flatnonzero(found[:, 4, 4] == 1), np.arange(1, 9))


def test_grids_at_an_angle_agree_with_the_world():
    """A blob at a known place in the world is found there whatever the source's axes."""
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    source = Grid((40, 40, 20), turn @ np.diag([1.0, 1.2, 2.0, 1.0]))
    place = source.affine @ [15, 22, 8, 1]
    index = np.stack([*np.indices(source.shape), np.ones(source.shape)], axis=-1) @ source.affine.T
    blob = np.exp(-((index - place) ** 2)[..., :3].sum(-1) / (2 * 3.0**2)).astype(np.float32)
    target = ras((40, 50, 40), (1.0, 1.0, 1.0), origin=tuple(np.round(place[:3] - 20)))
    found = ndimage.center_of_mass(resample(blob, source, target, antialias=True))
    np.testing.assert_allclose((target.affine @ [*found, 1])[:3], place[:3], atol=0.1)


def test_labels_between_two_labels_are_not_invented():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:6, 2:10, 2:10] = 1
    labels[6:10, 2:10, 2:10] = 3  # interpolated values would make a 2 between them
    source = ras(labels.shape, (1.0, 1.0, 1.0))
    for spacing in (0.7, 1.6, 2.0):
        grid = prepared_grid(source, labels > 0, spacing)
        found = resample_labels(labels, source, grid)
        assert set(np.unique(found)) <= {0, 1, 3}
        assert found.dtype == np.uint8
        for value in (1, 3):
            assert (found == value).sum() * spacing**3 == pytest.approx((labels == value).sum(), rel=0.25)


def test_air_does_not_bleed_into_the_rim():
    """Brain 100 in air of -1000: mixing only inside the mask leaves exactly 100 everywhere."""
    brain = np.zeros((16, 18, 14), bool)
    brain[4:12, 3:15, 2:11] = True
    image = np.where(brain, 100, -1000).astype(np.float32)
    source = ras(brain.shape, (1.0, 1.0, 1.0))
    grid = prepared_grid(source, brain, 1.7)
    share = resample(brain.astype(np.float32), source, grid, antialias=True)
    found = resample_inside(image, brain, share, source, grid)
    np.testing.assert_allclose(found[share > 0.5], 100, atol=1e-3)


def test_spacings_equal_to_a_thousandth_count_as_equal():
    native = ras((5, 6, 7), (1.0004, 0.9996, 1.0))
    grid = prepared_grid(native, np.ones(native.shape, bool), 1.0)
    assert grid.matches(native)


@given(low=st.tuples(*[st.integers(-9, 9)] * 3), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_crop_is_slicing_of_a_padded_array(low, shape):
    array = np.arange(60).reshape(3, 4, 5)
    padded = np.pad(array, 20, constant_values=-1)
    expected = padded[tuple(slice(20 + start, 20 + start + n) for start, n in zip(low, shape, strict=True))]
    np.testing.assert_array_equal(crop(array, low, shape, -1), expected)
    inside, place = overlap(low, shape, array.shape)
    assert array[inside].shape == np.empty(shape)[place].shape
