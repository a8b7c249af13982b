"""Texture of regions small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.models.radiomics.texture import (
    DIRECTIONS,
    cooccurrence,
    cooccurrence_features,
    discretise,
    texture,
    zone_features,
    zones,
)

CHECKERBOARD = np.array([[[0], [1]], [[1], [0]]])  # 2 x 2 x 1


def test_thirteen_directions_are_half_of_the_neighbours() -> None:
    assert len(DIRECTIONS) == 13
    assert len({*DIRECTIONS, *((-x, -y, -z) for x, y, z in DIRECTIONS)}) == 26


def test_cooccurrence_of_a_checkerboard_by_hand() -> None:
    """Six pairs: four across an edge differ, the two diagonals are alike."""
    matrix = cooccurrence(CHECKERBOARD, 2)
    np.testing.assert_allclose(matrix, [[1 / 6, 1 / 3], [1 / 3, 1 / 6]])
    found = cooccurrence_features(matrix)
    assert found["contrast"] == pytest.approx(2 / 3)
    assert found["correlation"] == pytest.approx(-1 / 3)
    assert found["angular_second_moment"] == pytest.approx(5 / 18)
    assert found["inverse_difference_moment"] == pytest.approx(1 / 3 + 1 / 3)
    assert found["joint_entropy"] == pytest.approx(np.log2(6) / 3 + 2 * np.log2(3) / 3)
    assert found["cluster_shade"] == pytest.approx(0)
    assert found["cluster_prominence"] == pytest.approx(1 / 3)  # (i + j - 1)^4 is 1 on the diagonal, 0 off it


def test_pairs_across_the_mask_do_not_count() -> None:
    grey = np.full((3, 3, 3), -1)
    grey[0, 0, 0], grey[2, 2, 2] = 0, 1  # no neighbours of each other
    assert not cooccurrence(grey, 2).any()
    assert cooccurrence_features(cooccurrence(grey, 2)) == {}
    grey[0, 0, 1] = 1
    np.testing.assert_allclose(cooccurrence(grey, 2), [[0, 0.5], [0.5, 0]])


def test_texture_does_not_depend_on_how_the_image_lies() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.normal(size=(9, 10, 11)), rng.random((9, 10, 11)) < 0.8
    first = texture(image, mask)
    for turned in (lambda a: a[::-1], lambda a: a.transpose(2, 0, 1), lambda a: np.rot90(a, axes=(0, 2))):
        assert texture(turned(image), turned(mask)) == pytest.approx(first)
    assert texture(3 * image + 5, mask) == pytest.approx(first)  # levels lie between the smallest and the largest value


def test_a_constant_region_has_one_level_and_one_zone() -> None:
    found = texture(np.ones((3, 3, 3)), np.ones((3, 3, 3), bool))
    assert found["glcm_contrast"] == 0
    assert found["glcm_joint_entropy"] == 0
    assert (found["glcm_correlation"], found["glcm_inverse_difference_moment"]) == (1, 1)
    assert found["glszm_zone_percentage"] == pytest.approx(1 / 27)
    assert found["glszm_zone_size_entropy"] == 0


def test_zones_of_a_checkerboard_by_hand() -> None:
    """Equal levels touch at corners, hence two zones of two voxels."""
    levels, sizes = zones(CHECKERBOARD)
    assert (levels.tolist(), sizes.tolist()) == ([0, 1], [2, 2])
    found = zone_features(levels, sizes)
    assert found["small_zone_emphasis"] == pytest.approx(1 / 4)
    assert found["large_zone_emphasis"] == pytest.approx(4)
    assert found["zone_percentage"] == pytest.approx(1 / 2)
    assert found["zone_size_non_uniformity"] == pytest.approx(1)
    assert found["zone_size_entropy"] == pytest.approx(1)


def test_levels_are_equally_wide_and_the_largest_value_belongs_to_the_last() -> None:
    image = np.array([0.0, 0.24, 0.26, 0.5, 0.99, 1.0, 7.0])[:, None, None]
    mask = np.array([1, 1, 1, 1, 1, 1, 0], bool)[:, None, None]
    assert discretise(image, mask, 4).ravel().tolist() == [0, 0, 1, 2, 3, 3, -1]
