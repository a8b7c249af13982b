"""What a reader finds in a folder of images, before subject data are added."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

NIFTI_SUFFIXES = (".nii.gz", ".nii")


@dataclass
class Discovery:
    """Cases found by a reader.

    Attributes:
        cases: columns `case`, `subject`, optionally `timepoint`, and one path column per modality, `brain_mask`,
            `segmentation` and `repeats`; paths relative to the source folder, POSIX style.
        modalities: the path columns that are images, in order.
        space: the space the images are in.
        labels: the reader's own label convention; '' = it has none.
        remarks: what the user should know about, one sentence each.
    """

    cases: pd.DataFrame
    modalities: tuple[str, ...]
    space: str = "native"
    labels: str = ""
    remarks: list[str] = field(default_factory=list)


class CaseFiles:
    """Files per case and column. Of several for one place the first in sorted order counts, the rest are `repeats`."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, list[str]]] = {}

    def add(self, case: str, column: str, path: str) -> None:
        """Note that `path` may be the `column` of `case`."""
        self._files.setdefault(case, {}).setdefault(column, []).append(path)

    def table(self, columns: tuple[str, ...]) -> pd.DataFrame:
        """One row per case, sorted by case name: `case`, the columns asked for (null = no file), `repeats`."""
        rows = []
        for case in sorted(self._files):
            found = self._files[case]
            row: dict[str, str | None] = {"case": case}
            repeats: list[str] = []
            for column in columns:
                paths = sorted(found.get(column, []))
                row[column] = paths[0] if paths else None
                repeats += [f"{column}={path}" for path in paths[1:]]
            row["repeats"] = ";".join(repeats) or None
            rows.append(row)
        return pd.DataFrame(rows, columns=["case", *columns, "repeats"])


def nifti_stem(name: str) -> str | None:
    """A NIfTI file's name without its suffix; None where it is not named as one."""
    return next((name[: -len(suffix)] for suffix in NIFTI_SUFFIXES if name.endswith(suffix)), None)


def walk_files(source: Path) -> Iterator[str]:
    """All files below a folder, relative to it, POSIX style, in sorted order of folders.

    Hidden files and folders are skipped: `._t1.nii.gz` is what some systems leave beside `t1.nii.gz`, and is no image.
    """
    for folder, subfolders, files in os.walk(source, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        base = Path(folder).relative_to(source)
        for name in sorted(files):
            if not name.startswith("."):
                yield (base / name).as_posix()
