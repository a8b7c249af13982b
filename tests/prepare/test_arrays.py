"""One case from images to arrays: z-scores of the brain on a grid that invents nothing."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from small_cohort import FOUR, change

from workbench.errors import InputError
from workbench.prepare.arrays import prepare_case
from workbench.prepare.images import native_brain, native_labels, read_case
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort


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
    raw, native = read_case(small, case.name).images["t1c"]
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
