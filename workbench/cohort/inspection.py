"""What can be wrong with the files of one case. Each function looks at one thing and returns what it found."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from workbench.cohort.discovery import nifti_stem
from workbench.cohort.scan import Scan, displacement, overlap, scan_image
from workbench.cohort.table import Cohort, row_convention
from workbench.errors import InputError, Problem
from workbench.labels import LABEL_SET_CLASSES, convention

MASKS = ("brain_mask", "segmentation")
SPACING_MM = (0.2, 8.0)
EXTENT_MM = (60.0, 400.0)
MINIMUM_OVERLAP = 0.5
MINIMUM_BACKGROUND = 0.02
SAME_GRID_VOXELS = 0.1
"""Corners of two grids that lie closer than this share of a voxel are one grid: headers are rounded."""

NAME_TOKENS: dict[str, frozenset[str]] = {
    "t1": frozenset({"t1", "t1n", "t1w"}),
    "t1c": frozenset({"t1c", "t1ce", "t1gd", "t1gad", "t1post"}),
    "t2": frozenset({"t2", "t2w"}),
    "flair": frozenset({"flair", "t2f", "t2flair"}),
    "dwi": frozenset({"dwi", "trace"}),
    "adc": frozenset({"adc"}),
    "cbv": frozenset({"cbv", "rcbv"}),
    "swi": frozenset({"swi"}),
}
"""Modality -> parts of file names that say it."""


@dataclass(frozen=True)
class Content:
    """What an image is, to find the same one again under another name: an image's column and path, and its digest."""

    case: str
    column: str
    path: str
    digest: str


def inspect_case(cohort: Cohort, row: pd.Series) -> tuple[list[Problem], list[Content]]:
    """Read every file of a case and report what is wrong with it.

    Args:
        cohort: the cohort.
        row: the case's row of the table.

    Returns:
        The problems, and the content of each image and non-empty segmentation that could be read.
    """
    case = str(row["case"])
    problems: list[Problem] = []
    scans: dict[str, Scan] = {}
    for column in (*cohort.modalities, *MASKS):
        if pd.isna(row[column]):
            continue
        path = str(row[column])
        try:
            scans[column] = scan_image(cohort.image_root / path, labels=column in MASKS)
        except InputError as error:
            problems += [replace(problem, case=case, file=path, channel=column) for problem in error.problems]
            continue
        found = _geometry(scans[column])
        found += _mask(cohort, row, column, scans[column]) if column in MASKS else _intensities(row, column, scans[column])
        problems += [replace(problem, case=case, file=path, channel=column) for problem in found]
    images = {name: scan for name, scan in scans.items() if name not in MASKS}
    for found in (_between_images(images), _masks_on_images(scans, images)):
        problems += [replace(problem, case=case, file=str(row[problem.channel])) for problem in found]
    contents = [
        Content(case, column, str(row[column]), scan.digest)
        for column, scan in scans.items()
        if column != "brain_mask" and scan.minimum < scan.maximum
    ]
    return problems, contents


def inspect_row(cohort: Cohort, row: pd.Series) -> list[Problem]:
    """What is wrong with a row before any file is opened: no image at all, or a file named as another modality."""
    case = str(row["case"])
    present = [name for name in cohort.modalities if pd.notna(row[name])]
    if not present:
        message = f"the case has no image in any of {', '.join(cohort.modalities)}"
        return [Problem(case=case, message=message, remedy="take the case out, or add its images")]
    problems = []
    for column in present:
        path = str(row[column])
        stem = nifti_stem(PurePosixPath(path).name) or ""
        tokens = set(re.split(r"[^a-z0-9]+", stem.lower()))
        said = sorted(name for name, marks in NAME_TOKENS.items() if tokens & marks)
        if column in NAME_TOKENS and said and column not in said:
            problems.append(
                Problem(
                    severity="warning",
                    case=case,
                    file=path,
                    channel=column,
                    message=f"the file is listed as {column}, but its name says {' and '.join(said)}",
                    remedy="check that the modalities were not swapped",
                )
            )
    return problems


def _warning(message: str, remedy: str = "") -> Problem:
    return Problem(severity="warning", message=message, remedy=remedy)


def _size(scan: Scan) -> str:
    grid = scan.header.grid
    return f"{'x'.join(map(str, grid.shape))} at {'x'.join(f'{s:.3g}' for s in grid.spacing)} mm, {grid.orientation}"


def _geometry(scan: Scan) -> list[Problem]:
    header, grid = scan.header, scan.header.grid
    problems = []
    if header.codes == (0, 0):
        remedy = "left and right cannot be trusted: restore the header from the source image"
        problems.append(_warning("the header gives no orientation (qform and sform codes are 0)", remedy))
    if header.forms_differ:
        problems.append(_warning("qform and sform of the header disagree; the sform is used", "correct the wrong one"))
    if min(grid.spacing) < SPACING_MM[0] or max(grid.spacing) > SPACING_MM[1]:
        expected = f"expected is {SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm"
        problems.append(_warning(f"suspicious spacing: {_size(scan)}; {expected}", "check the units of the header"))
    extent = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    if min(extent) < EXTENT_MM[0] or max(extent) > EXTENT_MM[1]:
        said = " x ".join(f"{e:.0f}" for e in extent)
        expected = f"expected is {EXTENT_MM[0]:g} to {EXTENT_MM[1]:g} mm along each axis"
        problems.append(_warning(f"the image covers {said} mm, no ordinary head scan; {expected}", "check the header's spacing"))
    axes = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    if abs(axes.T @ axes - np.eye(3)).max() > 0.01:
        problems.append(_warning("the axes of the affine are not at right angles (shear)", "resample the image without shear"))
    return problems


def _intensities(row: pd.Series, column: str, scan: Scan) -> list[Problem]:
    problems = []
    if scan.nonfinite:
        message = f"{scan.nonfinite} of {scan.voxels} voxels are NaN or infinite, expected are finite numbers"
        problems.append(Problem(message=message, remedy="replace them (for instance by 0 outside the brain)"))
    if math.isnan(scan.minimum):
        return problems
    if scan.minimum == scan.maximum:
        said = "all voxels are 0" if scan.minimum == 0 else f"all voxels have the same value, {scan.minimum:g}"
        remedy = f"get the image again, or make its {column} null in the table: not acquired"
        return [*problems, Problem(message=f"{said}: the channel holds no image", remedy=remedy)]
    background = scan.zeros / scan.voxels
    if pd.isna(row["brain_mask"]) and background < MINIMUM_BACKGROUND:
        problems.append(
            _warning(
                f"the case has no brain mask and only {background:.1%} of the voxels are 0: the whole grid would count as brain",
                "give brain masks (`--brain-mask GLOB`), or strip the skull and set the background to 0",
            )
        )
    return problems


def _mask(cohort: Cohort, row: pd.Series, column: str, scan: Scan) -> list[Problem]:
    return _brain_mask(scan) if column == "brain_mask" else _segmentation(cohort, row, scan)


def _brain_mask(scan: Scan) -> list[Problem]:
    inside = sum(number for value, number in scan.counts.items() if value > 0.5)
    if scan.nonfinite:
        return [Problem(message=f"{scan.nonfinite} voxels of the mask are NaN or infinite", remedy="correct the mask")]
    if not inside:
        return [Problem(message="the brain mask is empty (no voxel above 0.5)", remedy="make it again, or make it null")]
    if inside == scan.voxels:
        return [_warning("the brain mask covers the whole grid, air included", "make it again, or make it null")]
    if any(min(abs(value), abs(value - 1)) > 1e-3 for value in scan.counts):
        told = f"values from {scan.minimum:g} to {scan.maximum:g}"
        return [_warning(f"the brain mask is not binary: {told}; voxels above 0.5 count as brain", "threshold it yourself")]
    return []


def _segmentation(cohort: Cohort, row: pd.Series, scan: Scan) -> list[Problem]:
    declared = row_convention(row, cohort.info)
    problems = []
    if declared is None:
        remedy = "declare one: import with `--labels CONVENTION`"
        return [Problem(message="the case has a segmentation, but the cohort declares no label convention", remedy=remedy)]
    chosen = convention(declared)
    outside = {v: n for v, n in scan.counts.items() if not (v.is_integer() and int(v) in chosen.mapping)}
    if outside or scan.nonfinite:
        listed = [f"{value:g} ({number} voxels)" for value, number in sorted(outside.items())[:6]]
        listed += ["..."] if len(outside) > 6 else []
        listed += [f"NaN or infinite ({scan.nonfinite} voxels)"] if scan.nonfinite else []
        allowed = ", ".join(map(str, sorted(chosen.mapping)))
        return [
            Problem(
                message=f"the mask holds {', '.join(listed)}; convention '{declared}' has only {allowed} ({chosen.source})",
                remedy="declare the convention that the masks were drawn in, or correct the mask",
            )
        ]
    if scan.header.dtype.kind == "f":
        problems.append(_warning(f"the labels are stored as {scan.header.dtype}, but are whole numbers", "store them as uint8"))
    labels = {chosen.mapping[int(value)] for value in scan.counts}
    label_set = str(row["labels"])
    classes = LABEL_SET_CLASSES[label_set]
    coarser = classes == 2 and len(chosen.mapping) > 2  # a detailed mask that is read as one class
    beyond = [] if coarser else sorted(label for label in labels if label >= classes)
    if beyond:
        message = f"the label set of the case is '{label_set}', but its mask holds canonical label {', '.join(map(str, beyond))}"
        problems.append(Problem(message=message, remedy="correct the column 'labels', or the label convention"))
    if labels <= {0}:
        remedy = "right if there is nothing to see; otherwise make the segmentation null: not drawn"
        problems.append(_warning("the mask is empty", remedy))
    return problems


def _between_images(images: dict[str, Scan]) -> list[Problem]:
    """Every modality against the first one of its shape, else against the first one."""
    problems = []
    names = list(images)
    for index, name in enumerate(names[1:], start=1):
        here = images[name].header.grid
        other = next((earlier for earlier in names[:index] if images[earlier].header.grid.shape == here.shape), names[0])
        first = images[other].header.grid
        told = f"{name} is {_size(images[name])}, {other} is {_size(images[other])}"
        if first.shape == here.shape:
            distance = displacement(first, here)
            if distance <= SAME_GRID_VOXELS * min(first.spacing):
                continue
            remedy = "restore the header from the source image, or register the modalities to one grid"
            message = f"shape as {other}, but another affine: corners lie up to {distance:.1f} mm apart ({told})"
            problems.append(Problem(channel=name, message=message, remedy=remedy))
            continue
        share = overlap(first, here)
        if share <= 0:
            remedy = "correct the affine, or register the images"
            problems.append(Problem(channel=name, message=f"the image lies wholly outside {other}: {told}", remedy=remedy))
        elif share < MINIMUM_OVERLAP:
            remedy = "check that the images are registered"
            problems.append(replace(_warning(f"only {share:.0%} of the image overlaps {other}: {told}", remedy), channel=name))
        else:
            remedy = "nothing to do if they are registered: they are resampled to one grid"
            problems.append(replace(_warning(f"another grid than {other}: {told}", remedy), channel=name))
    return problems


def _masks_on_images(scans: dict[str, Scan], images: dict[str, Scan]) -> list[Problem]:
    problems = []
    for column in MASKS:
        if column not in scans or not images:
            continue
        grid = scans[column].header.grid
        same_shape = [name for name, image in images.items() if image.header.grid.shape == grid.shape]
        distances = {name: displacement(grid, images[name].header.grid) for name in same_shape}
        if any(distance <= SAME_GRID_VOXELS * min(grid.spacing) for distance in distances.values()):
            continue
        if distances:
            nearest = min(distances, key=lambda name: distances[name])
            said = f"its corners lie {distances[nearest]:.1f} mm off those of {nearest}, which has the same shape"
        else:
            said = f"it is {_size(scans[column])}; " + "; ".join(f"{n} is {_size(image)}" for n, image in images.items())
        remedy = "resample the mask to the image that it was drawn on, with nearest neighbours, or restore its header"
        problems.append(Problem(channel=column, message=f"the mask lies on the grid of no image: {said}", remedy=remedy))
    return problems
