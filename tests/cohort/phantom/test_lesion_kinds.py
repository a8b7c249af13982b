"""Other lesions: each where its kind lies."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.lesion_atlas import NODE, TERRITORIES, atlas, territory_of
from workbench.cohort.phantom.lesion_kinds import draw_lesions
from workbench.cohort.phantom.lesion_options import LesionOptions
from workbench.cohort.phantom.lesion_shapes import Lesions
from workbench.seeding import stream

OPTIONS = LesionOptions()


@cache
def lesions(kind: str, number: int = 0, age: float = 65.0) -> Lesions:
    return draw_lesions(stream(number, "lesions"), kind, age, OPTIONS)


def inside(found: Lesions, part: str) -> np.ndarray:
    """(N, 3) points in template mm."""
    return np.argwhere(found.parts[part] > 0.5) + np.asarray(found.box.origin)


def field_at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    return field[atlas().nearest(points)]


def test_ms_lesions_are_in_white_matter_and_stand_on_the_ventricle() -> None:
    only = OPTIONS.model_copy(update={"ms_places": {"periventricular": 1.0}, "ms_lesions": (4.0, 0.1), "ms_width": (6.0, 0.1)})
    upright = []
    for number in range(8):
        found = draw_lesions(stream(number, "upright"), "ms", 40.0, only)
        mask = found.parts["plaque"] > 0.5
        names, count = ndimage.label(mask)
        for name in range(1, count + 1):
            points = np.argwhere(names == name) + np.asarray(found.box.origin)
            if len(points) < 60:
                continue
            assert field_at(atlas().wall, points).min() <= 2 * NODE  # it touches the wall
            long = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
            outward = atlas().outward[:, *atlas().nearest(points.mean(0)[None])][:, 0]
            upright.append(abs(float(long @ outward)))
    assert len(upright) > 12
    assert np.median(upright) > 0.85  # 0.5 at random
    for number in range(3):
        white = field_at(atlas().white, inside(lesions("ms", number), "plaque"))
        assert white.mean() > 0.8


def test_wmh_hug_the_ventricles_on_both_sides_and_grow_with_age() -> None:
    points = inside(lesions("wmh"), "hyperintensity")
    wall, cortex = field_at(atlas().wall, points), field_at(atlas().cortex, points)
    assert np.median(wall) < 8
    assert (cortex < 3).mean() < 0.05
    left = (points[:, 0] < 0).mean()
    assert 0.2 < left < 0.8
    young, old = (
        np.median([draw_lesions(stream(n, "age"), "wmh", age, OPTIONS).facts["drawn_ml"] for n in range(6)]) for age in (55, 85)
    )
    assert old > 3 * young


def test_an_infarct_stays_in_one_territory_of_one_side() -> None:
    seen = set()
    for number in range(12):
        found = lesions("stroke", number)
        points = inside(found, "infarct")
        left = points[:, 0] < 0
        assert left.mean() in (0.0, 1.0) or min(left.mean(), 1 - left.mean()) < 0.03
        assert (left.mean() > 0.5) == found.facts["template_left"]
        if found.facts["infarct"] == "lacunar":
            assert len(points) < 4 / 3 * np.pi * 7.5**3 * 1.6
            continue
        name = found.facts["territory"]
        below = field_at(atlas().below, points)
        inner = territory_of(points, below=below) == TERRITORIES.index(name)
        assert inner.mean() > 0.75  # people's borders differ by some mm
        seen.add(name)
        assert field_at(atlas().cortex, points).min() < 3 or name == "cerebellar"  # it reaches the cortex
    assert len(seen) >= 2


def test_metastases_lie_at_the_junction_and_oedema_in_white_matter() -> None:
    only = OPTIONS.model_copy(update={"met_places": {"junction": 1.0}, "met_counts": {4: 1.0}, "met_diameter": (9.0, 0.1)})
    distances, white = [], []
    for number in range(4):
        found = draw_lesions(stream(number, "mets"), "metastasis", 60.0, only)
        assert found.facts["junction"] == found.facts["lesions"] == 4
        distances += list(field_at(atlas().cortex, inside(found, "enhancing")))
        white += list(field_at(atlas().white, inside(found, "oedema")))
    everywhere = atlas().cortex[(atlas().white > 0.7) & ~atlas().below]
    assert (np.array(distances) <= 4).mean() > 0.75
    assert (everywhere <= 4).mean() < 0.65  # of all white matter
    assert np.mean(white) > 0.65
    ring = next(f for n in range(20) if (f := lesions("metastasis", n)).facts["rings"] == f.facts["lesions"] == 1)
    core, rim = ring.parts["necrosis"] > 0.5, ring.parts["enhancing"] > 0.5
    assert core.any()
    assert (core & ~rim).sum() < 0.02 * core.sum()
