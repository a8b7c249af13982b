"""`check_cohort`: everything that is known to go wrong with a cohort, found before anything is computed from it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath

import pandas as pd
from tqdm.auto import tqdm

from workbench.cohort.folds import read_folds
from workbench.cohort.inspection import MASKS, Content, inspect_case, inspect_row
from workbench.cohort.table import CASES_FILE, FLAWS, FOLDS_FILE, PHANTOM_FILE, Cohort
from workbench.errors import InputError, Problem, WorkbenchError


def check_cohort(cohort: Cohort | str | Path, *, workers: int = 1, progress: bool = False) -> list[Problem]:
    """Look for every known enemy of a cohort; all files are read once, as a stream.

    Table: schema, cases without an image, columns without a file, paths that leave the image root, file names that say
    another modality. Files: missing, empty, truncated, damaged, not NIfTI, wrongly named, not 3-D, of an impossible size or
    longer than they say (gzip bombs), NaN, constant, suspicious header. Masks: values outside the convention or the case's
    label set, floating point, empty, on the grid of no image. Cases: modalities that disagree. Cohort: the same image under
    two names, one patient in two folds, folds of another table.

    Modalities of one shape must have one affine (error: a header is wrong); modalities of another shape are a warning, since
    they are resampled; a mask must lie on the grid of one of the images.

    Args:
        cohort: a cohort or its folder.
        workers: number of threads.
        progress: show a progress bar.

    Returns:
        Errors and warnings: of the whole cohort first, then by case in the order of the table. Empty = nothing found.

    Raises:
        WorkbenchError: the folder is no cohort, or its table cannot be read at all.
    """
    if not isinstance(cohort, Cohort):
        try:
            cohort = Cohort.open(cohort)
        except InputError as error:
            return list(error.problems)
    opened: Cohort = cohort
    general = _table(opened) + _folds(opened)
    rows = [row for _, row in opened.cases.iterrows()]
    results: list[tuple[list[Problem], list[Content]]] = [([], [])] * len(rows)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        waiting = {pool.submit(_guarded, inspect_case, opened, row): index for index, row in enumerate(rows)}
        try:
            for future in tqdm(as_completed(waiting), total=len(rows), desc="check", unit="case", disable=not progress):
                results[waiting[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    subjects = {str(row["case"]): str(row["subject"]) for row in rows}
    twice = _same_content([content for _, contents in results for content in contents], subjects)
    by_case: list[Problem] = []
    for row, (problems, _) in zip(rows, results, strict=True):
        by_case += inspect_row(opened, row) + problems + [problem for problem in twice if problem.case == row["case"]]
    return general + by_case


def _guarded(
    inspect: Callable[[Cohort, pd.Series], tuple[list[Problem], list[Content]]], cohort: Cohort, row: pd.Series
) -> tuple[list[Problem], list[Content]]:
    try:
        return inspect(cohort, row)
    except Exception as error:  # one case must never hide the others, whatever its files do
        return [_unreadable(str(row["case"]), error)], []


def _table(cohort: Cohort) -> list[Problem]:
    problems = []
    cases = cohort.cases
    if cases.empty:
        problems.append(Problem(file=CASES_FILE, message="the cohort has no case", remedy="import it again"))
    if (version := cohort.generator) in FLAWS:
        problems.append(
            Problem(
                severity="warning",
                file=PHANTOM_FILE,
                message=f"generator {version} made this phantom: {FLAWS[version]}",
                remedy="make a new one with `workbench cohort phantom`; runs on this one stay what they are",
            )
        )
    for column in cohort.modalities:
        if len(cases) and cases[column].isna().all():
            problems.append(
                Problem(
                    severity="warning",
                    file=CASES_FILE,
                    channel=column,
                    message=f"no case has the modality {column}",
                    remedy="take it out of the modalities, or correct the table",
                )
            )
    for column in (*cohort.modalities, *MASKS):
        for _, row in cases[cases[column].notna()].iterrows():
            if _outside_root(str(row[column])):
                problems.append(
                    Problem(
                        case=str(row["case"]),
                        file=str(row[column]),
                        channel=column,
                        message="the path leaves the image root, expected is a path relative to it",
                        remedy="set image_root in cohort.json to a folder above all images",
                    )
                )
    return problems


def _folds(cohort: Cohort) -> list[Problem]:
    if not (cohort.folder / FOLDS_FILE).exists():
        return []
    try:
        read_folds(cohort)
    except InputError as error:
        return list(error.problems)
    except WorkbenchError as error:
        return [Problem(file=FOLDS_FILE, message=str(error), remedy="make the folds anew: `workbench cohort fold --overwrite`")]
    return []


def _same_content(contents: list[Content], subjects: dict[str, str]) -> list[Problem]:
    """The same image under two names, within a case or between cases.

    Args:
        contents: what `inspect_case` returned for all cases.
        subjects: case -> subject.
    """
    first: dict[tuple[str, bool], Content] = {}
    problems = []
    for content in contents:
        key = (content.digest, content.column == "segmentation")
        other = first.setdefault(key, content)
        if other is content:
            continue
        where = "of the same case" if other.case == content.case else f"of case {other.case}"
        if other.case != content.case and subjects[other.case] != subjects[content.case]:
            where += f", another subject ({subjects[other.case]}): it could be trained on and tested on"
        problems.append(
            Problem(
                case=content.case,
                file=content.path,
                channel=content.column,
                message=f"the same voxels as {other.path}, {other.column} {where}",
                remedy="take one of them out, or get the right file",
            )
        )
    return problems


def _unreadable(case: str, error: Exception) -> Problem:
    """The problem that stands for a case whose inspection itself broke down: it must not hide the others."""
    return Problem(
        case=case,
        message=f"the case could not be checked: {type(error).__name__}: {error}",
        remedy="look at its files; if they are sound, report this as a fault of the workbench",
    )


def _outside_root(path: str) -> bool:
    """Whether a path of the table leaves the image root."""
    return Path(path).is_absolute() or ".." in PurePosixPath(path).parts
