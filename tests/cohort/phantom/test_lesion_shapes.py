"""Shapes of lesions: as much of a score as a volume asks for, and ellipsoids of the size that was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workbench.cohort.phantom.anatomy import Box
from workbench.cohort.phantom.lesion_shapes import Drawing, threshold_for


def test_the_threshold_takes_the_volume_from_the_lowest_scores() -> None:
    score = np.array([[[3.0, 1.0, 2.0, np.inf, 0.5]]])
    share = np.array([[[1.0, 0.5, 1.0, 1.0, 0.0]]])
    # in order of the score: 0.5 has no share; 1.0 half a voxel, 2.0 and 3.0 a whole one each, of 8 mm^3
    for volume, threshold in ((0.1, 1.0), (4.0, 1.0), (4.1, 2.0), (12.0, 2.0), (12.1, 3.0), (1e6, 3.0)):
        assert threshold_for(score, share, volume, 8.0) == threshold, volume


def test_half_the_voxels_for_half_the_volume() -> None:
    score = np.random.default_rng(0).random((10, 10, 10))
    found = threshold_for(score, np.ones_like(score), 500 * 1.0, 1.0)
    assert (score <= found).sum() == 500
    assert found == pytest.approx(np.median(score), abs=0.01)


def test_an_ellipsoid_has_its_radii_its_axis_and_its_place() -> None:
    atlas: Any = SimpleNamespace(fine=Box((60, 60, 60), 1.0, (-30.0, -20.0, -10.0)))
    drawing = Drawing(atlas, np.random.default_rng(0))
    centre, axis = np.array([2.0, 9.0, 18.0]), np.array([1.0, 2.0, -0.5])
    window, fraction = drawing.ellipsoid(centre, np.array([14.0, 6.0, 4.0]), axis, uneven=0.0)
    assert fraction.sum() == pytest.approx(4 / 3 * np.pi * 14 * 6 * 4, rel=0.03)
    points = np.argwhere(fraction > 0.5) + np.array([cut.start for cut in window]) + np.asarray(atlas.fine.origin)
    assert points.mean(0) == pytest.approx(centre, abs=0.1)
    along = np.linalg.svd(points - centre, full_matrices=False)[2][0]
    assert abs(along @ axis) / np.linalg.norm(axis) > 0.999
    drawing.add("plaque", window, fraction)
    drawing.add("plaque", window, fraction / 2)
    assert drawing.part("plaque").sum() == pytest.approx(fraction.sum(), rel=1e-5), "a union, not a sum"


def test_an_ellipsoid_at_the_edge_is_cut_off() -> None:
    atlas: Any = SimpleNamespace(fine=Box((20, 20, 20), 1.0, (0.0, 0.0, 0.0)))
    _, fraction = Drawing(atlas, np.random.default_rng(0)).ellipsoid(np.zeros(3), np.full(3, 8.0), uneven=0.0)
    assert fraction.sum() == pytest.approx(4 / 3 * np.pi * 8**3 / 8, rel=0.35)
