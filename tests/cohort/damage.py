"""Ways to damage a cohort of tiny images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

SHAPE = (24, 30, 20)
AFFINE = np.array([[-5.0, 0, 0, 60], [0, -5.0, 0, 75], [0, 0, 6.0, -60], [0, 0, 0, 1]])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray | None], affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    array = np.asanyarray(image.dataobj).copy()
    changed = change(array)
    save(path, array if changed is None else changed, image.affine if affine is None else affine)


def put(array: np.ndarray, value: float) -> None:
    array[0, 0, 0] = value


def shifted(mm: float) -> np.ndarray:
    moved = AFFINE.copy()
    moved[1, 3] += mm
    return moved


def edit_table(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(folder / "cases.parquet")).to_parquet(folder / "cases.parquet", index=False)
