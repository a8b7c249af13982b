"""Writing a cohort folder: whole or not at all, and never over another one unless told."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import pandas as pd

from workbench.cohort.table import CASES_FILE, FOLDS_FILE, INFO_FILE, TRUTH_FILE, Cohort, CohortInfo, normalise_cases
from workbench.errors import WorkbenchError
from workbench.files import write_parquet


def relative_root(images: Path, folder: Path) -> str:
    """Where the images lie as seen from the cohort folder: relative where that is possible, else absolute.

    A relative root lets images and cohort move together; it does not exist between two drives.
    """
    images, folder = Path(images).resolve(), Path(folder).resolve()
    try:
        return Path(os.path.relpath(images, folder)).as_posix()
    except ValueError:
        return images.as_posix()


def refuse_existing(folder: Path, overwrite: bool) -> None:
    """Refuse a target that already holds a cohort.

    Raises:
        WorkbenchError: there is one and `overwrite` is false, or the target is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file; give a folder for the cohort")
    if (folder / INFO_FILE).exists() and not overwrite:
        raise WorkbenchError(
            f"{folder} already holds a cohort; choose another folder, or say that it may be replaced (`--overwrite`)"
        )


def write_cohort(
    folder: str | Path, info: CohortInfo, cases: pd.DataFrame, *, overwrite: bool = False, truth: pd.DataFrame | None = None
) -> Cohort:
    """Write a cohort folder so that a reader meets either the whole cohort or none, even after a kill.

    Everything is written beside the target first; then only renames happen, `cohort.json` last. Other files of an existing
    folder stay; folds and truth of a replaced cohort go, since they belong to another table.

    Raises:
        WorkbenchError: the target holds a cohort already, or cannot be written.
        InputError: the table breaks the schema.
    """
    folder = Path(folder)
    refuse_existing(folder, overwrite)
    cases = normalise_cases(cases, info)
    staging = folder.parent / f".{uuid.uuid4().hex[:12]}.tmp.{folder.name}"
    try:
        Cohort.create(staging, info, cases)
        if truth is not None:
            write_parquet(staging / TRUTH_FILE, truth)
        if not folder.exists():
            staging.replace(folder)
        else:
            for name in (INFO_FILE, FOLDS_FILE, TRUTH_FILE):
                (folder / name).unlink(missing_ok=True)
            for name in (TRUTH_FILE, CASES_FILE, INFO_FILE):
                if (staging / name).exists():
                    (staging / name).replace(folder / name)
    except OSError as error:
        raise WorkbenchError(f"the cohort cannot be written to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Cohort.open(folder)
