"""Pseudonyms for cases and subjects: their names stay outside of the cohort, in a key file that only its owner can read."""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from workbench.cohort.scan import copy_image
from workbench.cohort.table import CASES_FILE, DIGESTS_FILE, FOLDS_FILE, INFO_FILE, TRUTH_FILE, Cohort, CohortInfo
from workbench.cohort.writing import write_cohort
from workbench.errors import InputError, ParameterError, Problem, WorkbenchError
from workbench.files import atomic_path, read_json

IMAGES_FOLDER = "images"
"""Folder of a cohort with pseudonyms that holds the copies of its images."""
PREFIXES = {"case": "case-", "subject": "sub-"}
KEY_COLUMNS = ["kind", "name", "pseudonym"]
_SHORTEST_NAME = 4
"""A name of fewer characters (`1`, `p7`) stands in other columns by chance."""

Key = dict[str, dict[str, str]]
"""Kind (case or subject) -> original name -> pseudonym."""


def key_path(folder: Path) -> Path:
    """The key file of a cohort folder: beside it, never in it."""
    folder = folder.resolve()
    return folder.with_name(folder.name + ".key.csv")


def read_key(path: Path) -> Key:
    """Read a key file; one that does not exist is empty.

    Raises:
        WorkbenchError: it lies in a cohort, others may read it, or it is no such file.
    """
    for folder in path.parents:
        if (folder / INFO_FILE).exists():
            raise WorkbenchError(
                f"the key {path} would lie in the cohort {folder}: choose a folder outside of it for the new one"
            )
    key: Key = {kind: {} for kind in PREFIXES}
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise WorkbenchError(f"the key {path} is no regular file; a link could lead into a cohort")
    if not path.exists():
        return key
    if path.stat().st_mode & 0o077:
        raise WorkbenchError(f"the key {path} can be read or written by others: `chmod 600 {path}`")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkbenchError(f"the key {path} cannot be read: {error}") from error
    if not rows or rows[0] != KEY_COLUMNS:
        raise WorkbenchError(f"the key {path} does not begin with the columns {', '.join(KEY_COLUMNS)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(KEY_COLUMNS) or row[0] not in key or not re.fullmatch(PREFIXES[row[0]] + "[0-9]{4,9}", row[2]):
            raise WorkbenchError(f"the key {path}: row {number} is no kind, name and pseudonym")
        kind, name, pseudonym = row
        if name in key[kind] or pseudonym in key[kind].values():
            raise WorkbenchError(f"the key {path}: row {number} has a name or pseudonym that an earlier row has")
        key[kind][name] = pseudonym
    return key


def write_key(path: Path, key: Key) -> None:
    """Write a key file whole or not at all, readable for its owner only. Its order is that of the pseudonyms.

    Raises:
        WorkbenchError: it cannot be written.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(KEY_COLUMNS)
    for kind, pseudonyms in key.items():
        rows.writerows([kind, name, pseudonym] for name, pseudonym in sorted(pseudonyms.items(), key=lambda item: item[1]))
    try:
        with atomic_path(path) as unfinished:
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # private before a name stands in it
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
    except OSError as error:
        raise WorkbenchError(f"the key {path} cannot be written: {error.strerror or error}") from error


def extend_key(key: Key, cases: pd.DataFrame) -> Key:
    """A key with a pseudonym for every case and subject of a table: known names keep theirs.

    New ones are numbered in a random order after those that are there, so that a number says nothing about a name. The cases
    of one subject follow each other, by their time point.
    """
    shuffled = cases.iloc[_shuffled(range(len(cases)))]
    subjects = list(dict.fromkeys(shuffled["subject"]))
    place = {subject: index for index, subject in enumerate(subjects)}
    ordered = shuffled.sort_values("timepoint", kind="stable", na_position="last")
    ordered = ordered.sort_values("subject", kind="stable", key=lambda column: column.map(place))
    return {"case": _extended(key["case"], ordered["case"], "case"), "subject": _extended(key["subject"], subjects, "subject")}


def refuse_names(info: CohortInfo, cases: pd.DataFrame) -> None:
    """Refuse names that would enter the cohort by another way than the two columns of names.

    Raises:
        InputError: the site, the time point or the lesion of a case holds one; one `Problem` per column.
        ParameterError: the name of the cohort holds one.
    """
    names = {str(name) for column in ("case", "subject") for name in cases[column] if len(str(name)) >= _SHORTEST_NAME}
    if not names:
        return
    found = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + r")(?!\w)", re.IGNORECASE)
    if match := found.search(info.name):
        raise ParameterError(f"the name of the cohort holds '{match[0]}', the name of a case or subject: give another (`--name`)")
    problems = []
    for column in ("timepoint", "site", "lesion"):
        held = cases[cases[column].map(lambda text: bool(found.search(str(text))), na_action="ignore").eq(True).fillna(False)]
        if not held.empty:
            message = f"'{held[column].iloc[0]}' holds the name of a case or subject, which pseudonyms are to keep out"
            problems.append(
                Problem(case=str(held["case"].iloc[0]), channel=column, message=message, remedy="rename it in the CSV")
            )
    if problems:
        raise InputError(*problems)


def refuse_target(folder: Path, source: Path, pseudonyms: bool) -> None:
    """Refuse a target where names and pseudonyms would meet: all that stands in it must come from an import of the same kind.

    Raises:
        WorkbenchError: with pseudonyms, it is or holds something else, or its key is gone; without, it is a cohort with them.
    """
    if not pseudonyms:
        if (folder / INFO_FILE).exists() and _says_pseudonyms(folder):
            raise WorkbenchError(
                f"{folder} was made with pseudonyms and would get names: say `--pseudonyms`, or choose another folder"
            )
        return
    inner, outer = folder.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise WorkbenchError(
            f"{folder} and the folder of the images, {source}, lie in each other: names would stay in the cohort"
        )
    if (folder / INFO_FILE).exists():
        if not _says_pseudonyms(folder):
            raise WorkbenchError(f"{folder} was made without pseudonyms, its names would stay behind: choose another folder")
        if not key_path(folder).exists():
            raise WorkbenchError(
                f"the key of {folder} is not beside it ({key_path(folder)}): put it back, or choose another folder; without it "
                "the same patients would get other pseudonyms"
            )
        return
    if not folder.is_dir():
        return
    replaced = (IMAGES_FOLDER, CASES_FILE, FOLDS_FILE, TRUTH_FILE, DIGESTS_FILE)
    other = [path.name for path in folder.iterdir() if path.name not in replaced]
    pattern = re.compile(PREFIXES["case"] + "[0-9]{4,9}")
    images = folder / IMAGES_FOLDER
    other += [f"{IMAGES_FOLDER}/{path.name}" for path in images.glob("*") if not pattern.fullmatch(path.name)]
    if other:
        raise WorkbenchError(
            f"{folder} holds '{other[0]}', which may carry names: choose a new folder for a cohort with pseudonyms"
        )


def _says_pseudonyms(folder: Path) -> bool:
    info = read_json(folder / INFO_FILE)  # not the whole cohort: one that is damaged may be replaced
    return isinstance(info, dict) and info.get("pseudonyms") is True


def write_pseudonymous(
    source: Path, out: Path, info: CohortInfo, cases: pd.DataFrame, *, overwrite: bool = False, progress: bool = False
) -> Cohort:
    """Write a cohort with pseudonyms: the key first, then copies beside the target, then renames, `cohort.json` last.

    So a cohort never stands there without its key or its images, and whatever breaks off can be repeated.

    Args:
        source: folder that the paths in `cases` are relative to.
        out: the cohort folder; see `refuse_target`.
        info: what the cohort is; it says that it has pseudonyms.
        cases: the table with the original names, see `normalise_cases`.
        overwrite: replace a cohort that is already there.
        progress: show how far the copying is.

    Raises:
        InputError: an image cannot be read, or a column but those of names holds a name.
        ParameterError: the name of the cohort holds a name.
        WorkbenchError: the key is not to be trusted, or something cannot be written.
    """
    refuse_names(info, cases)
    path = key_path(out)
    key = extend_key(read_key(path), cases)
    write_key(path, key)
    staging = path.with_name(f".{out.resolve().name}.{IMAGES_FOLDER}.tmp")
    try:
        copy_images(source, staging, cases, info.modalities, key, progress=progress)
        out.mkdir(parents=True, exist_ok=True)
        for name in (INFO_FILE, DIGESTS_FILE):
            (out / name).unlink(missing_ok=True)
        if (out / IMAGES_FOLDER).exists():
            shutil.rmtree(out / IMAGES_FOLDER)
        staging.replace(out / IMAGES_FOLDER)
    except OSError as error:
        raise WorkbenchError(f"the images cannot be written to {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return write_cohort(out, info, pseudonymous_cases(cases, info.modalities, key), overwrite=overwrite)


def pseudonymous_cases(cases: pd.DataFrame, modalities: Sequence[str], key: Key) -> pd.DataFrame:
    """The table with pseudonyms, in their order, and with the paths of the copies relative to the cohort's images."""
    table = cases.copy()
    for kind in PREFIXES:
        table[kind] = table[kind].map(key[kind]).astype("string")
    for column in (*modalities, "brain_mask", "segmentation"):
        table[column] = (table["case"] + f"/{column}.nii.gz").where(table[column].notna())
    # of the files that also fitted a place, the place may stay but not the path
    table["repeats"] = table["repeats"].map(
        lambda text: ";".join(f"{part.partition('=')[0]}=another file" for part in _parts(text, modalities)), na_action="ignore"
    )
    return table.sort_values("case", key=lambda column: column.str.len().astype(str).str.zfill(3) + column).reset_index(drop=True)


def copy_images(
    source: Path, target: Path, cases: pd.DataFrame, modalities: Sequence[str], key: Key, *, progress: bool = False
) -> None:
    """Copy all images of a table under pseudonyms, with fresh headers, into a folder that is made anew.

    Raises:
        InputError: one `Problem` per image that cannot be read.
        WorkbenchError: they cannot be written.
    """
    problems: list[Problem] = []
    try:
        if target.exists():
            shutil.rmtree(target)  # what a killed import left
        target.mkdir(parents=True)
        for _, row in tqdm(cases.iterrows(), total=len(cases), desc="copy", unit="case", disable=not progress):
            folder = target / key["case"][str(row["case"])]
            folder.mkdir()
            for column in (*modalities, "brain_mask", "segmentation"):
                if pd.isna(row[column]):
                    continue
                try:
                    copy_image(source / str(row[column]), folder / f"{column}.nii.gz")
                except InputError as error:
                    problems += [replace(problem, case=str(row["case"]), channel=column) for problem in error.problems]
    except OSError as error:
        raise WorkbenchError(f"the images cannot be copied to {target}: {error.strerror or error}") from error
    if problems:
        raise InputError(*problems)


def _shuffled(values: Iterable[int]) -> list[int]:
    order = list(values)
    secrets.SystemRandom().shuffle(order)
    return order


def _extended(known: dict[str, str], names: Iterable[str], kind: str) -> dict[str, str]:
    prefix, made = PREFIXES[kind], dict(known)
    names = dict.fromkeys(map(str, names))
    number = max((int(pseudonym.removeprefix(prefix)) for pseudonym in known.values()), default=0)
    for name in names:
        if name in made:
            continue
        number += 1
        while f"{prefix}{number:04d}" in names:  # a pseudonym that is somebody's name would be taken for it
            number += 1
        made[name] = f"{prefix}{number:04d}"
    return made


def _parts(repeats: str, modalities: Sequence[str]) -> list[str]:
    """`column=path` each; a path may hold a semicolon."""
    columns = "|".join(map(re.escape, (*modalities, "brain_mask", "segmentation")))
    return re.findall(rf"(?:^|(?<=;))(?:{columns})=", repeats)
