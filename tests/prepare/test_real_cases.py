"""Real brains, which break what phantoms do not: z-scored images with non-zero air, negative resampling values, a FLAIR on
another grid than its DWI, oblique slices, three orientations."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from labels_back import labels_back

from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.prepare.images import native_brain, native_labels
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import PreparedCase, prepare_cohort
from workbench.sampling.batches import Sampler, SamplingSettings

pytestmark = pytest.mark.real_data

FOUR = ("t1", "t1c", "t2", "flair")


def images_of(*modalities: str) -> dict[str, str]:
    return {modality: f"*/{modality}.nii.gz" for modality in modalities}


def prepare(cohort: Cohort, case: str, spacing: float) -> PreparedCase:
    prepared = prepare_cohort(cohort, PrepareSettings(spacing=spacing), cases=[case], progress=False)
    return prepared.case(case)


def check(case: PreparedCase, brain_ml: tuple[float, float]) -> None:
    images, brain = case.images().astype(np.float32), case.brain()
    assert case.grid.orientation == "RAS"
    assert brain_ml[0] < brain.sum() * case.grid.voxel_volume / 1000 < brain_ml[1]
    for image, there in zip(images, case.present, strict=True):
        assert (image[~brain] == 0).all()
        if there:
            assert image[brain].mean() == pytest.approx(0, abs=2e-3)
            assert image[brain].std() == pytest.approx(1, abs=2e-3)


@pytest.fixture(scope="module")
def glioma(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return import_cohort(
        "generic", real_data / "glioma", tmp_path_factory.mktemp("glioma"), images=images_of("t1c", "flair"),
        brain_mask="*/brainmask.nii.gz", segmentation="*/seg.nii.gz", labels="brats2015",
    )  # fmt: skip


def test_glioma_with_non_zero_air_comes_back_to_the_voxel(glioma):
    case = prepare(glioma, "brats_2013_pat0004_1", 1.0)
    check(case, (1200, 1300))
    assert (case.native.orientation, case.native.shape) == ("LPS", (240, 240, 155))
    truth = native_labels(glioma, case.name)
    np.testing.assert_array_equal(labels_back(case.labels(), case), truth)
    # the tumour is on the patient's left: the lower half of X in RAS+
    assert case.mask_centre[0] < case.shape[0] / 2
    # BraTS calls it oedema or worse: brighter than the brain on FLAIR
    assert case.images()[1][case.labels() == 2].mean() > 1


def test_a_trained_for_modality_that_a_cohort_lacks_is_zero(glioma):
    rows = glioma.cases.iloc[:1]
    prepared = prepare_cohort(glioma, PrepareSettings(spacing=3.0), cases=list(rows["case"]), progress=False)
    sampler = Sampler(prepared, rows, SamplingSettings(patch=(32, 32, 32), batch_size=3), 0, FOUR)
    batch = sampler.augment(sampler.batch(0), 0)
    assert batch.present.tolist() == [[False, True, False, True]] * 3
    assert not batch.images[:, [0, 2]].any()
    assert batch.label_set == ("glioma",) * 3


def test_without_its_brain_mask_nearly_the_same_brain_is_found(glioma):
    case = "brats_2013_pat0001_1"
    mask = native_brain(glioma, case)
    without = Cohort(glioma.folder, glioma.info, glioma.cases.assign(brain_mask=None).astype({"brain_mask": "string"}))
    found = native_brain(without, case)
    assert 2 * (mask & found).sum() / (mask.sum() + found.sum()) > 0.99


def test_multiple_sclerosis_with_negative_resampling_values(real_data, tmp_path):
    cohort = import_cohort(
        "generic", real_data / "ms", tmp_path, images=images_of(*FOUR), segmentation="*/seg.nii.gz", labels="lesion"
    )
    case = prepare(cohort, "patient19", 1.0)
    check(case, (1000, 1300))
    assert case.native.orientation == "LAS"
    truth = native_labels(cohort, case.name)
    assert truth.sum() / 1000 == pytest.approx(49.8, abs=0.5)  # ml, as published with the case
    np.testing.assert_array_equal(labels_back(case.labels(), case), truth)


def test_stroke_with_flair_on_another_oblique_grid(real_data, tmp_path):
    cohort = import_cohort(
        "generic", real_data / "stroke", tmp_path, images=images_of("dwi", "adc", "flair"),
        segmentation="*/seg.nii.gz", labels="lesion",
    )  # fmt: skip
    case = prepare(cohort, "sub-strokecase0009", 2.0)
    check(case, (1300, 1600))
    assert case.native.shape == (112, 112, 73)  # the mask's grid, not the FLAIR's
    np.testing.assert_array_equal(labels_back(case.labels(), case), native_labels(cohort, case.name))
    assert max(nib.affines.obliquity(case.affine)) > np.deg2rad(10)  # kept: slices follow the anatomy
    dwi, adc, flair = case.images().astype(np.float32)
    infarct = case.labels() == 1
    assert dwi[infarct].mean() > 1.5
    assert adc[infarct].mean() < 0
    # both show one anatomy in one place: fluid is bright on ADC and dark on FLAIR
    brain = case.brain()
    assert np.corrcoef(adc[brain], flair[brain])[0, 1] < -0.2


def test_a_case_without_mask_or_labels(real_data, tmp_path):
    cohort = import_cohort("generic", real_data / "glioma_unlabelled", tmp_path, images=images_of(*FOUR))
    case = prepare(cohort, "TCGA-DU-7294", 2.0)
    check(case, (1150, 1350))
    assert case.labels() is None
    assert case.label_set == ""
