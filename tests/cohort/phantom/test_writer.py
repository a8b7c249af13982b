"""The folder: same bytes on any number of workers, resumable, read by the ordinary reader."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from workbench.cohort.check import check_cohort
from workbench.cohort.phantom import writer
from workbench.cohort.phantom.writer import make_phantom
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, WorkbenchError
from workbench.geometry import Grid

SETTINGS = {"subjects": 3, "spacing": 4.0, "seed": 2, "progress": False, "coarse_site": "hill", "markerless_site": "meadow"}
SMALL = {"volume_range": (3.0, 8.0)}  # small tumours grow fast


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "cohort", **SETTINGS, **SMALL)


def test_it_is_an_ordinary_cohort(cohort: Cohort) -> None:
    again = Cohort.open(cohort.folder)
    assert again.info.phantom
    assert again.info.external_sites == ("external",)
    assert again.info.who_edition == "2021"
    assert again.modalities == ("t1", "t1c", "t2", "flair")
    assert len(again) == 3
    truth = again.truth
    for row in again.cases.itertuples():
        grids = []
        for modality in (*again.present(row.case), "segmentation"):
            image = nib.load(again.path(row.case, modality))
            grids.append(Grid.of(image))
            assert image.header["qform_code"] == image.header["sform_code"] == 1
            if modality != "segmentation":
                values = np.asarray(image.dataobj)
                assert 1.2e6 < (values > 0).sum() * 64 < 2.4e6
        assert grids[0].orientation == "LPS"
        assert grids[0].spacing == (4.0, 4.0, 4.0)
        assert all(grid.matches(grids[0]) for grid in grids)
        assert again.present(row.case) == tuple(truth.set_index("case").loc[row.case, "sequences"].split("+"))


def test_whole_masks_and_unknown_markers_where_asked(cohort: Cohort) -> None:
    truth = cohort.truth
    assert {"hill", "meadow"} <= set(truth["site"])
    for row in cohort.cases.itertuples():
        coarse = row.site == "hill"
        assert row.labels == ("WT" if coarse else "glioma")
        values = set(np.unique(np.asarray(nib.load(cohort.path(row.case, "segmentation")).dataobj)))
        assert values == {0, 1} if coarse else {0, 1, 2} <= values <= {0, 1, 2, 3}
    unknown = cohort.cases["site"] == "meadow"
    assert cohort.cases.loc[unknown, ["idh", "codel", "tert", "grade"]].isna().all(axis=None)
    assert cohort.cases.loc[~unknown, ["idh", "codel", "tert", "grade"]].notna().all(axis=None)
    assert truth[["idh", "codel", "tert", "grade"]].notna().all(axis=None)


def test_truth_is_complete_and_agrees_with_the_voxels(cohort: Cohort) -> None:
    truth = cohort.truth.set_index("case")
    assert list(truth.index) == list(cohort.cases["case"])
    for marker in ("idh", "codel", "tert", "grade2", "grade3", "grade4"):
        for suffix in ("", "_with_age"):
            assert truth[f"posterior_{marker}{suffix}"].between(0, 1).all()
    assert (truth["least_jacobian"] > 0).all()
    for case in truth.index:
        labels = np.asarray(nib.load(cohort.folder / "truth" / f"{case}-labels.nii.gz").dataobj)
        u = nib.load(cohort.folder / "truth" / f"{case}-u.nii.gz").get_fdata()
        assert (labels > 0).sum() * 0.064 == pytest.approx(truth.loc[case, "whole_ml"])
        assert truth.loc[case, "whole_ml"] == pytest.approx(truth.loc[case, "volume_ml"], rel=0.15)
        assert u.max() <= 1
        assert (u[labels > 0] > 0.15).all()
        drawn = np.asarray(nib.load(cohort.path(case, "segmentation")).dataobj) > 0
        overlap = 2 * (drawn & (labels > 0)).sum() / (drawn.sum() + (labels > 0).sum())
        assert 0.8 < overlap < 1


def test_the_ordinary_reader_reads_it(cohort: Cohort, tmp_path: Path) -> None:
    read = import_cohort("brats2023", cohort.folder / "images", tmp_path / "read")
    assert list(read.cases["case"]) == list(cohort.cases["case"])
    assert list(read.cases["subject"]) == list(cohort.cases["subject"])
    for case in cohort.cases["case"]:
        assert read.present(case) == cohort.present(case)


def test_maps_beside_the_sequences_leave_these_as_they_are(cohort: Cohort, tmp_path: Path) -> None:
    asked = {**SETTINGS, **SMALL, "subjects": 1}
    more = make_phantom(tmp_path / "more", **asked, extra=("adc", "cbv"))
    case = str(more.cases["case"].iloc[0])
    assert more.modalities == ("t1", "t1c", "t2", "flair", "adc", "cbv")
    assert more.present(case) == (*cohort.present(case), "adc", "cbv")
    for modality in cohort.present(case):
        assert more.path(case, modality).read_bytes() == cohort.path(case, modality).read_bytes()
    assert not [problem for problem in check_cohort(more) if problem.case]
    labels = np.asarray(nib.load(more.folder / "truth" / f"{case}-labels.nii.gz").dataobj)
    healthy = (np.asarray(nib.load(more.path(case, "t1c")).dataobj) > 0) & (labels == 0)
    adc, cbv = (np.asarray(nib.load(more.path(case, name)).dataobj) for name in ("adc", "cbv"))
    assert 700 < np.median(adc[healthy]) < 1000
    assert 120 < np.median(cbv[healthy]) < 220
    assert {"solid_adc", "solid_cbv"} <= set(more.truth)
    assert "with adc and cbv" in more.info.source


@pytest.mark.parametrize("option", [{"extra": ("adc",)}, {"coarse_site": "hill"}, {"misregistration": 1.0}])
def test_what_only_gliomas_have_is_refused_of_other_lesions(tmp_path: Path, option: dict) -> None:
    with pytest.raises(ParameterError, match=f"--{next(iter(option)).replace('_', '-')}: only gliomas"):
        make_phantom(tmp_path / "none", lesion="ms", progress=False, **option)


@pytest.mark.slow
def test_same_bytes_on_two_workers(cohort: Cohort, tmp_path: Path) -> None:
    make_phantom(tmp_path / "again", **SETTINGS, **SMALL, workers=2)
    assert digests(tmp_path / "again") == digests(cohort.folder)


def test_a_killed_run_is_finished_and_a_finished_one_left_alone(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed"
    made: list[int] = []
    real = writer.make_cases

    def failing(seed: int, index: int, *rest):
        made.append(index)
        if index == 1 and made.count(1) == 1:
            raise KeyboardInterrupt
        return real(seed, index, *rest)

    monkeypatch.setattr(writer, "make_cases", failing)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(folder, **SETTINGS, **SMALL)
    with pytest.raises(WorkbenchError, match="is not a cohort"):
        Cohort.open(folder)
    assert not [p for p in folder.rglob("*") if ".tmp" in p.name]
    made[:] = [1]
    make_phantom(folder, **SETTINGS, **SMALL)
    assert 0 not in made
    assert digests(folder) == digests(cohort.folder)
    made.clear()
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    make_phantom(folder, **SETTINGS, **SMALL)
    assert made == []
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    next((folder / "images").glob("*2-000/*-t1c.nii.gz")).unlink()
    make_phantom(folder, **SETTINGS, **SMALL)
    assert made == [2]
    assert digests(folder) == digests(cohort.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": 3.0}, "spacing is 4.0 there, asked is 3.0"),
        ({"subjects": 5}, "subjects is 3 there, asked is 5"),
        ({"signal": "focus"}, "signal is 'normal' there"),
        ({"mismatch_astrocytoma": 0.3}, r"options.mismatch_astrocytoma is 0.42 there, asked is 0.3"),
    ],
)
def test_other_settings_in_the_same_folder(cohort: Cohort, change: dict, message: str) -> None:
    before = digests(cohort.folder)
    with pytest.raises(ParameterError, match=message):
        make_phantom(cohort.folder, **{**SETTINGS, **SMALL, **change})
    assert digests(cohort.folder) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": 0.5}, "--spacing 0.5"),
        ({"spacing": 5}, "--spacing 5"),
        ({"spacing": float("nan")}, "--spacing"),
        ({"subjects": 0}, "--subjects 0"),
        ({"subjects": 2.5}, "--subjects 2.5"),
        ({"seed": -1}, "--seed -1"),
        ({"workers": 0}, "--workers 0"),
        ({"signal": "magic"}, "magic"),
        ({"effect": 3}, "'effect' is unknown"),
    ],
)
def test_bad_settings_make_nothing(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make_phantom(tmp_path / "none", **{"progress": False, **change})
    assert not (tmp_path / "none").exists()


def test_another_cohort_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "cohort.json").write_text("{}")
    with pytest.raises(WorkbenchError, match="another cohort"):
        make_phantom(tmp_path, subjects=1, progress=False)


@pytest.mark.slow
def test_every_mode_at_two_millimetres(tmp_path: Path) -> None:
    for signal in ("normal", "permuted", "site_permuted", "mismatch", "t1c_texture", "regional", "focus"):
        made = make_phantom(tmp_path / signal, subjects=2, spacing=2.0, signal=signal, progress=False, misregistration=2.0)
        assert len(made) == 2
