from __future__ import annotations

import shutil

import numpy as np
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import InputError, WorkbenchError
from workbench.labels import region_mask
from workbench.prepare.images import native_labels
from workbench.views.cases.images import AGREEMENT, FALSE_NEGATIVE, FALSE_POSITIVE
from workbench.views.cases.view import find_maps, open_case

CASE = "TINY-00000-000"


def test_everything_of_a_case_lies_on_one_cropped_grid(tiny_cohort, case_run):
    view = open_case(tiny_cohort, CASE, case_run.folder)
    grids = [view.image(m).volume.grid for m in view.modalities] + [view.truth.grid, view.prediction.grid]
    assert all(g.matches(grids[0]) for g in grids)
    assert np.prod(grids[0].shape) < 36 * 44 * 30
    assert (view.truth.array > 0).sum() == (native_labels(tiny_cohort, CASE) > 0).sum()


def test_prediction_is_one_voxel_to_the_patients_right_of_the_truth(tiny_cohort, case_run):
    """Files are LPS: a roll by +1 along the first axis moves labels towards the patient's left, to smaller x in RAS+."""
    view = open_case(tiny_cohort, CASE, case_run.folder)
    assert (np.roll(view.truth.array, -1, axis=0) == view.prediction.array).all()


def test_overlays(tiny_cohort, case_run):
    view = open_case(tiny_cohort, CASE, case_run.folder)
    keys = list(view.overlay_names().values())
    assert keys == ["none", "truth", "prediction", "disagreement", "map:idh-gradcam"]
    assert view.overlay("none") is None
    for region in ("WT", "ET"):
        found = view.overlay("disagreement", region).volume.array
        a, b = region_mask(view.truth.array, region), region_mask(view.prediction.array, region)
        assert (found == AGREEMENT).sum() == (a & b).sum()
        assert (found == FALSE_POSITIVE).sum() == (b & ~a).sum() > 0
        assert (found == FALSE_NEGATIVE).sum() == (a & ~b).sum() > 0
    shown = view.overlay("map:idh-gradcam")
    assert shown.is_map
    assert shown.range == pytest.approx((0.075, 0.75))
    assert view.overlay_nifti("none") == b""
    assert view.overlay_nifti("truth") is view.overlay_nifti("truth")


def test_a_case_without_mask_or_run_has_fewer_overlays(tiny_cohort, case_run):
    assert list(open_case(tiny_cohort, "TINY-00003-000").overlay_names().values()) == ["none"]
    assert list(open_case(tiny_cohort, CASE).overlay_names().values()) == ["none", "truth"]
    assert list(open_case(tiny_cohort, "TINY-00003-000", case_run.folder).overlay_names().values()) == ["none", "prediction"]


def test_centre_is_inside_the_lesion(tiny_cohort, case_run):
    view = open_case(tiny_cohort, CASE, case_run.folder)
    assert view.truth.array[view.truth.voxel(view.centre())] > 0
    bare = open_case(tiny_cohort, "TINY-00003-000")
    assert len(bare.centre()) == 3


def test_volumes(tiny_cohort, case_run):
    view = open_case(tiny_cohort, CASE, case_run.folder)
    labels = native_labels(tiny_cohort, CASE)
    assert view.volumes_ml()["truth"]["ET"] == pytest.approx((labels == 3).sum() * 80 / 1000)
    assert set(view.volumes_ml()) == {"truth", "prediction"}


def test_cases_are_kept_until_a_file_changes(tiny_cohort, case_run, tmp_path):
    folder = shutil.copytree(case_run.folder, tmp_path / "run")
    first = open_case(tiny_cohort, CASE, folder)
    assert open_case(tiny_cohort, CASE, folder) is first
    assert first.prediction.array.any()
    shutil.copy(folder / "predictions" / "TINY-00001-000.nii.gz", folder / "predictions" / f"{CASE}.nii.gz")
    second = open_case(tiny_cohort, CASE, folder)
    assert second is not first
    assert (second.prediction.array != first.prediction.array).any()


def test_maps_of_a_case_are_not_those_of_a_longer_name(tmp_path):
    (tmp_path / "maps").mkdir()
    for name in ("a_idh.nii.gz", "ab_idh.nii.gz", "a_gate_1.nii.gz"):
        (tmp_path / "maps" / name).touch()
    assert list(find_maps(tmp_path, "a")) == ["gate_1", "idh"]


def test_unknown_case_and_broken_image_are_errors_of_ours(tiny_cohort, tmp_path):
    with pytest.raises(WorkbenchError, match="no case"):
        open_case(tiny_cohort, "nobody")
    shutil.copytree(tiny_cohort.folder, tmp_path / "copy")
    copy = Cohort.open(tmp_path / "copy")
    path = copy.path(CASE, "t2")
    path.write_bytes(path.read_bytes()[:300])
    view = open_case(copy, CASE)
    assert view.image("t1").volume.array.any()
    with pytest.raises(InputError, match="t2"):
        view.image("t2")
