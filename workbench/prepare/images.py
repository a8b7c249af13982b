"""Reading one image, or all images of a case, and refusing what cannot be right.

The native grid of a case is that of its segmentation, else of its first present modality. A modality on another grid is
brought onto the wanted one from its own affine; two images of equal shape but different affines are refused, since that is
how a lost or edited header looks.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.wrapstruct import WrapStructError
from scipy import ndimage

from workbench.cohort.inspection import SAME_GRID_VOXELS
from workbench.cohort.scan import displacement
from workbench.cohort.table import Cohort
from workbench.errors import InputError, Problem
from workbench.geometry import Grid
from workbench.labels import as_drawn, to_canonical
from workbench.prepare.resampling import resample

MASK, SEGMENTATION = "brain_mask", "segmentation"
MAX_VOXELS = 1 << 29
"""Largest image that is read (an 800^3 volume): a header or gzip bomb that asks for more is refused before it is unpacked."""

_UNREADABLE = (
    OSError, EOFError, zlib.error, ValueError, TypeError, OverflowError,
    nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, WrapStructError,
)  # fmt: skip


@dataclass(frozen=True)
class CaseImages:
    """All of a case that was read: raw values, each image on its own grid, brain and labels on the native grid."""

    native: Grid
    images: dict[str, tuple[np.ndarray, Grid]]
    """Modality -> (float32 (x, y, z) on its own grid, that grid); absent modalities are not in it."""
    brain: np.ndarray
    labels: np.ndarray | None
    label_set: str


def read_image(path: Path, *, case: str = "", channel: str = "") -> tuple[np.ndarray, Grid]:
    """Read one 3-D image as float32 (X, Y, Z) with its grid; singleton trailing axes are dropped.

    Raises:
        InputError: missing, truncated or not an image; not 3-D; too large; not plain numbers; NaN or infinite values;
            an affine that does not map voxels to space. The message names case, file and channel, and the way out.
    """
    image = _open(path, case, channel)
    grid = Grid.of(image)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.asarray(image.dataobj, dtype=np.float32)
    except (*_UNREADABLE, MemoryError) as error:
        raise _error(path, case, channel, f"the file is truncated or damaged: {error}", "copy or download it again") from error
    array = array.reshape(grid.shape)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise _error(
            path, case, channel,
            f"{bad} of {array.size} voxels are NaN or infinite; expected finite numbers",
            "replace them by the background's value, or take the image out of the table of cases",
        )  # fmt: skip
    return array, grid


def read_grid(path: Path, *, case: str = "", channel: str = "") -> Grid:
    """The grid of an image from its header alone, with the header's checks of `read_image`."""
    return Grid.of(_open(path, case, channel))


def _open(path: Path, case: str, channel: str) -> nib.spatialimages.SpatialImage:
    try:
        image = nib.loadsave.load(path)
        if not isinstance(image, nib.spatialimages.SpatialImage):
            raise _error(path, case, channel, f"not an image: {type(image).__name__}", "give a NIfTI volume")
        shape, affine, dtype = image.shape, image.affine, image.get_data_dtype()
    except FileNotFoundError as error:
        raise _error(path, case, channel, "the file is missing", "restore it, or correct the table of cases") from error
    except _UNREADABLE as error:
        message = f"not a readable image: {error}"
        raise _error(path, case, channel, message, "check that it is a whole NIfTI file, copy it again") from error
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        found = " x ".join(map(str, shape))
        remedy = "keep one volume per file, e.g. the b=1000 or the mean volume"
        raise _error(path, case, channel, f"expected a 3-D image, found {len(shape)}-D ({found})", remedy)
    if min(shape) < 1 or int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        found = " x ".join(map(str, shape))
        raise _error(path, case, channel, f"a size of {found} voxels cannot be right", "check the header")
    if dtype.kind not in "iufb":
        raise _error(path, case, channel, f"expected plain numbers, found {dtype}", "save the image as float32 or int16")
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise _error(path, case, channel, "its affine does not map voxels to space", "restore the sform or qform of the header")
    return image


def _error(path: Path, case: str, channel: str, message: str, remedy: str) -> InputError:
    return InputError(Problem(case=case, file=str(path), channel=channel, message=message, remedy=remedy))


def read_case(cohort: Cohort, case: str, modalities: tuple[str, ...] = ()) -> CaseImages:
    """Read and validate all of a case: the wanted modalities (empty = all), brain and labels.

    Raises:
        InputError: an image cannot be read, grids contradict each other, no wanted modality is present, the mask breaks
            its convention, or there is no brain.
    """
    wanted = [m for m in (modalities or cohort.modalities) if m in cohort.present(case)]
    if not wanted:
        raise InputError(
            Problem(
                case=case,
                message=f"cohort {cohort.info.name}: expected at least one of {', '.join(modalities or cohort.modalities)}, "
                f"found {', '.join(cohort.present(case)) or 'no image'}",
                remedy="leave the case out, or ask for a modality that it has",
            )
        )
    native = native_grid(cohort, case)
    images = {m: _read_modality(cohort, case, m, native) for m in wanted}
    labels, label_set = _labels(cohort, case)
    return CaseImages(native, images, _brain(cohort, case, images, native), labels, label_set)


def native_grid(cohort: Cohort, case: str) -> Grid:
    """The native grid of a case, from headers alone, after checking that its images' grids agree.

    Raises:
        InputError: images of equal shape have different affines; in a cohort whose space is not native, grids differ at all;
            the segmentation lies on none of the images' grids.
    """
    columns = [c for c in (SEGMENTATION, *cohort.modalities, MASK) if cohort.path(case, c) is not None]
    grids = {c: read_grid(_path(cohort, case, c), case=case, channel=c) for c in columns}
    images = [c for c in columns if c in cohort.modalities]
    if not images:
        raise InputError(Problem(case=case, message=f"cohort {cohort.info.name}: the case has no image", remedy="leave it out"))
    problems = []
    for index, column in enumerate(columns):
        for other in columns[:index]:
            same_shape = grids[column].shape == grids[other].shape
            if (same_shape or cohort.info.space != "native") and not same_grid(grids[column], grids[other]):
                problems.append(_mismatch(cohort, case, column, grids[column], other, grids[other]))
                break
    if SEGMENTATION in grids and not problems and not any(same_grid(grids[SEGMENTATION], grids[m]) for m in images):
        problems.append(_mismatch(cohort, case, SEGMENTATION, grids[SEGMENTATION], images[0], grids[images[0]]))
    if problems:
        raise InputError(*problems)
    return grids.get(SEGMENTATION, grids[images[0]])


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids have one shape and corners within a tenth of a voxel: headers are rounded."""
    return one.shape == other.shape and displacement(one, other) <= SAME_GRID_VOXELS * min(one.spacing)


def _mismatch(cohort: Cohort, case: str, column: str, found: Grid, other: str, expected: Grid) -> Problem:
    def describe(grid: Grid) -> str:
        size, voxel = " x ".join(map(str, grid.shape)), " x ".join(f"{s:.3g}" for s in grid.spacing)
        origin = ", ".join(f"{v:.4g}" for v in grid.affine[:3, 3])
        return f"{size} voxels of {voxel} mm, {grid.orientation}, origin ({origin})"

    what = "affine" if found.shape == expected.shape else "grid"
    return Problem(
        case=case,
        file=str(_path(cohort, case, column)),
        channel=column,
        message=f"its {what} differs from that of {other}: expected {describe(expected)}, found {describe(found)}",
        remedy=f"restore the header, or resample the image onto the grid of {other}",
    )


def _read_modality(cohort: Cohort, case: str, modality: str, native: Grid) -> tuple[np.ndarray, Grid]:
    array, grid = read_image(_path(cohort, case, modality), case=case, channel=modality)
    return array, native if same_grid(grid, native) else grid  # rounding in a header is no reason to interpolate


def native_labels(cohort: Cohort, case: str) -> np.ndarray | None:
    """Canonical labels of a case on its native grid, uint8 (X, Y, Z); None where it has no mask.

    Masks of the label sets with a single class (whole tumour, lesion) are 0 and 1 whatever the convention can tell apart.
    """
    native_grid(cohort, case)
    return _labels(cohort, case)[0]


def _labels(cohort: Cohort, case: str) -> tuple[np.ndarray | None, str]:
    path = cohort.path(case, SEGMENTATION)
    convention = cohort.label_convention(case)
    if path is None or convention is None:
        return None, ""
    values, _ = read_image(path, case=case, channel=SEGMENTATION)
    label_set = str(cohort.row(case)["labels"])
    return as_drawn(to_canonical(values, convention, case=case, file=str(path)), label_set), label_set


def native_brain(cohort: Cohort, case: str) -> np.ndarray:
    """Brain of a case on its native grid, bool (X, Y, Z).

    The cohort's brain mask where there is one; else the union over modalities of the voxels that differ from the
    background's value (images are expected skull-stripped), its largest component with holes filled.
    """
    native = native_grid(cohort, case)
    images = {}
    if cohort.path(case, MASK) is None:
        images = {m: _read_modality(cohort, case, m, native) for m in cohort.present(case)}
    return _brain(cohort, case, images, native)


def background_value(array: np.ndarray) -> float:
    """The value of air: the most common one on the faces of the volume. Real cohorts have non-zero constant air."""
    faces = [array[[0, -1]].ravel(), array[:, [0, -1]].ravel(), array[:, :, [0, -1]].ravel()]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    return float(values[counts.argmax()])


def foreground(array: np.ndarray) -> np.ndarray:
    """Voxels that differ from the background's value by more than 1e-4 of the image's range, bool."""
    distance = np.abs(array - np.float32(background_value(array)))
    return distance > 1e-4 * float(distance.max())


def _brain(cohort: Cohort, case: str, images: dict[str, tuple[np.ndarray, Grid]], native: Grid) -> np.ndarray:
    path = cohort.path(case, MASK)
    if path is not None:
        array, grid = read_image(path, case=case, channel=MASK)
        brain = resample(array, grid, native, antialias=True) > 0.5
    else:
        path = _path(cohort, case, next(iter(images)))
        brain = np.zeros(native.shape, bool)
        for array, grid in images.values():
            brain |= resample(foreground(array).astype(np.float32), grid, native, antialias=True) > 0.5
        brain = _largest_component(fill_holes(brain))
    if not brain.any():
        message = "no voxel differs from the background: there is no brain in this case"
        raise _error(path, case, MASK, message, "check the brain mask or the images")
    return brain


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """The mask with every cavity that does not reach the volume's border filled. As `ndimage.binary_fill_holes`, many times
    as fast on whole heads."""
    box = []
    for axis in range(3):
        occupied = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not occupied.size:
            return mask
        box.append(slice(max(occupied[0] - 1, 0), occupied[-1] + 2))
    part = mask[box[0], box[1], box[2]]
    parts, count = ndimage.label(~part)
    outer = np.zeros(count + 1, bool)
    for axis in range(3):
        for face in (0, -1):
            outer[np.take(parts, face, axis)] = True
    outer[0] = False
    filled = mask.copy()
    filled[box[0], box[1], box[2]] = ~outer[parts]
    return filled


def _largest_component(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _path(cohort: Cohort, case: str, column: str) -> Path:
    path = cohort.path(case, column)
    assert path is not None, (case, column)
    return path
