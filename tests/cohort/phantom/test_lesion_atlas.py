"""Where lesions lie: places in the average head, and arterial territories in MNI millimetres."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.cohort.phantom.lesion_atlas import NODE, TERRITORIES, atlas, territory_of


@pytest.mark.parametrize(
    ("point", "territory"),
    [
        ((6, 40, 30), "aca"),  # medial frontal
        ((6, -20, 65), "aca"),  # paracentral lobule
        ((50, -10, 20), "mca"),  # lateral convexity
        ((35, 5, 0), "mca"),  # insula
        ((8, -85, 5), "pca"),  # calcarine cortex
        ((10, -20, 8), "pca"),  # thalamus
        ((25, -30, -15), "pca"),  # parahippocampal gyrus
    ],
)
def test_points_lie_in_their_territory_on_both_sides(point: tuple[int, int, int], territory: str) -> None:
    points = np.array([point, (-point[0], *point[1:])], dtype=float)
    assert [TERRITORIES[found] for found in territory_of(points)] == [territory] * 2
    below = territory_of(points, below=np.array([True, False]))
    assert [TERRITORIES[found] for found in below] == ["cerebellar", territory]


def test_nodes_are_found_from_points_and_back() -> None:
    made = atlas()
    where = np.zeros(made.nodes.shape, bool)
    where[[3, 40], [50, 60], [7, 20]] = True
    points = made.points_of(where)
    assert np.argwhere(where).tolist() == np.stack(made.nearest(points), 1).tolist()
    assert np.argwhere(where).tolist() == np.stack(made.nearest(points + 0.49 * NODE), 1).tolist()
    far = made.nearest(np.array([[1e4, -1e4, 0.0]]))
    assert (far[0][0], far[1][0]) == (made.nodes.shape[0] - 1, 0), "outside: the nearest there is"


def test_places_are_on_both_sides_and_where_their_name_says() -> None:
    made = atlas()
    for name, points in made.places.items():
        assert len(points) > 20, name
        assert 0.35 < (points[:, 0] < 0).mean() < 0.65, name
    for name in ("cerebellum", "brainstem", "pons"):
        assert made.below[made.nearest(made.places[name])].all(), name
    assert (made.wall[made.nearest(made.places["periventricular"])] < 5).all()
    assert (made.cortex[made.nearest(made.places["junction"])] <= 3).all()
    assert (made.wall[made.nearest(made.places["deep"])] >= 8).all()
