"""The generic reader: one glob pattern per modality. The text matched by the first `*` is the case."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from workbench.cohort.discovery import CaseFiles, Discovery, nifti_stem, walk_files
from workbench.cohort.table import SUBJECT_COLUMNS
from workbench.errors import InputError, ParameterError, Problem, listed

_MODALITY_NAME = re.compile(r"[a-z][a-z0-9_]*")


def glob_pattern(glob: str) -> re.Pattern[str]:
    """A glob relative to the source folder as a regular expression over relative POSIX paths.

    `*` matches within one name, `?` one character, `[...]` a set, and `**` as a whole name any number of folders. The first
    `*` becomes the group `case`; `**` never does, since a case name holds no path separator.

    Raises:
        ParameterError: the glob is absolute, leaves the folder, or has no `*` that could name the case.
    """
    path = PurePosixPath(glob)
    if path.is_absolute() or ".." in path.parts:
        raise ParameterError(f"the glob '{glob}' must be relative to the source folder and stay inside it")
    names = [part for part in path.parts if part != "."]
    expression, named = "", False
    for index, name in enumerate(names):
        last = index == len(names) - 1
        if name == "**":
            expression += ".*" if last else "(?:[^/]+/)*"
            continue
        for token in re.findall(r"\*+|\?|\[[^\]]+\]|.", name):
            if token.startswith("*"):
                expression += "[^/]*" if named else "(?P<case>[^/]+)"
                named = True
            elif token == "?":
                expression += "[^/]"
            elif len(token) > 1:
                inner = token[1:-1].replace("\\", "\\\\")
                expression += f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
            else:
                expression += re.escape(token)
        expression += "" if last else "/"
    if not named:
        raise ParameterError(f"the glob '{glob}' has no '*': the text matched by its first '*' is the name of the case")
    return re.compile(expression)


def check_modality_names(names: list[str]) -> None:
    """Refuse names that cannot be a column of the table of cases.

    Raises:
        ParameterError: naming the modality.
    """
    for name in names:
        if not _MODALITY_NAME.fullmatch(name):
            raise ParameterError(f"modality '{name}': a name is made of a-z, 0-9 and _, and starts with a letter (as in t1c)")
        if name in SUBJECT_COLUMNS:
            raise ParameterError(f"modality '{name}': this is already the name of another column of the table of cases")


def discover(source: Path, images: dict[str, str], brain_mask: str = "", segmentation: str = "") -> Discovery:
    """Find the cases of a folder by globs.

    Args:
        source: folder that the globs are relative to.
        images: modality -> glob, in the order in which the cohort shall list them.
        brain_mask: glob of the brain masks, '' = none.
        segmentation: glob of the segmentations, '' = none.

    Raises:
        ParameterError: no modality given, or a bad name or glob.
        InputError: one `Problem` per glob that matches no NIfTI file at all.
    """
    if not images:
        raise ParameterError(
            "the generic reader needs at least one modality and its glob, e.g. `--flair '*/flair.nii.gz'` or `--image NAME=GLOB`"
        )
    check_modality_names(list(images))
    globs = dict(images)
    globs |= {column: glob for column, glob in (("brain_mask", brain_mask), ("segmentation", segmentation)) if glob}
    patterns = {column: glob_pattern(glob) for column, glob in globs.items()}
    files = list(walk_files(source))
    found, problems = CaseFiles(), []
    for column, pattern in patterns.items():
        matched = [(path, match["case"]) for path in files if (match := pattern.fullmatch(path))]
        usable = [(path, case) for path, case in matched if nifti_stem(path) is not None]
        if not usable:
            problems.append(_nothing(column, globs[column], source, files, len(matched)))
        for path, case in usable:
            stem = nifti_stem(case)  # a pattern such as '*' or '*.gz' would else leave the suffix in the name
            found.add(stem or case, column, path)
    if problems:
        raise InputError(*problems)
    table = found.table(tuple(globs))
    masks_only = table[table[list(images)].isna().all(axis=1)]
    table = table.drop(masks_only.index).reset_index(drop=True)
    table["subject"] = table["case"]
    remarks = []
    if len(masks_only):
        remarks.append(f"{len(masks_only)} masks belong to no image and were left out: {listed(masks_only['case'].tolist())}")
    if table.empty:
        raise InputError(Problem(message="no case has an image", remedy="make the first '*' of all globs match the same text"))
    return Discovery(table, tuple(images), remarks=remarks)


def _nothing(column: str, glob: str, source: Path, files: list[str], matched: int) -> Problem:
    if matched:
        saw = f"{matched} files match, but none is named as a NIfTI (.nii or .nii.gz)"
    else:
        saw = f"the folder holds {len(files)} files" + (f", such as {listed(files, 3)}" if files else "")
    return Problem(
        file=str(source),
        channel=column,
        message=f"the glob '{glob}' matches no image; {saw}",
        remedy="correct the glob (it is relative to the folder), or leave the option out",
    )
