"""From a case's files to what a screen needs: RAS+ arrays, windows, uint8 volumes, label colours, disagreement.

Every picture of the workbench (NiiVue, the ortho view, stills, the notebook browser) is made from these few functions, so
that orientation, window and colours are the same everywhere. Nothing here draws.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from scipy import ndimage

from workbench.cohort.table import Cohort
from workbench.geometry import Grid, canonical_grid, to_canonical_array
from workbench.labels import REGIONS, as_drawn, region_mask, to_canonical
from workbench.prepare.images import foreground, read_image

WINDOW_PERCENTILES = (0.5, 99.5)
AGREEMENT, FALSE_POSITIVE, FALSE_NEGATIVE = 1, 2, 3


@dataclass(frozen=True)
class LabelColour:
    """How one value of a label volume is drawn and called."""

    value: int
    name: str
    hexadecimal: str
    strength: float = 1.0
    """Opacity relative to the overlay's: below 1 for what should not hide the image."""

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        red, green, blue = (int(self.hexadecimal[i : i + 2], 16) for i in (1, 3, 5))
        return red, green, blue

    def as_dict(self) -> dict[str, int | str]:
        """A row of `NiiVueViewer.labels`."""
        red, green, blue = self.rgb
        alpha = round(255 * self.strength)
        return {"value": self.value, "name": self.name, "red": red, "green": green, "blue": blue, "alpha": alpha}


_TUMOUR = (
    LabelColour(1, "NCR: necrotic or non-enhancing core", "#4C8DFF"),
    LabelColour(2, "ED: oedema, infiltration", "#1FC99A"),
    LabelColour(3, "ET: enhancing tumour", "#FFB000"),
)
LABEL_COLOURS: dict[str, tuple[LabelColour, ...]] = {
    "glioma": _TUMOUR,
    "glioma_post": (*_TUMOUR, LabelColour(4, "RC: resection cavity", "#D6389B")),
    "WT": (LabelColour(1, "WT: whole tumour", "#FF8C42"),),
    "lesion": (LabelColour(1, "lesion", "#FF8C42"),),
}
"""Label set -> colours of its labels. The field's habit is red, green and yellow; red and green are one colour to one man in
twelve, so core is blue, oedema blue-green and enhancement amber, which stay apart in all three kinds of colour blindness and
against grey."""
DISAGREEMENT_COLOURS = (
    LabelColour(AGREEMENT, "agreement", "#F0E442", 0.4),
    LabelColour(FALSE_POSITIVE, "false positive: predicted, not in the truth", "#E8590C"),
    LabelColour(FALSE_NEGATIVE, "false negative: in the truth, missed", "#3B9CFF"),
)


def colours_of(label_set: str) -> tuple[LabelColour, ...]:
    """Colours of a label set; those of the fullest glioma set where the case has no mask of its own."""
    return LABEL_COLOURS.get(label_set or "glioma_post", LABEL_COLOURS["glioma_post"])


@dataclass(frozen=True)
class Volume:
    """A 3-D array whose axes lie closest to right, anterior, superior (RAS+), with its grid in mm."""

    array: np.ndarray
    """(X, Y, Z)"""
    grid: Grid

    @classmethod
    def of(cls, array: np.ndarray, grid: Grid) -> Volume:
        """Flip and permute an array (X, Y, Z) on any grid to RAS+; no resampling."""
        return cls(np.ascontiguousarray(to_canonical_array(array, grid.affine)), canonical_grid(grid))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edges in mm."""
        return self.grid.spacing

    def voxel(self, position: tuple[float, float, float]) -> tuple[int, int, int]:
        """The voxel nearest to a position in mm (RAS+), clipped to the volume."""
        found = np.linalg.solve(self.grid.affine, [*position, 1.0])[:3]
        x, y, z = (int(np.clip(round(v), 0, n - 1)) for v, n in zip(found, self.array.shape, strict=True))
        return x, y, z

    def position(self, voxel: tuple[float, float, float]) -> tuple[float, float, float]:
        """The position in mm (RAS+) of a voxel's centre."""
        x, y, z = (self.grid.affine @ [*voxel, 1.0])[:3]
        return float(x), float(y), float(z)

    def crop(self, low: tuple[int, int, int], high: tuple[int, int, int]) -> Volume:
        """The box of voxels low <= index < high; positions in mm stay what they were."""
        affine = self.grid.affine.copy()
        affine[:3, 3] = self.position(low)
        array = np.ascontiguousarray(self.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
        return Volume(array, Grid(array.shape, affine))

    def on(self, grid: Grid, order: Literal[0, 1] = 0) -> Volume:
        """Resampled onto another RAS+ grid: nearest neighbour for labels (order 0), linear for images (1)."""
        if self.grid.matches(grid):
            return self
        matrix = np.linalg.solve(self.grid.affine, grid.affine)
        source = self.array.astype(np.float32) if order else self.array
        array = ndimage.affine_transform(source, matrix[:3, :3], matrix[:3, 3], output_shape=grid.shape, order=order)
        return Volume(array, grid)


def read_volume(path: Path, *, case: str = "", channel: str = "") -> Volume:
    """Read a 3-D image as a RAS+ volume of float32.

    Raises:
        InputError: the file is missing, damaged or not a 3-D image of finite numbers (`prepare.images.read_image`).
    """
    return Volume.of(*read_image(path, case=case, channel=channel))


def read_labels(path: Path, *, case: str = "", channel: str = "") -> Volume:
    """Read a mask that this workbench wrote, in canonical labels, as a RAS+ volume of uint8.

    Raises:
        InputError: the file cannot be read, or its values are not canonical labels.
    """
    volume = read_volume(path, case=case, channel=channel)
    return replace(volume, array=_canonical(volume.array, "canonical", case, path))


def read_truth(cohort: Cohort, case: str) -> Volume | None:
    """The annotators' mask of a case in canonical labels, uint8; None where it has none."""
    path, convention = cohort.path(case, "segmentation"), cohort.label_convention(case)
    if path is None or convention is None:
        return None
    volume = read_volume(path, case=case, channel="segmentation")
    labels = _canonical(volume.array, convention, case, path)
    return replace(volume, array=as_drawn(labels, str(cohort.row(case)["labels"])))


def _canonical(values: np.ndarray, convention: str, case: str, path: Path) -> np.ndarray:
    """`to_canonical`, looking only at the box that holds all that is not zero: background is 0 in every convention."""
    labels = np.zeros(values.shape, np.uint8)
    low, high = display_box(values.shape, values != 0, margin=0)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    labels[inside] = to_canonical(values[inside], convention, case=case, file=str(path))
    return labels


def read_brain(cohort: Cohort, case: str, image: Volume) -> np.ndarray:
    """Brain on the grid of `image`, bool: the cohort's mask, else the voxels of this image that differ from its air."""
    path = cohort.path(case, "brain_mask")
    if path is not None:
        return read_volume(path, case=case, channel="brain_mask").on(image.grid).array > 0.5
    return foreground(image.array)


def robust_window(values: np.ndarray, percentiles: tuple[float, float] = WINDOW_PERCENTILES) -> tuple[float, float]:
    """Values drawn black and white: percentiles of the voxels given (those of the brain)."""
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, percentiles)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


@dataclass(frozen=True)
class DisplayVolume:
    """An image in 256 steps: `value = low + step * array`. What every view draws."""

    volume: Volume
    low: float
    step: float
    window: tuple[float, float]

    @classmethod
    def of(cls, image: Volume, brain: np.ndarray) -> DisplayVolume:
        """Quantise an image: room of a quarter of the window below and half above for a reader who widens it.

        A constant air around a skull-stripped brain, which need not be the lowest value (z-scored images), becomes black.
        """
        low, high = robust_window(image.array[brain])
        inside = image.array[brain] if brain.any() else image.array
        bottom = max(float(inside.min()), low - 0.25 * (high - low))
        top = min(float(inside.max()), high + 0.5 * (high - low))
        step = (max(top, bottom + 1e-6) - bottom) / 255
        array = np.clip(np.round((image.array - np.float32(bottom)) / np.float32(step)), 0, 255).astype(np.uint8)
        array[~(foreground(image.array) | brain)] = 0
        return cls(Volume(array, image.grid), bottom, step, (low, high))

    def levels(self, window: tuple[float, float] | None = None) -> np.ndarray:
        """Grey level (256,) uint8 of each step of the array, for a window in the image's own values; index it with slices."""
        low, high = window or self.window
        levels = (self.low + self.step * np.arange(256) - low) / max(high - low, 1e-9)
        return np.clip(np.round(255 * levels), 0, 255).astype(np.uint8)

    def nifti(self) -> bytes:
        """gzip NIfTI whose slope and intercept give back the image's own values."""
        return nifti_bytes(self.volume, slope=self.step, intercept=self.low)


def nifti_bytes(volume: Volume, *, slope: float = 1.0, intercept: float = 0.0, labels: bool = False) -> bytes:
    """A uint8 volume as a gzip NIfTI-1 file in memory; `labels` marks it as such (intent 1002), which outlines need."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(volume.array.shape)
    header.set_sform(volume.grid.affine, code=1)
    header.set_qform(volume.grid.affine, code=1)
    header.set_xyzt_units("mm")
    header["magic"], header["vox_offset"] = b"n+1", 352
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["intent_code"] = 1002 if labels else 0
    content = header.binaryblock + b"\0" * 4 + volume.array.astype(np.uint8, copy=False).tobytes(order="F")
    return gzip.compress(content, compresslevel=2, mtime=0)


def display_box(shape: tuple[int, ...], *masks: np.ndarray, margin: int = 4) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The box (low, high) around everything true in the masks (X, Y, Z), with a margin in voxels; the whole where nothing is."""
    low, high = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(np.any([mask.any(axis=others) for mask in masks], axis=0)) if masks else np.empty(0)
        first, last = (int(found[0]), int(found[-1]) + 1) if found.size else (0, shape[axis])
        low.append(max(0, first - margin))
        high.append(min(shape[axis], last + margin))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def disagreement(truth: np.ndarray, prediction: np.ndarray, region: str) -> np.ndarray:
    """Where two canonical masks (X, Y, Z) differ about a region: 1 both, 2 predicted only, 3 truth only; uint8."""
    drawn, found = region_mask(truth, region), region_mask(prediction, region)
    result = np.zeros(truth.shape, np.uint8)
    result[drawn & found] = AGREEMENT
    result[found & ~drawn] = FALSE_POSITIVE
    result[drawn & ~found] = FALSE_NEGATIVE
    return result


def largest_slice(mask: np.ndarray, axis: int) -> int:
    """Index along `axis` of the slice with most true voxels; the middle one where there is none."""
    areas = mask.sum(axis=tuple(a for a in range(3) if a != axis))
    return int(np.argmax(areas)) if areas.any() else mask.shape[axis] // 2


def centre_of(mask: np.ndarray) -> tuple[int, int, int]:
    """A voxel to look at first: where the three largest slices of the mask cross."""
    return largest_slice(mask, 0), largest_slice(mask, 1), largest_slice(mask, 2)


def region_volumes(labels: Volume, regions: tuple[str, ...] = tuple(REGIONS)) -> dict[str, float]:
    """Volume in ml of each region."""
    counts = np.bincount(labels.array.ravel(), minlength=256)
    return {name: float(counts[list(REGIONS[name])].sum() * labels.grid.voxel_volume / 1000) for name in regions}
