"""Masks that were predicted elsewhere: found by a pattern of names, checked against the cohort, brought to canonical labels."""

from __future__ import annotations

import re
from pathlib import Path

from workbench.cohort.scan import displacement
from workbench.cohort.table import Cohort
from workbench.errors import InputError, ParameterError, Problem
from workbench.geometry import Grid
from workbench.inference.export import save_nifti
from workbench.labels import as_drawn, to_canonical
from workbench.prepare.images import native_grid, read_image, same_grid

CHANNEL = "prediction"


def name_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of file names as a regular expression over paths relative to the folder; its group `case` is the case.

    `{case}` is the case; without one, the first `*` is. Every other `*` is any text, but never a folder's separator.

    Raises:
        ParameterError: it has neither, or `{case}` twice.
    """
    marked = pattern if "{case}" in pattern else pattern.replace("*", "{case}", 1)
    if marked.count("{case}") != 1:
        raise ParameterError(f"--glob '{pattern}': expected '{{case}}' once, or a '*' that stands for the case")
    before, after = (".*".join(map(re.escape, part.split("*"))).replace(".*", "[^/]*") for part in marked.split("{case}"))
    return re.compile(f"{before}(?P<case>[^/]+){after}")


def find_masks(folder: Path, pattern: str) -> tuple[dict[str, Path], list[Problem]]:
    """Case -> file of the masks in a folder, and what is wrong with their names.

    Raises:
        InputError: there is no such folder, or no file matches.
    """
    if not folder.is_dir():
        raise InputError(
            Problem(file=str(folder), message="there is no such folder", remedy="give the folder of the predictions")
        )
    wanted = name_pattern(pattern)
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        match = wanted.fullmatch(path.relative_to(folder).as_posix())
        if not match:
            continue
        case = match["case"]
        if case in found:
            message = f"the case has two files: {found[case].name} and {path.relative_to(folder)}"
            problems.append(Problem(case=case, file=str(path), message=message, remedy="keep one of them"))
        else:
            found[case] = path
    if not found:
        others = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "nothing"
        remedy = f"give the pattern of the names, e.g. --glob '{{case}}_pred.nii.gz'; the folder holds {others}"
        raise InputError(Problem(file=str(folder), message=f"no file matches '{pattern}'", remedy=remedy))
    return found, problems


def stage_mask(cohort: Cohort, case: str, path: Path, convention: str, reference: Path | None, target: Path) -> None:
    """Check one mask and write it as canonical labels, with the header of the case's own images.

    Raises:
        InputError: it cannot be read, is not 3-D, lies on another grid, or holds other values than the convention defines.
    """
    values, grid = read_image(path, case=case, channel=CHANNEL)
    native = native_grid(cohort, case)
    if not same_grid(grid, native):
        raise InputError(
            Problem(
                case=case,
                file=str(path),
                channel=CHANNEL,
                message=f"the mask lies on another grid than the case's images: {_difference(grid, native)}",
                remedy="bring it back to the grid of the images it was predicted from; the workbench does not resample results",
            )
        )
    labels = to_canonical(values, convention, case=case, file=str(path))
    save_nifti(as_drawn(labels, str(cohort.row(case)["labels"])), native, target, "label", reference)


def _difference(found: Grid, wanted: Grid) -> str:
    if found.shape != wanted.shape:
        return f"{' x '.join(map(str, found.shape))} voxels, expected {' x '.join(map(str, wanted.shape))}"
    if found.orientation != wanted.orientation:
        return f"its axes run {found.orientation}, those of the images {wanted.orientation}"
    spacings = [" x ".join(f"{v:.3g}" for v in grid.spacing) for grid in (found, wanted)]
    apart = f"corners up to {displacement(found, wanted):.3g} mm apart"
    return apart if spacings[0] == spacings[1] else f"spacing {spacings[0]} mm, expected {spacings[1]} mm; {apart}"
