"""Readers for the naming of the BraTS challenges. Files are found by suffix, wherever they lie below the source folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workbench.cohort.discovery import CaseFiles, Discovery, nifti_stem, walk_files
from workbench.errors import InputError, Problem

MODALITIES = ("t1", "t1c", "t2", "flair")


@dataclass(frozen=True)
class Naming:
    """How one edition names its files.

    Attributes:
        name: name of the reader.
        title: what it reads, in words.
        separator: what stands between case and suffix.
        suffixes: suffix -> column of the table of cases.
        case: regular expression of a case name; groups `subject` and, where the name says it, `timepoint`.
        labels: label convention of the masks.
        space: what the images are registered to.
        own: regular expression of the case names by which `auto` recognises this edition; default `case`.
    """

    name: str
    title: str
    separator: str
    suffixes: dict[str, str]
    case: re.Pattern[str]
    labels: str
    space: str = "SRI24"
    own: re.Pattern[str] | None = None

    def parse(self, path: str) -> tuple[str, str] | None:
        """(case, column) of a relative path; None where it is not named this way."""
        stem = nifti_stem(PurePosixPath(path).name)
        case, separator, suffix = (stem or "").rpartition(self.separator)
        if not separator or suffix not in self.suffixes or not self.case.fullmatch(case):
            return None
        return case, self.suffixes[suffix]

    def count(self, files: Sequence[str]) -> int:
        """How many of the paths are named as in this edition and no other."""
        own = self.own or self.case
        return sum((parsed := self.parse(path)) is not None and own.fullmatch(parsed[0]) is not None for path in files)


BRATS2021 = Naming(
    "brats2021",
    "BraTS 2021 and earlier: CASE/CASE_{t1,t1ce,t2,flair,seg}.nii.gz, labels 1 2 4",
    "_",
    {"t1": "t1", "t1ce": "t1c", "t2": "t2", "flair": "flair", "seg": "segmentation"},
    re.compile(r"(?P<subject>BraTS.+)", re.IGNORECASE),
    "brats2021",
)

BRATS2023 = Naming(
    "brats2023",
    "BraTS 2023: CASE/CASE-{t1n,t1c,t2w,t2f,seg}.nii.gz; CASE = patient and a time point of three digits",
    "-",
    {"t1n": "t1", "t1c": "t1c", "t2w": "t2", "t2f": "flair", "seg": "segmentation"},
    re.compile(r"(?P<subject>.+)-(?P<timepoint>\d{3})"),
    "brats2023",
    own=re.compile(r".+-0\d\d"),
)

BRATS2024 = Naming(
    "brats2024",
    "BraTS 2024, after treatment: CASE/CASE-{t1n,t1c,t2w,t2f,seg}.nii.gz; CASE = patient and time point from 100 on; label 4: RC",
    "-",
    BRATS2023.suffixes,
    BRATS2023.case,
    "brats2024",
    own=re.compile(r".+-[1-9]\d\d"),
)


def discover(source: Path, naming: Naming) -> Discovery:
    """Find the cases of a folder that are named as in `naming`. Cases without a segmentation are fine: validation folders.

    Raises:
        InputError: there is none; the message says what is there.
    """
    files = [path for path in walk_files(source) if nifti_stem(path)]
    found = CaseFiles()
    strangers = []
    for path in files:
        parsed = naming.parse(path)
        if parsed is None:
            strangers.append(path)
        else:
            found.add(*parsed, path)
    table = found.table((*MODALITIES, "segmentation"))
    table = table[table[list(MODALITIES)].notna().any(axis=1)].reset_index(drop=True)
    if table.empty:
        examples = f", such as {', '.join(files[:3])}" if files else ""
        raise InputError(
            Problem(
                file=str(source),
                message=f"no image is named as in {naming.title}; the folder holds {len(files)} NIfTI files{examples}",
                remedy="choose another reader, or the generic one with one glob per modality",
            )
        )
    parts = [match.groupdict() for case in table["case"] if (match := naming.case.fullmatch(case))]
    table["subject"] = [part["subject"] for part in parts]
    table["timepoint"] = [part.get("timepoint") for part in parts]
    remarks = []
    if strangers:
        remarks.append(f"{len(strangers)} NIfTI files are named otherwise and were left out, such as {strangers[0]}")
    if naming is BRATS2023 and table["segmentation"].notna().any() and (table["timepoint"].str[0] != "0").any():
        remarks.append(
            "time points from 100 on are those of the post-treatment data of BraTS 2024, whose label 4 is the resection cavity: "
            "import them with the reader brats2024, or with labels 'brats2024'"
        )
    return Discovery(table, MODALITIES, space=naming.space, labels=naming.labels, remarks=remarks)
