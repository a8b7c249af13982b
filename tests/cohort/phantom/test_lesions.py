"""Other lesions: each where its kind lies, in its own sequences; drawn once, whatever the spacing and the number of workers."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from workbench.cohort.phantom.anatomy import field_of_view
from workbench.cohort.phantom.deformation import Deformation, deform
from workbench.cohort.phantom.lesion_atlas import NODE, TERRITORIES, atlas, territory_of
from workbench.cohort.phantom.lesion_contrast import infarct_visibility
from workbench.cohort.phantom.lesion_kinds import draw_lesions
from workbench.cohort.phantom.lesion_options import KINDS, SEQUENCES, LesionOptions
from workbench.cohort.phantom.lesion_shapes import Lesions
from workbench.cohort.phantom.lesion_subject import draw_person, make_lesion_case, sequences_of, subject_point
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.subject import Case
from workbench.cohort.phantom.writer import make_phantom
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError
from workbench.seeding import stream

OPTIONS = LesionOptions()
SETTINGS = {"subjects": 4, "spacing": 4.0, "seed": 3, "lesion": "mixed", "progress": False}


@cache
def lesions(kind: str, number: int = 0, age: float = 65.0) -> Lesions:
    return draw_lesions(stream(number, "lesions"), kind, age, OPTIONS)


@cache
def case(kind: str, number: int = 0, spacing: float = 3.0) -> Case:
    return make_lesion_case(0, number, spacing, kind, OPTIONS)


def inside(found: Lesions, part: str) -> np.ndarray:
    """(N, 3) points in template mm."""
    return np.argwhere(found.parts[part] > 0.5) + np.asarray(found.box.origin)


def field_at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    return field[atlas().nearest(points)]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


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


def test_flair_follows_and_adc_returns_with_the_age_of_an_infarct() -> None:
    assert infarct_visibility("flair", 1.5, OPTIONS) < 0.2 < 0.5 == infarct_visibility("flair", 4.5, OPTIONS)
    assert infarct_visibility("flair", 24, OPTIONS) > 0.99
    assert infarct_visibility("adc", 24, OPTIONS) == 1 > infarct_visibility("adc", 168, OPTIONS) > 0.2
    assert infarct_visibility("dwi", 1.5, OPTIONS) > 0.8


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


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_phantom(tmp_path_factory.mktemp("lesions") / "cohort", **SETTINGS)


def test_a_mixed_cohort_is_an_ordinary_one_and_nobody_has_all_sequences(cohort: Cohort) -> None:
    again = Cohort.open(cohort.folder)
    assert again.info.phantom
    assert again.modalities == SEQUENCES
    assert (again.cases["labels"] == "lesion").all()
    truth = again.truth.set_index("case")
    assert truth["kind"].nunique() >= 3
    assert list(again.cases["lesion"]) == list(truth["kind"])
    for name in again.cases["case"]:
        present = again.present(name)
        assert set(present) == set(truth.loc[name, "sequences"].split("+"))
        assert set(present) <= set(OPTIONS.kinds[truth.loc[name, "kind"]].sequences) < set(SEQUENCES)
        mask = np.asarray(nib.load(again.path(name, "segmentation")).dataobj)
        assert set(np.unique(mask)) == {0, 1}
        labels = np.asarray(nib.load(again.folder / "truth" / f"{name}-labels.nii.gz").dataobj)
        assert (labels > 0).sum() * 0.064 == pytest.approx(truth.loc[name, "volume_ml"])
        assert (again.folder / "truth" / f"{name}-u.nii.gz").is_file() == (truth.loc[name, "kind"] == "glioma")


def test_the_ordinary_reader_reads_it(cohort: Cohort, tmp_path: Path) -> None:
    suffixes = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f", "dwi": "dwi", "adc": "adc"}
    found = {name for case in cohort.cases["case"] for name in cohort.present(case)}
    globs = {name: f"*/*-{suffixes[name]}.nii.gz" for name in SEQUENCES if name in found}
    read = import_cohort(
        "generic", cohort.folder / "images", tmp_path / "r", images=globs, segmentation="*/*-seg.nii.gz", labels="lesion"
    )
    for case_name in cohort.cases["case"]:
        assert read.present(case_name) == cohort.present(case_name)


@pytest.mark.slow
def test_same_bytes_on_two_workers_and_a_lost_file_is_made_again(cohort: Cohort, tmp_path: Path) -> None:
    make_phantom(tmp_path / "again", **SETTINGS, workers=2)
    assert digests(tmp_path / "again") == digests(cohort.folder)
    next((tmp_path / "again" / "truth").glob("*3-000-labels.nii.gz")).unlink()
    make_phantom(tmp_path / "again", **SETTINGS)
    assert digests(tmp_path / "again") == digests(cohort.folder)


@pytest.mark.parametrize("kind", ["ms", "wmh", "stroke", "metastasis"])
def test_one_kind_alone(kind: str, tmp_path: Path) -> None:
    made = make_phantom(tmp_path / kind, subjects=1, spacing=4.0, lesion=kind, progress=False)
    assert set(made.modalities) == set(OPTIONS.kinds[kind].sequences)
    assert list(made.truth["kind"]) == [kind]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lesion": "abscess"}, "--lesion abscess: unknown; there are glioma, ms"),
        ({"signal": "permuted"}, "--signal permuted: only gliomas"),
        ({"stage": "posttreatment"}, "--stage posttreatment: only gliomas"),
        ({"ms_lesion": 3}, "'ms_lesion' is unknown"),
        ({"ms_places": {"deep": 0.4}}, "ms_places: the rates must"),
        ({"met_counts": {0: 1.0}}, "met_counts: numbers must"),
        ({"stroke_hours": (5.0, 2.0)}, "stroke_hours: must be two rising"),
        ({"options": PhantomOptions()}, "takes LesionOptions"),
        ({"spacing": 9}, "--spacing 9"),
    ],
)
def test_bad_settings_make_nothing(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make_phantom(tmp_path / "none", **{"progress": False, "lesion": "ms", **change})
    assert not (tmp_path / "none").exists()


def test_other_settings_in_the_same_folder(cohort: Cohort) -> None:
    with pytest.raises(ParameterError, match="lesion is 'mixed' there, asked is 'ms'"):
        make_phantom(cohort.folder, **{**SETTINGS, "lesion": "ms"})
