from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from workbench.cohort.table import Cohort, CohortInfo
from workbench.errors import InputError
from workbench.prepare.images import (
    background_value,
    fill_holes,
    native_brain,
    native_grid,
    native_labels,
    read_case,
    read_image,
)
from workbench.prepare.resampling import resample

SHAPE, AFFINE = (9, 12, 7), np.array([[-2.0, 0, 0, 20], [0, -2, 0, 30], [0, 0, 3, -9], [0, 0, 0, 1]])


def head(value: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.full(SHAPE, value, np.float32)
    image[2:7, 2:10, 1:6] = value + 50 + rng.normal(0, 5, (5, 8, 5))
    return image


def cohort_of(folder: Path, *, convention: str | None = "brats2023", space: str = "native", **images: tuple) -> Cohort:
    """One case, 'C1', of arrays or (array, affine) by column."""
    row: dict[str, object] = {"case": "C1", "subject": "S1"}
    for column, value in images.items():
        array, affine = value if isinstance(value, tuple) else (value, AFFINE)
        nib.save(nib.Nifti1Image(array, affine), folder / f"{column}.nii.gz")
        row[column] = f"{column}.nii.gz"
    modalities = tuple(c for c in images if c not in ("brain_mask", "segmentation"))
    return Cohort.create(
        folder, CohortInfo(name="one", modalities=modalities, label_convention=convention, space=space), pd.DataFrame([row])
    )


def only_problem(error: pytest.ExceptionInfo[InputError]):
    (problem,) = error.value.problems
    assert problem.case == "C1"
    assert problem.message
    assert problem.remedy
    return problem


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    path = tmp_path / f"t1{suffix}"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32), AFFINE), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match="truncated") as error:
        read_image(path, case="C1", channel="t1")
    assert only_problem(error).file == str(path)
    assert only_problem(error).channel == "t1"


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((3, 4, 5, 2), np.float32), "expected a 3-D image, found 4-D .3 x 4 x 5 x 2."),
        (np.zeros((3, 4), np.float32), "found 2-D"),
        (np.full((3, 4, 5), np.nan, np.float32), "60 of 60 voxels are NaN or infinite"),
        (np.where(np.arange(60).reshape(3, 4, 5) == 7, np.inf, 0).astype(np.float32), "1 of 60 voxels"),
        (np.full((3, 4, 5), 1e300), "60 of 60 voxels"),
        (np.zeros((3, 4, 5), np.complex64), "expected plain numbers, found complex64"),
    ],
)
def test_what_cannot_be_an_image_is_refused(tmp_path, array, expected):
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match=expected) as error:
        read_image(tmp_path / "x.nii.gz", case="C1", channel="t1")
    only_problem(error)


def test_missing_renamed_and_bomb_like_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="missing"):
        read_image(tmp_path / "none.nii.gz", case="C1")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"hello " * 1000))
    with pytest.raises(InputError, match="not a readable image"):
        read_image(tmp_path / "text.nii.gz", case="C1")
    (tmp_path / "plain.nii.gz").write_text("hello")
    with pytest.raises(InputError, match="not a readable image"):
        read_image(tmp_path / "plain.nii.gz", case="C1")
    header = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), AFFINE).header.copy()
    header.set_data_shape((30000, 30000, 300))
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4)))
    with pytest.raises(InputError, match="cannot be right"):
        read_image(tmp_path / "bomb.nii.gz", case="C1")


def test_singleton_axes_and_scaling_are_read(tmp_path):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5, 1), AFFINE)
    image.header.set_slope_inter(2.0, 1.0)
    nib.save(image, tmp_path / "x.nii.gz")
    array, grid = read_image(tmp_path / "x.nii.gz")
    stored = np.asarray(nib.load(tmp_path / "x.nii.gz").dataobj)
    np.testing.assert_allclose(array, stored[..., 0])
    assert array.dtype == np.float32
    assert grid.shape == (3, 4, 5)


def test_equal_shapes_with_different_affines_are_refused(tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] += 4
    cohort = cohort_of(tmp_path, t1=head(), flair=(head(), moved))
    with pytest.raises(InputError, match=r"its affine differs from that of t1: expected .* found ") as error:
        native_grid(cohort, "C1")
    assert only_problem(error).channel == "flair"
    assert only_problem(error).file.endswith("flair.nii.gz")


def test_rounding_of_an_affine_is_no_mismatch_and_not_interpolated(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += 0.01
    cohort = cohort_of(tmp_path, t1=head(), flair=(head(), moved))
    read = read_case(cohort, "C1")
    assert read.images["flair"][1] is read.native
    np.testing.assert_array_equal(read.images["flair"][0], head())


def test_another_grid_is_read_in_native_space_and_refused_in_a_template_space(tmp_path):
    fine = ndimage.zoom(head(), 2, order=0, grid_mode=True, mode="nearest")
    affine = AFFINE @ np.block([[np.eye(3) / 2, np.full((3, 1), -0.25)], [np.zeros((1, 3)), np.ones((1, 1))]])
    cohort = cohort_of(tmp_path, t1=(fine, affine), dwi=head(), segmentation=(head() > 0).astype(np.uint8))
    read = read_case(cohort, "C1")
    assert read.native.shape == SHAPE  # the mask's grid
    fine, grid = read.images["t1"]
    image = resample(fine, grid, read.native, fill=background_value(fine), antialias=True)
    np.testing.assert_allclose(image, head(), atol=1e-4)
    registered = Cohort(cohort.folder, cohort.info.model_copy(update={"space": "SRI24"}), cohort.cases)
    with pytest.raises(InputError, match="grid differs"):
        native_grid(registered, "C1")


def test_a_mask_on_the_grid_of_no_image_is_refused(tmp_path):
    cohort = cohort_of(tmp_path, t1=head(), segmentation=np.zeros((9, 12, 8), np.uint8))
    with pytest.raises(InputError) as error:
        native_grid(cohort, "C1")
    assert only_problem(error).channel == "segmentation"


def test_labels_become_canonical_and_wrong_ones_are_named(tmp_path):
    mask = np.zeros(SHAPE, np.float32)
    mask[3, 4, 3], mask[4, 4, 3] = 4, 1
    cohort = cohort_of(tmp_path, convention="brats2021", t1=head(), segmentation=mask)
    labels = native_labels(cohort, "C1")
    assert labels.dtype == np.uint8
    assert (labels[3, 4, 3], labels[4, 4, 3], labels.sum()) == (3, 1, 4)
    wrong = Cohort(cohort.folder, cohort.info.model_copy(update={"label_convention": "brats2023"}), cohort.cases)
    with pytest.raises(InputError, match="the mask holds 4") as error:
        native_labels(wrong, "C1")
    assert only_problem(error).file.endswith("segmentation.nii.gz")


def test_masks_of_one_class_are_zero_and_one(tiny_cohort):
    assert set(np.unique(native_labels(tiny_cohort, "TINY-00004-000"))) == {0, 1}
    assert native_labels(tiny_cohort, "TINY-00003-000") is None


def test_brain_is_what_differs_from_constant_air_without_holes_or_specks(tmp_path):
    air = -3.5
    image = head(air)
    image[4, 5, 3] = air  # a ventricle of the air's value
    image[0, 0, 6] = 5  # a speck
    cohort = cohort_of(tmp_path, t1=image)
    expected = np.zeros(SHAPE, bool)
    expected[2:7, 2:10, 1:6] = True
    assert background_value(image) == air
    np.testing.assert_array_equal(native_brain(cohort, "C1"), expected)


def test_the_cohorts_brain_mask_is_used_as_it_is(tmp_path):
    mask = np.zeros(SHAPE, np.float32)
    mask[3:5, 3:8, 2:4] = 0.9999999
    cohort = cohort_of(tmp_path, t1=head(), brain_mask=mask)
    np.testing.assert_array_equal(native_brain(cohort, "C1"), mask > 0)
    empty = cohort_of(tmp_path, t1=head(), brain_mask=np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match="no brain"):
        native_brain(empty, "C1")


def test_a_case_without_the_wanted_modalities_is_named(tiny_cohort):
    with pytest.raises(InputError, match=r"TINY-00001-000.*expected at least one of flair, found t1, t1c, t2"):
        read_case(tiny_cohort, "TINY-00001-000", ("flair",))


@pytest.mark.parametrize("seed", range(4))
def test_fill_holes_equals_scipy(seed):
    mask = np.random.default_rng(seed).random((9, 11, 8)) < 0.55
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))
    mask[:2], mask[:, -2:] = False, False
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))
