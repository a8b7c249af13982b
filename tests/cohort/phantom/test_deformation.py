from __future__ import annotations

import numpy as np
import pytest

from workbench.cohort.phantom.anatomy import PLACES, Box, field_of_view, template
from workbench.cohort.phantom.deformation import Deformation, choose_seed, deform, push_aside
from workbench.cohort.phantom.options import PhantomOptions
from workbench.seeding import stream

OPTIONS = PhantomOptions()


def test_no_fold_in_the_strongest_deformations() -> None:
    for index in range(4):
        rng = stream(1, "fold", index)
        person = deform(rng, 8.0, 4.0 * (-1) ** index, flip=bool(index % 2))
        assert person.jacobian().min() > 0
        pushed = push_aside(person, np.array([30.0, 10.0, 30.0]), 39.0, 0.45 * 39)
        assert pushed.jacobian().min() > 0
        assert not np.array_equal(pushed.displacement, person.displacement)


def test_jacobian_of_a_known_map() -> None:
    coarse = template().coarse
    stretch = np.zeros((3, *coarse.shape), np.float32)
    for axis, (points, factor) in enumerate(zip(coarse.points(), (0.1, -0.2, 0.3), strict=True)):
        stretch[axis] = points * factor
    assert np.allclose(Deformation(stretch, False).jacobian(), 1.1 * 0.8 * 1.3, atol=1e-4)
    folded = Deformation((-2.0 * stretch / 0.1 * np.array([1, 0, 0]).reshape(3, 1, 1, 1)).astype(np.float32), False)
    assert folded.jacobian().max() < 0


def test_jacobian_agrees_with_the_map_that_is_used() -> None:
    person = deform(stream(2, "person"), 4.0, 2.0, flip=False)
    box = Box((30, 30, 30), 1.0, (-20.0, -30.0, 0.0))
    index = person.template_index(box).astype(float)
    rows = np.stack([np.stack(np.gradient(part)) for part in index])
    direct = np.linalg.det(np.moveaxis(rows, (0, 1), (-2, -1)))
    assert direct.min() > 0
    assert np.abs(direct - box.resample(person.jacobian(), template().coarse)).max() < 0.35


def test_mirroring_swaps_the_sides() -> None:
    still = np.zeros((3, *template().coarse.shape), np.float32)
    box = field_of_view(4.0)
    plain = Deformation(still, False).tissue(box)[0]
    mirrored = Deformation(still, True).tissue(box)[0]
    assert np.allclose(mirrored, plain[::-1], atol=1e-5)


def test_ventricles_widen() -> None:
    def fluid(shift: float) -> float:
        person = deform(stream(3, "person"), 1.0, shift, flip=False)
        grey, white, brain = person.tissue(field_of_view(4.0), 4.0, parts=3)
        x, y, z = field_of_view(4.0).points()
        return float(((brain - grey - white) * ((abs(x) < 40) & (abs(y) < 50) & (z > -5) & (z < 35))).sum()) * 0.064

    assert fluid(3.0) > fluid(0.0) * 1.15 > fluid(-2.0) * 1.15


def test_mass_effect_moves_tissue_away_and_spares_the_skull() -> None:
    still = Deformation(np.zeros((3, *template().coarse.shape), np.float32), False)
    centre = np.array([34.0, -14.0, 26.0])
    pushed = push_aside(still, centre, 24.0, 5.0).displacement
    offset = np.stack(
        [np.broadcast_to(p - c, template().coarse.shape) for p, c in zip(template().coarse.points(), centre, strict=True)]
    )
    distance = np.sqrt((offset**2).sum(0))
    inward = -(pushed * offset).sum(0) / np.maximum(distance, 1e-6)  # backward map: what is seen comes from nearer the centre
    ring = (abs(distance - 24) < 4) & (template().depth > 20)
    assert inward[ring].mean() == pytest.approx(5.0, abs=0.8)
    assert np.abs(pushed[:, template().depth == 0]).max() < 1.5


@pytest.mark.parametrize("place", PLACES)
def test_seeds_lie_in_their_place(place: tuple[str, bool]) -> None:
    lobe, cortical = place
    person = deform(stream(4, lobe), 3.0, 0.0, flip=True)
    point = choose_seed(stream(5, lobe), person, lobe, cortical, left=True)
    assert point[0] < 0
    box = Box((1, 1, 1), 1.0, (float(point[0]), float(point[1]), float(point[2])))
    assert person.tissue(box)[2][0, 0, 0] > 0.5
    index = person.template_index(box)[:, 0, 0, 0] - [98, 134, 72]
    expected = {"frontal": index[1] > -35, "occipital": index[1] < -60, "temporal": index[2] < 10, "insular": abs(index[0]) > 24}
    assert expected.get(lobe, True)


def test_the_head_fits_at_any_spacing() -> None:
    shapes = [field_of_view(spacing).shape for spacing in (1.0, 2.0, 3.0, 4.0)]
    assert shapes == [(168, 192, 168), (84, 96, 84), (56, 64, 56), (42, 48, 42)]
    box = field_of_view(4.0)
    for index in range(2):
        brain = deform(stream(6, index), OPTIONS.deformation, 2.0, flip=False).tissue(box, 4.0, parts=3)[2] > 0.5
        edges = [brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[:, :, -1]]
        assert sum(int(edge.sum()) for edge in edges) < 0.002 * brain.sum()
