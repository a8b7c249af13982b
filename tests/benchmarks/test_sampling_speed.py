"""What the array store and batched augmentation are for, as ratios: absolute times belong to a machine, ratios nearly not.

Run with `make bench`; in the ordinary suite each compared function runs once, so that it keeps working.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.transforms import RandAffine
from scipy import ndimage

from workbench.cohort.table import Cohort, CohortInfo
from workbench.prepare.prepared import PreparedCase
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.sampling.augmentation import AugmentationSettings, apply, draw
from workbench.sampling.batches import Sampler, SamplingSettings
from workbench.sampling.patches import read_patch

MODALITIES = ("t1", "t1c", "t2", "flair")
SHAPE, PATCH = (100, 120, 96), (48, 48, 48)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """One case of four smooth, noisy volumes in an ellipsoid brain, at 1.5 mm."""
    folder, rng = tmp_path_factory.mktemp("speed"), np.random.default_rng(0)
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)]
    brain = sum(axis**2 for axis in axes) < 0.9
    row: dict[str, object] = {"case": "C", "subject": "S", "segmentation": "seg.nii.gz"}
    for modality in MODALITIES:
        image = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3) * 1000 + rng.normal(500, 5, SHAPE)
        nib.save(
            nib.Nifti1Image(np.where(brain, image, 0).astype(np.int16), np.diag([1.5, 1.5, 1.5, 1])),
            folder / f"{modality}.nii.gz",
        )
        row[modality] = f"{modality}.nii.gz"
    mask = np.zeros(SHAPE, np.uint8)
    mask[40:60, 50:70, 40:55] = 2
    nib.save(nib.Nifti1Image(mask, np.diag([1.5, 1.5, 1.5, 1])), folder / "seg.nii.gz")
    info = CohortInfo(name="speed", modalities=MODALITIES, label_convention="brats2023", phantom=True)
    return Cohort.create(folder, info, pd.DataFrame([row]))


@pytest.fixture(scope="module")
def case(cohort: Cohort) -> PreparedCase:
    return prepare_cohort(cohort, PrepareSettings(spacing=1.5), progress=False).case("C")


@pytest.mark.benchmark(group="patch of 48^3, four modalities")
def test_patch_from_the_store(benchmark, case):
    images, _ = benchmark(read_patch, case, (45, 55, 45), PATCH, MODALITIES)
    assert images.shape == (4, *PATCH)


@pytest.mark.benchmark(group="patch of 48^3, four modalities")
def test_patch_from_whole_nifti_files(benchmark, cohort):
    def load() -> np.ndarray:
        files: list[Path] = [cohort.image_root / f"{modality}.nii.gz" for modality in MODALITIES]
        return np.stack([np.asarray(nib.load(file).dataobj, np.float32)[20:68, 30:78, 20:68] for file in files])

    assert benchmark(load).shape == (4, *PATCH)


@pytest.fixture(scope="module")
def batch(cohort: Cohort, case: PreparedCase):
    prepared = prepare_cohort(cohort, PrepareSettings(spacing=1.5), progress=False)
    return Sampler(prepared, cohort.cases, SamplingSettings(patch=PATCH, batch_size=4), 0).batch(0)


@pytest.mark.benchmark(group="rotation and scaling of four samples with labels")
def test_batched_affine(benchmark, batch):
    settings = AugmentationSettings(flip=(0, 0, 0), affine=1.0, gamma=0, noise=0, bias=0)
    drawn = draw(0, 0, batch, settings)
    assert benchmark(apply, batch, drawn).images.shape == batch.images.shape


@pytest.mark.benchmark(group="rotation and scaling of four samples with labels")
def test_affine_sample_by_sample_with_monai(benchmark, batch):
    images = RandAffine(prob=1.0, rotate_range=[0.26] * 3, scale_range=[0.15] * 3, mode="bilinear", padding_mode="zeros")
    labels = RandAffine(prob=1.0, rotate_range=[0.26] * 3, scale_range=[0.15] * 3, mode="nearest", padding_mode="zeros")

    def run() -> torch.Tensor:
        for index in range(len(batch.images)):
            images.set_random_state(index)
            labels.set_random_state(index)
            labels(batch.labels[index][None].float())
        return torch.stack([images(sample) for sample in batch.images])

    assert benchmark(run).shape == batch.images.shape
