"""One patient with lesions, scanned: signs, sequences and sites; drawn once, whatever the spacing."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from workbench.cohort.phantom.anatomy import field_of_view
from workbench.cohort.phantom.deformation import Deformation, deform
from workbench.cohort.phantom.lesion_options import KINDS, SEQUENCES, LesionOptions
from workbench.cohort.phantom.lesion_subject import draw_person, make_lesion_case, sequences_of, subject_point
from workbench.cohort.phantom.subject import Case
from workbench.seeding import stream

OPTIONS = LesionOptions()


@cache
def case(kind: str, number: int = 0, spacing: float = 3.0) -> Case:
    return make_lesion_case(0, number, spacing, kind, OPTIONS)


def test_signs_show_in_their_sequences() -> None:
    stroke = next(c for n in range(30) if (c := case("stroke", n)).facts["volume_ml"] > 5 and 12 < c.facts["hours"] < 72)
    whole = (stroke.labels > 0) & (stroke.images["dwi"] > 0)
    healthy = (stroke.labels == 0) & (stroke.images["dwi"] > 0)
    assert np.median(stroke.images["dwi"][whole]) > 1.5 * np.median(stroke.images["dwi"][healthy])
    assert np.median(stroke.images["adc"][whole]) < 0.75 * np.median(stroke.images["adc"][healthy])
    assert 650 < np.median(stroke.images["adc"][healthy]) < 950  # 1e-6 mm^2/s
    ms = next(c for n in range(30) if {"t1", "t2"} <= set((c := case("ms", n)).images) and c.facts["volume_ml"] > 3)
    lesion = ms.labels > 0
    for modality, shift in (("flair", 0.3), ("t2", 0.3), ("t1", -0.05)):
        image = ms.images[modality].astype(float)
        around = ndimage.binary_dilation(lesion, iterations=2) & ~ndimage.binary_dilation(lesion) & (image > 0)
        change = np.median(image[lesion]) / np.median(image[around]) - 1
        assert change > shift if shift > 0 else change < shift


def test_an_early_infarct_is_hard_to_see_on_flair_and_a_later_one_is_not() -> None:
    number = next(n for n in range(30) if "flair" in case("stroke", n).images and case("stroke", n).facts["volume_ml"] > 5)
    change = []
    for hours in ((1.5, 1.6), (48.0, 49.0)):
        made = make_lesion_case(0, number, 3.0, "stroke", OPTIONS.model_copy(update={"stroke_hours": hours}))
        image, lesion = made.images["flair"].astype(float), made.labels > 0
        around = ndimage.binary_dilation(lesion, iterations=2) & ~ndimage.binary_dilation(lesion) & (image > 0)
        change.append(np.median(image[lesion]) / np.median(image[around]) - 1)
    assert change[0] < 0.15
    assert change[1] > change[0] + 0.2


def test_volume_does_not_depend_on_the_spacing() -> None:
    for kind in ("wmh", "metastasis"):
        volumes = [case(kind, 1, spacing).facts["volume_ml"] for spacing in (2.0, 3.0)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.12)


def test_an_annotator_errs_but_not_much() -> None:
    made = case("stroke", 6)
    assert set(np.unique(made.drawn)) == {0, 1}
    truth = made.labels > 0
    overlap = 2 * (truth & (made.drawn > 0)).sum() / (truth.sum() + made.drawn.sum())
    assert 0.8 < overlap < 1


def test_a_point_of_the_template_is_found_in_the_subject() -> None:
    anatomy = deform(stream(0, "inverse"), 4.0, 1.0, True)
    box = field_of_view(2.0)
    for point in ([30.0, 20.0, 10.0], [-40.0, -50.0, 30.0]):
        where = subject_point(anatomy, np.array(point))
        index = tuple(round(float((w - o) / 2.0)) for w, o in zip(where, box.origin, strict=True))
        seen = Deformation.template_index(anatomy, box)[:, *index] + np.array([-98.0, -134.0, -72.0])
        assert np.abs(seen - point).max() < 2.5


def test_sequences_are_those_of_the_kind_and_one_is_always_there() -> None:
    site = OPTIONS.sites["external"].model_copy(update={"missing": dict.fromkeys(SEQUENCES, 1.0)})
    for kind in KINDS:
        protocol = OPTIONS.kinds[kind]
        assert sequences_of(stream(0, "none"), protocol, site) == (next(iter(protocol.sequences)),)
        for number in range(20):
            assert set(sequences_of(stream(number, "s"), protocol, OPTIONS.sites["hill"])) <= set(protocol.sequences)


def test_sites_of_a_mixed_cohort_see_their_own_kinds_and_the_external_one_sees_all() -> None:
    people = pd.DataFrame([vars(draw_person(0, index, "mixed", OPTIONS)) for index in range(400)])
    counts = people.groupby(["site", "kind"]).size().unstack(fill_value=0)
    assert counts.loc["meadow", ["ms", "metastasis", "glioma"]].eq(0).all()
    assert counts.loc["external"].gt(0).all()
    assert counts.sum().gt(25).all()
    assert draw_person(0, 7, "mixed", OPTIONS) == draw_person(0, 7, "mixed", OPTIONS)
