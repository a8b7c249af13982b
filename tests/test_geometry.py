"""Grids and their orientation: nothing is resampled, and every way there has its way back."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from workbench.geometry import Grid, canonical_grid, from_canonical_array, to_canonical_array

ORIENTATIONS = [
    "".join(axes) for order in itertools.permutations(("RL", "AP", "SI")) for axes in itertools.product(*order)
]  # all 48: any order of the axes, each in either direction
SHAPE, SPACING = (3, 4, 5), (1.0, 2.0, 3.5)


def grid_of(codes: str) -> Grid:
    """A grid whose axes point as `codes` say, with unequal sides and an offset."""
    to_ras = nib.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, direction) in enumerate(to_ras):
        affine[int(world), axis] = direction * SPACING[axis]
    affine[:3, 3] = (10.0, -20.0, 30.0)
    return Grid(SHAPE, affine)


def test_what_a_grid_says_of_itself() -> None:
    grid = grid_of("LPS")
    assert grid.spacing == SPACING
    assert grid.orientation == "LPS"
    assert grid.diagonal == pytest.approx(np.sqrt(3**2 + 8**2 + 17.5**2))
    assert grid.voxel_volume == pytest.approx(7.0)
    again = Grid.from_dict(grid.as_dict())
    assert again.shape == grid.shape
    assert np.array_equal(again.affine, grid.affine)
    image = nib.Nifti1Image(np.zeros((*SHAPE, 2), np.uint8), grid.affine)
    assert Grid.of(image).matches(grid), "of a 4-D image the grid in space"


def test_grids_match_within_a_tolerance_and_with_the_same_shape() -> None:
    grid = grid_of("RAS")
    moved = grid.affine.copy()
    moved[0, 3] += 0.01
    assert not grid.matches(Grid(SHAPE, moved))
    assert grid.matches(Grid(SHAPE, moved), tolerance=0.02)
    assert not grid.matches(Grid((3, 4, 6), grid.affine))


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_becomes_ras_and_comes_back(codes: str) -> None:
    grid = grid_of(codes)
    array = np.arange(2 * 60).reshape(2, *SHAPE)  # two channels before space
    canonical, moved = canonical_grid(grid), to_canonical_array(array, grid.affine)
    assert canonical.orientation == "RAS"
    assert canonical.shape == moved.shape[1:]
    assert np.array_equal(from_canonical_array(moved, grid.affine), array)
    # a voxel keeps its value and its place in the world
    index = np.array([2, 1, 3])
    there = np.rint(np.linalg.inv(canonical.affine) @ grid.affine @ [*index, 1]).astype(int)[:3]
    assert moved[1, *there] == array[1, *index]


def test_an_oblique_grid_is_turned_by_right_angles_only() -> None:
    angle = np.deg2rad(20)
    turned = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = grid_of("LPS").affine.copy()
    affine[:3, :3] = turned @ affine[:3, :3]
    found = canonical_grid(Grid(SHAPE, affine))
    assert found.orientation == "RAS"
    assert np.allclose(np.abs(found.affine[:3, :3]), np.abs(affine[:3, :3])), "neither rotated nor resampled"
