"""What the tests of the cohort share: a sound one of three cases, to be damaged."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort, CohortInfo

sys.path.insert(0, str(Path(__file__).parent))  # for `damage`
from damage import SHAPE, save


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "cohort"
    random = np.random.default_rng(0)
    rows = []
    for index in range(3):
        case = f"p{index}"
        row: dict[str, object] = {"case": case, "subject": case}
        for name in ("t1", "t2"):
            image = random.normal(100, 10, SHAPE).astype(np.float32)
            image[:, :8] = 0
            save(folder / case / f"{name}.nii.gz", image)
            row[name] = f"{case}/{name}.nii.gz"
        labels = np.zeros(SHAPE, np.uint8)
        labels[8:12, 14:18, 9:12] = 2
        labels[9, 15, 9 + index] = 1
        labels[10, 15, 10] = 4
        save(folder / case / "seg.nii.gz", labels)
        brain = np.zeros(SHAPE, np.uint8)
        brain[:, 8:] = 1
        save(folder / case / "brain.nii.gz", brain)
        rows.append(row | {"segmentation": f"{case}/seg.nii.gz", "brain_mask": f"{case}/brain.nii.gz"})
    info = CohortInfo(name="made up", modalities=("t1", "t2"), label_convention="brats2021")
    Cohort.create(folder, info, pd.DataFrame(rows))
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "cohort"))
