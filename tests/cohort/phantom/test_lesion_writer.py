"""A lesion cohort as a folder: an ordinary one, the same bytes on any number of workers, and no half one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from workbench.cohort.phantom.lesion_options import SEQUENCES, LesionOptions
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.writer import make_phantom
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError

OPTIONS = LesionOptions()
SETTINGS = {"subjects": 4, "spacing": 4.0, "seed": 3, "lesion": "mixed", "progress": False}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


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
