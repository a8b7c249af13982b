from __future__ import annotations

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest

from workbench.errors import InputError
from workbench.geometry import Grid
from workbench.views.cases.images import (
    DISAGREEMENT_COLOURS,
    LABEL_COLOURS,
    DisplayVolume,
    Volume,
    colours_of,
    disagreement,
    display_box,
    largest_slice,
    nifti_bytes,
    read_brain,
    read_labels,
    read_truth,
    read_volume,
    region_volumes,
    robust_window,
)
from workbench.views.cases.planes import AXIAL, CORONAL, SAGITTAL, picture

RAS = np.diag([2.0, 3.0, 4.0, 1.0]) + np.array([[0, 0, 0, -40], [0, 0, 0, -50], [0, 0, 0, -30], [0, 0, 0, 0]])
SHAPE = (40, 36, 20)


def stored_as(codes: str, mark: tuple[float, float, float], folder) -> Volume:
    """A file whose one bright voxel lies at `mark` (mm), stored in another orientation, read back."""
    array = np.zeros(SHAPE, np.float32)
    array[tuple(np.round(np.linalg.solve(RAS, [*mark, 1])[:3]).astype(int))] = 1
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes)))
    image = nib.Nifti1Image(array, RAS).as_reoriented(turn)
    assert "".join(nib.aff2axcodes(image.affine)) == codes
    nib.save(image, folder / "x.nii.gz")
    return read_volume(folder / "x.nii.gz")


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "RSP", "PIR", "ASL"])
def test_patients_left_is_on_the_pictures_right(codes, tmp_path):
    left_front_top = (-30.0, 40.0, 30.0)
    volume = stored_as(codes, left_front_top, tmp_path)
    where = np.argwhere(volume.array > 0.5)
    assert len(where) == 1
    assert volume.position(tuple(where[0])) == pytest.approx(left_front_top)
    assert volume.voxel(left_front_top) == tuple(where[0])
    for axis, (expects_right, expects_top) in {AXIAL: (True, True), CORONAL: (True, True), SAGITTAL: (True, True)}.items():
        cut = picture(volume.array, axis, where[0][axis])
        row, column = np.argwhere(cut > 0.5)[0]
        # axial: left of the patient on the right, front at the top; coronal: left right, head up; sagittal: front right, head up
        assert (column > cut.shape[1] / 2) == expects_right
        assert (row < cut.shape[0] / 2) == expects_top


def test_crop_keeps_positions():
    volume = Volume(np.arange(np.prod(SHAPE)).reshape(SHAPE), Grid(SHAPE, RAS))
    part = volume.crop((3, 5, 7), (20, 21, 15))
    assert part.array.shape == (17, 16, 8)
    assert part.position((1, 2, 3)) == pytest.approx(volume.position((4, 7, 10)))
    assert part.array[1, 2, 3] == volume.array[4, 7, 10]


def test_voxel_is_clipped_to_the_volume():
    volume = Volume(np.zeros(SHAPE), Grid(SHAPE, RAS))
    assert volume.voxel((1e4, -1e4, 0)) == (39, 0, 8)


def test_labels_on_a_finer_grid_stay_labels_and_in_place():
    array = np.zeros(SHAPE, np.uint8)
    array[20, 18, 10] = 3
    volume = Volume(array, Grid(SHAPE, RAS))
    fine = RAS.copy()
    fine[:3, :3] /= 2
    result = volume.on(Grid((80, 72, 40), fine))
    assert set(np.unique(result.array)) == {0, 3}
    marked = np.argwhere(result.array == 3).mean(0)
    assert result.position(tuple(marked)) == pytest.approx(volume.position((20, 18, 10)), abs=2.0)
    assert volume.on(volume.grid) is volume


def test_window_is_the_percentiles_of_the_brain():
    assert robust_window(np.arange(1001.0)) == pytest.approx((5.0, 995.0))
    assert robust_window(np.full(10, 3.0)) == (3.0, 4.0)
    assert robust_window(np.empty(0)) == (0.0, 1.0)


def test_display_keeps_values_to_half_a_step_and_makes_any_air_black():
    rng = np.random.default_rng(0)
    brain = np.zeros(SHAPE, bool)
    brain[5:30, 5:30, 5:15] = True
    array = np.where(brain, rng.normal(0, 1, SHAPE), 0.25).astype(np.float32)  # z-scored: its air is not the lowest value
    display = DisplayVolume.of(Volume(array, Grid(SHAPE, RAS)), brain)
    low, high = display.window
    kept = brain & (array > low) & (array < high)
    restored = display.low + display.step * display.volume.array
    assert np.abs(restored - array)[kept].max() <= display.step / 2 + 1e-5
    assert (display.volume.array[~brain] == 0).all()
    levels = display.levels()
    assert levels[round((low - display.low) / display.step)] <= 1
    assert levels[min(255, round((high - display.low) / display.step))] >= 254
    assert display.levels((low, (low + high) / 2))[-1] == 255


def test_nifti_in_memory_is_what_nibabel_reads():
    array = np.random.default_rng(1).integers(0, 255, SHAPE).astype(np.uint8)
    content = nifti_bytes(Volume(array, Grid(SHAPE, RAS)), slope=0.5, intercept=-3, labels=True)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    assert np.allclose(image.affine, RAS)
    assert np.allclose(image.get_fdata(), array * 0.5 - 3)
    assert int(image.header["intent_code"]) == 1002
    assert image.header.get_xyzt_units()[0] == "mm"


def test_disagreement_of_a_region_by_hand():
    truth = np.array([0, 1, 2, 3, 2, 0]).reshape(6, 1, 1)
    found = np.array([1, 1, 2, 2, 0, 0]).reshape(6, 1, 1)
    assert disagreement(truth, found, "WT").ravel().tolist() == [2, 1, 1, 1, 3, 0]
    assert disagreement(truth, found, "TC").ravel().tolist() == [2, 1, 0, 3, 0, 0]
    assert disagreement(truth, found, "ET").ravel().tolist() == [0, 0, 0, 3, 0, 0]


def test_box_and_largest_slice():
    mask = np.zeros((10, 12, 14), bool)
    mask[3:5, 6, 7:9] = True
    mask[4, 5:8, 8] = True
    assert display_box(mask.shape, mask, margin=0) == ((3, 5, 7), (5, 8, 9))
    assert display_box(mask.shape, mask, margin=4) == ((0, 1, 3), (9, 12, 13))
    assert display_box(mask.shape, np.zeros_like(mask)) == ((0, 0, 0), (10, 12, 14))
    assert (largest_slice(mask, 0), largest_slice(mask, 1), largest_slice(mask, 2)) == (4, 6, 8)
    assert largest_slice(np.zeros_like(mask), 2) == 7


def test_region_volumes_in_ml():
    array = np.zeros(SHAPE, np.uint8)
    array[0, 0, :10], array[1, 0, :5], array[2, 0, :2] = 2, 1, 3
    volumes = region_volumes(Volume(array, Grid(SHAPE, RAS)), ("WT", "TC", "ET"))
    assert volumes == pytest.approx({"WT": 17 * 24 / 1000, "TC": 7 * 24 / 1000, "ET": 2 * 24 / 1000})


def test_truth_is_canonical_and_one_class_sets_are_binary(tiny_cohort):
    assert set(np.unique(read_truth(tiny_cohort, "TINY-00000-000").array)) == {0, 1, 2, 3}
    assert set(np.unique(read_truth(tiny_cohort, "TINY-00004-000").array)) == {0, 1}
    assert read_truth(tiny_cohort, "TINY-00003-000") is None


def test_brain_without_a_mask_is_what_differs_from_the_air(tiny_cohort):
    image = read_volume(tiny_cohort.path("TINY-00000-000", "t1"))
    assert (read_brain(tiny_cohort, "TINY-00000-000", image) == (image.array != 0)).mean() > 0.999


def test_foreign_labels_are_refused(tmp_path):
    array = np.zeros(SHAPE, np.uint8)
    array[3, 3, 3] = 7
    nib.save(nib.Nifti1Image(array, RAS), tmp_path / "bad.nii.gz")
    with pytest.raises(InputError, match="holds 7"):
        read_labels(tmp_path / "bad.nii.gz", case="c")
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "bad.nii.gz").read_bytes()[:200])
    with pytest.raises(InputError, match=r"torn\.nii\.gz"):
        read_volume(tmp_path / "torn.nii.gz", case="c")


# Machado, Oliveira, Fernandes, 'A physiologically-based model for simulation of color vision deficiency', 2009, severity 1.
DEFICIENCIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3).tolist(),
}


def lab(rgb) -> np.ndarray:
    """CIELAB (D65) of linear RGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("colours", [LABEL_COLOURS["glioma_post"], DISAGREEMENT_COLOURS], ids=["labels", "disagreement"])
def test_colours_stay_apart_for_every_eye(colours, deficiency):
    seen = [lab(np.array(DEFICIENCIES[deficiency]) @ ((np.array(c.rgb) / 255) ** 2.2)) for c in colours]
    for (first, a), (second, b) in itertools.combinations(zip(colours, seen, strict=True), 2):
        assert np.linalg.norm(a - b) > 20, (first.name, second.name)


def test_unlabelled_cases_get_the_fullest_table():
    assert [c.value for c in colours_of("")] == [1, 2, 3, 4]
    assert [c.value for c in colours_of("lesion")] == [1]
