"""Shared fixtures. Volumes have unequal axes, anisotropic spacing and a non-trivial affine on purpose: a swapped axis,
a forgotten flip or a mixed-up spacing cannot pass by symmetry."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("MPLBACKEND", "agg")
sys.path.insert(0, str(Path(__file__).parent))  # for `folder_recorder` and `hostile`

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort, CohortInfo
from workbench.files import write_json
from workbench.records.run_folder import RunFolder

SHAPE = (36, 44, 30)
SPACING = (4.0, 4.0, 5.0)
AFFINE = np.array([[-4.0, 0, 0, 70], [0, -4.0, 0, 80], [0, 0, 5.0, -60], [0, 0, 0, 1]])  # LPS order, as BraTS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes and repeats in another form what slow tests try is left to a nightly run."""
    if os.environ.get("WORKBENCH_NIGHTLY"):
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="only with WORKBENCH_NIGHTLY=1"))


def _own_threads() -> None:
    # a test that runs an experiment in this process leaves its number of threads behind: two workers of two threads each on two
    # cores wait for each other, and small networks take thirty times as long
    if "PYTEST_XDIST_WORKER" in os.environ and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Fixtures compute on as many threads as this worker has."""
    _own_threads()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """So do tests, whatever their fixtures did."""
    _own_threads()


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1


def make_tiny_cohort(folder: Path, subjects: int = 12, seed: int = 0) -> Cohort:
    """A cohort of ellipsoid heads with three-layer tumours, BraTS 2023 labels, LPS, 4x4x5 mm; two sites.

    Crude on purpose: it is for wiring, not for science (that is the phantom's task). IDH equals 'T2 brighter than FLAIR in
    the tumour'. Case 1 lacks flair, case 2 lacks t2, case 3 has no mask, case 4 has a whole-tumour mask only.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(subjects):
        case = f"TINY-{index:05d}-000"
        brain = ellipsoid(SHAPE, (18, 22, 15), (14, 18, 12))
        centre = (12 + rng.uniform(0, 10), 14 + rng.uniform(0, 14), 11 + rng.uniform(0, 7))
        labels = np.zeros(SHAPE, np.uint8)
        for label, radius in ((2, 7.0), (3, 4.5), (1, 2.5)):
            labels[ellipsoid(SHAPE, centre, (radius, radius, radius * 0.8)) & brain] = label
        idh = index % 2
        row: dict[str, object] = {
            "case": case, "subject": case[:10], "timepoint": "0", "site": ("north", "south")[index % 3 == 0],
            "idh": idh, "codel": int(index % 4 == 1), "grade": 2 + index % 3, "age": 40.0 + index, "sex": "FM"[index % 2],
        }  # fmt: skip
        (folder / "images" / case).mkdir(parents=True, exist_ok=True)
        for modality, contrast in {"t1": -20, "t1c": 40, "t2": 60, "flair": 60 - 50 * idh}.items():
            if (index, modality) in {(1, "flair"), (2, "t2")}:
                continue
            image = brain * 100.0 + (labels > 0) * contrast + (labels == 3) * (60 if modality == "t1c" else 0)
            image = np.where(brain, image + rng.normal(0, 8, SHAPE), 0).astype(np.float32)
            name = f"images/{case}/{case}-{modality}.nii.gz"
            nib.save(nib.Nifti1Image(image, AFFINE), folder / name)
            row[modality] = name
        if index != 3:
            drawn = (labels > 0).astype(np.uint8) if index == 4 else labels
            name = f"images/{case}/{case}-seg.nii.gz"
            nib.save(nib.Nifti1Image(drawn, AFFINE), folder / name)
            row["segmentation"] = name
            row["labels"] = "WT" if index == 4 else "glioma"
        rows.append(row)
    info = CohortInfo(name="tiny", modalities=("t1", "t1c", "t2", "flair"), label_convention="brats2023", phantom=True)
    return Cohort.create(folder, info, pd.DataFrame(rows))


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Twelve crude subjects; read-only. See `make_tiny_cohort`."""
    return make_tiny_cohort(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real cases, or a skip that says why."""
    value = os.environ.get("WORKBENCH_REAL_DATA", "")
    if not value:
        pytest.skip("WORKBENCH_REAL_DATA is not set: no real cases to read")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"WORKBENCH_REAL_DATA={value} is not a folder")
    return folder


def load(name: str) -> ModuleType:
    """`tests/<name>.py` as a module: tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fabricate() -> ModuleType:
    """`tests/fabricate.py` as a module."""
    return load("fabricate")


@pytest.fixture(scope="session")
def make_case_run() -> Callable[[Cohort, Path], RunFolder]:
    """Function that makes a run with predictions over the tiny cohort; see tests/case_run.py."""
    return load("case_run").make_case_run


@pytest.fixture(scope="session")
def runs_folder(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs in the real format with random predictions; see tests/fabricate.py. Read-only."""
    return fabricate.make_runs(tmp_path_factory.mktemp("fabricated"))


@pytest.fixture(scope="session")
def sweep_runs(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with the ablation "attention" of 24 cells, four of them unfinished; see tests/fabricate.py."""
    return fabricate.make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="session")
def hostile_folder(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `runs`, `cohorts` and `sweep/runs` in which every name and remark is hostile; see tests/hostile.py. Read-only."""
    module = load("hostile")
    folder = tmp_path_factory.mktemp("hostile")
    module.make_hostile_runs(folder, fabricate, lambda where: make_tiny_cohort(where, subjects=3))
    module.make_hostile_sweep(folder / "sweep", fabricate)
    return folder


@pytest.fixture
def small_sweep(sweep_runs: Path, tmp_path: Path) -> Path:
    """A copy of its four cells of `mts_unet`, all completed (baseline and no_attention, two folds), that a test may break."""
    from workbench.records.sweep_plan import plan_path, read_plan

    plan = read_plan(sweep_runs, "attention")
    cells = tuple(cell for cell in plan.cells if cell.method == "mts_unet")
    for cell in cells:
        shutil.copytree(sweep_runs / cell.run, tmp_path / "runs" / cell.run)
    write_json(plan_path(tmp_path / "runs", plan.name), plan.model_copy(update={"cells": cells}).model_dump(mode="json"))
    return tmp_path / "runs"
