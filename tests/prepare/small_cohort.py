"""A few cases of the tiny cohort, which a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from workbench.cohort.table import Cohort
from workbench.prepare.settings import PrepareSettings

FOUR = PrepareSettings(spacing=4.0)


def copy_of(cohort: Cohort, folder: Path, cases: int) -> Cohort:
    """The first cases of a cohort in a folder of their own, which the test may spoil."""
    shutil.copytree(cohort.folder, folder, ignore=shutil.ignore_patterns("prepared", "*.parquet", "*.json"))
    return Cohort.create(folder, cohort.info, cohort.cases.iloc[:cases])


def change(cohort: Cohort, case: str, modality: str, edit) -> None:
    path = cohort.path(case, modality)
    image = nib.load(path)
    array = edit(np.asarray(image.dataobj, dtype=np.float32).copy())
    nib.save(nib.Nifti1Image(array, image.affine), path)
