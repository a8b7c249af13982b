"""Prepared cases and nets whose answers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from workbench.cohort.table import Cohort, CohortInfo
from workbench.contracts import Prediction
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import PreparedCohort, prepare_cohort


class PointNet(nn.Module):
    """Each voxel's logits depend on that voxel alone; the marker reads the mean of the window, the map shows the input."""

    name = "point"
    divisor = 4
    minimum = 8

    def __init__(self, modalities: tuple[str, ...], markers: tuple[str, ...] = (), segments: bool = True) -> None:
        super().__init__()
        self.modalities, self.markers, self.segments = modalities, markers, segments
        self.layer = nn.Conv3d(len(modalities), 3, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 3 * len(modalities)).reshape(self.layer.weight.shape))
            self.layer.bias.copy_(torch.tensor([0.3, 0.0, -0.2]))
        self.calls: list[tuple[tuple[int, ...], tuple[str, ...]]] = []
        self.seen: list[Tensor] = []

    def logits(self, images: Tensor) -> Tensor:
        return self.layer(images)

    def forward(self, images, present, modalities=None, *, tasks=("segmentation", "markers"), maps=False) -> Prediction:
        assert tuple(modalities) == self.modalities
        assert not self.training
        assert all(side % self.divisor == 0 for side in images.shape[2:])
        assert not images[~present].any()
        self.calls.append((tuple(images.shape), tuple(tasks)))
        self.seen.append(images.clone())
        markers = {}
        if "markers" in tasks:
            pooled = images.mean((2, 3, 4))
            markers = {name: pooled.sum(1, keepdim=True) if name != "grade" else pooled[:, :2] for name in self.markers}
        return Prediction(
            segmentation=self.logits(images) if self.segments and "segmentation" in tasks else None,
            markers=markers,
        )


@pytest.fixture(scope="session")
def prepared(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    """The tiny cohort at 4 mm: 4 x 4 x 5 mm images are resampled along one axis; case 1 lacks flair, case 3 has no mask."""
    settings = PrepareSettings(spacing=4.0)
    return prepare_cohort(tiny_cohort, settings, folder=tmp_path_factory.mktemp("prepared"), progress=False)


@pytest.fixture(scope="session")
def isotropic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, PreparedCohort]:
    """One case of 2 mm voxels in an oblique-free but flipped and permuted orientation (PIR), prepared at 2 mm: nothing is
    interpolated. Its qform and sform codes differ, as scanners write them."""
    folder = tmp_path_factory.mktemp("isotropic")
    shape = (18, 26, 22)
    affine = np.array([[0, 0, 2.0, -20], [-2.0, 0, 0, 17], [0, -2.0, 0, 25], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    brain = sum(((g - n / 2) / (n / 2 - 3)) ** 2 for g, n in zip(grid, shape, strict=True)) < 1
    labels = np.where(brain, rng.integers(0, 4, shape), 0).astype(np.uint8)
    for name, values in {
        "t1": np.where(brain, 100 + rng.normal(0, 5, shape), 0).astype(np.float32),
        "mask": brain.astype(np.uint8),
        "seg": labels,
    }.items():
        image = nib.Nifti1Image(values, affine)
        image.header.set_qform(affine, code=1)
        image.header.set_sform(affine, code=4)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, folder / f"{name}.nii.gz")
    row = {
        "case": "ISO", "subject": "ISO", "t1": "t1.nii.gz", "brain_mask": "mask.nii.gz", "segmentation": "seg.nii.gz",
        "labels": "glioma",
    }  # fmt: skip
    info = CohortInfo(name="iso", modalities=("t1",), label_convention="brats2023", phantom=True)
    cohort = Cohort.create(folder, info, pd.DataFrame([row]))
    return cohort, prepare_cohort(cohort, PrepareSettings(spacing=2.0), progress=False)


@pytest.fixture
def point_net() -> Callable[..., PointNet]:
    """The class, so that tests need not import from a conftest."""
    return PointNet


@pytest.fixture(scope="session")
def image_of() -> Callable[[Cohort, str], Path]:
    """Path of a case's T1."""
    return lambda cohort, case: cohort.image_root / str(cohort.cases.set_index("case").loc[case, "t1"])
