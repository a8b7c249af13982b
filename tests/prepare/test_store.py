from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import InputError, ParameterError, WorkbenchError
from workbench.labels import region_mask
from workbench.prepare.arrays import prepare_case
from workbench.prepare.images import native_brain, native_image, native_labels
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import PreparedCohort, prepare_cohort

FOUR = PrepareSettings(spacing=4.0)


def copy_of(cohort: Cohort, folder: Path, cases: int) -> Cohort:
    """The first cases of a cohort in a folder of their own, which the test may spoil."""
    shutil.copytree(cohort.folder, folder, ignore=shutil.ignore_patterns("prepared", "*.parquet", "*.json"))
    return Cohort.create(folder, cohort.info, cohort.cases.iloc[:cases])


@pytest.fixture
def small(tiny_cohort: Cohort, tmp_path: Path) -> Cohort:
    return copy_of(tiny_cohort, tmp_path / "cohort", 3)


def entries(prepared: PreparedCohort) -> dict[str, tuple[str, int]]:
    """Case -> its entry's folder and when that was written."""
    return {case.name: (case.folder.name, (case.folder / "case.json").stat().st_mtime_ns) for case in prepared}


def change(cohort: Cohort, case: str, modality: str, edit) -> None:
    path = cohort.path(case, modality)
    image = nib.load(path)
    array = edit(np.asarray(image.dataobj, dtype=np.float32).copy())
    nib.save(nib.Nifti1Image(array, image.affine), path)


def test_images_are_z_scores_inside_the_brain_and_zero_elsewhere(tiny_cohort, tmp_path):
    for spacing in (4.0, 5.0, 2.5):
        prepared = prepare_cohort(
            tiny_cohort, PrepareSettings(spacing=spacing), folder=tmp_path, cases=["TINY-00001-000"], progress=False
        )
        (case,) = prepared
        images, brain = case.images().astype(np.float64), case.brain()
        assert images.shape == (4, *case.shape)
        assert case.present == (True, True, True, False)
        for image, there in zip(images, case.present, strict=True):
            assert (image[~brain] == 0).all()
            if there:
                assert image[brain].mean() == pytest.approx(0, abs=1e-3)
                assert image[brain].std() == pytest.approx(1, abs=1e-3)
            else:
                assert not image.any()
        assert nib.aff2axcodes(case.affine) == ("R", "A", "S")
        np.testing.assert_allclose(nib.affines.voxel_sizes(case.affine), spacing)
        native = native_brain(tiny_cohort, case.name)
        assert brain.sum() * spacing**3 == pytest.approx(native.sum() * case.native.voxel_volume, rel=0.03)


def test_native_voxels_are_only_cropped_flipped_and_scaled(small):
    """5 mm is the native spacing along Z only; make all axes 4 mm so that no voxel may be interpolated."""
    for case in small.cases["case"]:
        for column in ("t1", "t1c", "t2", "flair", "segmentation"):
            if path := small.path(case, column):
                image = nib.load(path)
                nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([1, 1, 0.8, 1])), path)
    (case,) = prepare_cohort(small, FOUR, cases=["TINY-00000-000"], progress=False)
    raw, native = native_image(small, case.name, "t1c")
    brain = native_brain(small, case.name)
    z = np.where(brain, (raw - raw[brain].mean(dtype=np.float64)) / raw[brain].std(dtype=np.float64), 0)
    x, y, zz = (
        slice(np.flatnonzero(brain.any(axis=a))[0], np.flatnonzero(brain.any(axis=a))[-1] + 1) for a in ((1, 2), (0, 2), (0, 1))
    )
    expected = z[x, y, zz][::-1, ::-1].astype(np.float16)  # LPS -> RAS
    np.testing.assert_allclose(case.images(modalities=["t1c"])[0], expected, atol=2e-3)
    np.testing.assert_array_equal(case.labels(), native_labels(small, case.name)[x, y, zz][::-1, ::-1])
    corner = native.affine @ [x.stop - 1, y.stop - 1, zz.start, 1]
    np.testing.assert_allclose(case.affine[:3, 3], corner[:3])


def test_parts_and_names_of_channels(tiny_cohort, tmp_path):
    prepared = prepare_cohort(tiny_cohort, FOUR, folder=tmp_path, cases=["TINY-00002-000"], progress=False)
    case = prepared.case("TINY-00002-000")
    part = (slice(3, 9), slice(None), slice(5, 6))
    np.testing.assert_array_equal(case.images(part), case.images()[:, 3:9, :, 5:6])
    np.testing.assert_array_equal(case.labels(part), case.labels()[3:9, :, 5:6])
    np.testing.assert_array_equal(case.brain(part), case.brain()[3:9, :, 5:6])
    assert case.brain().dtype == bool
    chosen = case.images(part, ["flair", "swi", "t1"])
    np.testing.assert_array_equal(chosen[0], case.images(part)[3])
    np.testing.assert_array_equal(chosen[2], case.images(part)[0])
    assert not chosen[1].any()


def test_label_sets_and_stored_foreground(tiny_cohort, tmp_path):
    prepared = prepare_cohort(
        tiny_cohort, PrepareSettings(spacing=4.0, samples=50), folder=tmp_path, progress=False,
        cases=[f"TINY-0000{i}-000" for i in (0, 3, 4)],
    )  # fmt: skip
    full, none, whole = prepared
    assert (full.label_set, none.label_set, whole.label_set) == ("glioma", "", "WT")
    assert none.labels() is None
    assert none.foreground == {}
    assert none.mask_centre is None
    assert set(whole.foreground) == {1}
    for case in (full, whole):
        labels = case.labels()
        for label, voxels in case.foreground.items():
            assert len(np.unique(voxels, axis=0)) == len(voxels) == min(50, (labels == label).sum())
            assert (labels[tuple(voxels.T)] == label).all()
        centroid = np.argwhere(region_mask(labels, "WT")).mean(axis=0)
        np.testing.assert_allclose(case.mask_centre, centroid, atol=0.51)


def test_repeating_is_a_no_op_and_one_changed_case_is_redone(small):
    first = prepare_cohort(small, FOUR, progress=False)
    before = entries(first)
    assert entries(prepare_cohort(small, FOUR, progress=False)) == before
    change(small, "TINY-00001-000", "t1", lambda a: a * 2)
    after = entries(prepare_cohort(small, FOUR, progress=False))
    assert {case for case in before if before[case] != after[case]} == {"TINY-00001-000"}
    assert not (first.folder / before["TINY-00001-000"][0]).exists(), "the stale entry is still there"
    assert sorted(p.name for p in first.folder.iterdir()) == sorted([*(e for e, _ in after.values()), "prepared.json"])


def test_another_convention_redoes_all_cases_and_other_settings_stand_beside(small):
    first = prepare_cohort(small, FOUR, progress=False)
    other = prepare_cohort(small, PrepareSettings(spacing=5.0), progress=False, cases=["TINY-00000-000"])
    assert other.folder != first.folder
    assert len(other) == 1
    assert entries(prepare_cohort(small, FOUR, progress=False)) == entries(first)
    relabelled = Cohort(small.folder, small.info.model_copy(update={"label_convention": "brats2024"}), small.cases)
    before = {entry for entry, _ in entries(first).values()}
    assert before.isdisjoint(entry for entry, _ in entries(prepare_cohort(relabelled, FOUR, progress=False)).values())


def test_reopening_finds_the_same_cases(small):
    made = prepare_cohort(small, FOUR, progress=False)
    opened = PreparedCohort.open(made.folder)
    assert (opened.cases, opened.modalities, opened.spacing, len(opened)) == (made.cases, small.modalities, 4.0, 3)
    np.testing.assert_array_equal(opened.case(opened.cases[1]).images(), made.case(made.cases[1]).images())
    with pytest.raises(WorkbenchError, match="cannot be read"):
        PreparedCohort.open(small.folder)
    (made.folder / "prepared.json").write_text("{}")
    with pytest.raises(WorkbenchError, match="does not describe"):
        PreparedCohort.open(made.folder)
    assert prepare_cohort(small, FOUR, progress=False).cases == made.cases


def test_all_bad_cases_are_told_at_once_and_the_good_ones_kept(small):
    change(small, "TINY-00000-000", "t1", np.zeros_like)
    path = small.path("TINY-00002-000", "flair")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError) as error:
        prepare_cohort(small, FOUR, progress=False)
    zero, short = error.value.problems
    assert (zero.case, zero.channel, short.case, short.channel) == ("TINY-00000-000", "t1", "TINY-00002-000", "flair")
    assert "all-zero" in zero.message
    assert zero.file.endswith("TINY-00000-000-t1.nii.gz")
    target = small.folder / "prepared" / PrepareSettings(spacing=4.0, modalities=small.modalities).slug
    assert [p.name.split(".")[0] for p in target.iterdir()] == ["TINY-00001-000"]


def test_constant_inside_the_brain_and_a_field_of_view_beside_it(small):
    change(small, "TINY-00000-000", "t2", lambda a: np.where(a != 0, 7, 0).astype(np.float32))
    with pytest.raises(InputError, match=r"TINY-00000-000.*t2.*constant \(7\)"):
        prepare_case(small, "TINY-00000-000", FOUR)
    path = small.path("TINY-00001-000", "t2")
    image = nib.load(path)
    away = image.affine.copy()
    away[:3, 3] += 500
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:-1], away), path)
    with pytest.raises(InputError, match=r"TINY-00001-000.*t2.*field of view misses it"):
        prepare_case(small, "TINY-00001-000", FOUR)


def test_a_slab_that_was_not_acquired_is_zero_and_does_not_shift_the_rest(small):
    case = "TINY-00000-000"
    whole = prepare_case(small, case, FOUR)
    change(small, case, "t1", lambda a: np.where(np.arange(30) < 9, 0, a))  # 45 mm of 150 along Z
    found = prepare_case(small, case, FOUR)
    cut = found.statistics["t1"]["covered"]
    assert 0.7 < cut < 0.95
    assert found.statistics["t1"]["mean"] == pytest.approx(whole.statistics["t1"]["mean"], rel=0.02)
    assert not found.images[0][:, :, :3].any()
    np.testing.assert_array_equal(found.images[1], whole.images[1])


def test_settings_name_what_is_wrong(small):
    with pytest.raises(ParameterError, match="no dwi; it has t1, t1c, t2, flair"):
        prepare_cohort(small, PrepareSettings(modalities=("t1", "dwi")), progress=False)
    with pytest.raises(ParameterError, match="no nobody"):
        prepare_cohort(small, FOUR, cases=["nobody"], progress=False)
    with pytest.raises(ValueError, match="named twice"):
        PrepareSettings(modalities=("t1", "t1"))
    small.path("TINY-00000-000", "t1").unlink()
    with pytest.raises(InputError, match=r"TINY-00000-000.*t1.*missing"):
        prepare_cohort(small, FOUR, progress=False)
    with pytest.raises(WorkbenchError, match="no case"):
        small.row("nobody")


def test_worker_processes_give_the_same_arrays(small, tmp_path):
    one = prepare_cohort(small, FOUR, folder=tmp_path / "one", progress=False)
    two = prepare_cohort(small, FOUR, folder=tmp_path / "two", progress=False, workers=2)
    for a, b in zip(one, two, strict=True):
        assert a.folder.name == b.folder.name
        for file in sorted(a.folder.iterdir()):
            if file.suffix == ".json":
                assert file.read_bytes() == (b.folder / file.name).read_bytes()
        np.testing.assert_array_equal(a.images(), b.images())


def test_a_killed_run_leaves_nothing_half_written(tiny_cohort, tmp_path):
    cohort = copy_of(tiny_cohort, tmp_path / "cohort", 6)
    code = (
        "import sys\nfrom workbench.cohort.table import Cohort\nfrom workbench.prepare.store import prepare_cohort\n"
        "from workbench.prepare.settings import PrepareSettings\n"
        "prepare_cohort(Cohort.open(sys.argv[1]), PrepareSettings(spacing=2.0), progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(cohort.folder)])
    target = cohort.folder / "prepared" / PrepareSettings(spacing=2.0, modalities=cohort.modalities).slug
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None and len(list(target.glob("TINY*"))) < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for entry in target.glob("TINY*"):
        assert {p.name for p in entry.iterdir()} >= {"images.b2nd", "brain.b2nd", "case.json"}
        json.loads((entry / "case.json").read_text())
    finished = {p.name: (p / "case.json").stat().st_mtime_ns for p in target.glob("TINY*")}
    assert not (target / "prepared.json").exists()
    dead = target / f".tmp-{socket.gethostname()}-{process.pid}-12345678"
    dead.mkdir(exist_ok=True)
    prepared = prepare_cohort(cohort, PrepareSettings(spacing=2.0), progress=False)
    assert len(prepared) == 6
    for name, stamp in finished.items():
        assert (target / name / "case.json").stat().st_mtime_ns == stamp, "a finished entry was made again"
    assert not list(target.glob(".tmp-*"))


def test_an_unwritable_folder_is_a_message(small, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WorkbenchError, match="cannot be written"):
        prepare_cohort(small, FOUR, folder=tmp_path / "file", progress=False)


def test_metadata_is_enough_for_the_way_back(tiny_cohort, tmp_path):
    prepared = prepare_cohort(tiny_cohort, FOUR, folder=tmp_path, cases=["TINY-00000-000"], progress=False)
    (case,) = prepared
    affine = nib.load(tiny_cohort.path(case.name, "t1")).affine
    np.testing.assert_array_equal(case.native.affine, affine)
    assert case.native.shape == (36, 44, 30)
    assert isinstance(case.statistics["t1"]["mean"], float)
    assert pd.notna(case.statistics["t1"]["deviation"])
