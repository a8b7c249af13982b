"""Radiomics features of real gliomas: two of four sequences, masks by experts, labels of BraTS 2015."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.experiments.radiomics_features import MaskSource, measure
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort

pytestmark = [pytest.mark.real_data, pytest.mark.filterwarnings("error::RuntimeWarning")]


@pytest.fixture(scope="module")
def glioma(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    images = {name: f"*/{name}.nii.gz" for name in ("t1c", "flair")}
    return import_cohort(
        "generic", real_data / "glioma", tmp_path_factory.mktemp("glioma"), images=images, brain_mask="*/brainmask.nii.gz",
        segmentation="*/seg.nii.gz", labels="brats2015",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["truth", "brain"])
def test_real_tumours_have_finite_and_plausible_features(glioma: Cohort, kind: str) -> None:
    prepared = prepare_cohort(glioma, PrepareSettings(spacing=2.0), progress=False)
    table = measure(glioma, prepared, glioma.cases, ("t1", "t1c", "flair"), MaskSource(kind), True)
    image = table[[name for name in table.columns if not name.startswith("clinical/")]]
    assert np.isfinite(image).all(axis=None)  # all regions are there; the age is not known
    assert (image["missing/t1"] == 1).all()
    assert not [name for name in image if "/t1/" in name and not name.startswith("missing")]
    region = "WT" if kind == "truth" else "brain"
    low, high = (10, 300) if kind == "truth" else (1000, 1900)
    assert image[f"shape/{region}/volume"].between(low, high).all()
    assert image[f"shape/{region}/sphericity"].between(0.2, 1.0).all()
    if kind == "truth":
        # what the annotators called enhancing is brighter on T1c than the brain's mean, and oedema is bright on FLAIR
        assert (image["intensity/ET/t1c/mean"] > 0.5).all()
        assert (image["intensity/ED/flair/mean"] > 0.5).all()
        assert (image["shape/WT/volume"] > image["shape/ET/volume"]).all()
    else:
        assert image[f"intensity/{region}/t1c/mean"].abs().max() < 0.05
