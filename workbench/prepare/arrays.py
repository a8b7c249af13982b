"""One case from images to prepared arrays: brain box, isotropic grid, z-scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from workbench.cohort.table import Cohort
from workbench.errors import InputError, Problem
from workbench.geometry import Grid
from workbench.prepare.images import CaseImages, fill_holes, foreground, read_case
from workbench.prepare.resampling import REACHED, prepared_grid, resample, resample_inside, resample_labels
from workbench.prepare.settings import PrepareSettings
from workbench.seeding import stream

UNCOVERED_MM = 4.0
"""A modality's missing slab is at least this thick; thinner air inside the brain is fluid clipped to zero, and kept."""


@dataclass(frozen=True)
class PreparedArrays:
    """One case in memory, as the store writes it."""

    images: np.ndarray
    """(M, X, Y, Z) float16."""
    labels: np.ndarray | None
    """(X, Y, Z) uint8."""
    brain: np.ndarray
    """(X, Y, Z) bool."""
    grid: Grid
    """The prepared grid."""
    native: Grid
    present: tuple[bool, ...]
    label_set: str
    foreground: dict[int, np.ndarray]
    """Label -> (n, 3) int voxels of it, drawn without replacement."""
    statistics: dict[str, dict[str, float]]
    """Modality -> mean and standard deviation of the raw values that became 0 and 1, and the share of the brain covered."""


def prepare_case(cohort: Cohort, case: str, settings: PrepareSettings) -> PreparedArrays:
    """Read, orient, crop, resample and normalise one case.

    Images are z-scored per modality over the brain voxels that the modality covers, and exactly 0 elsewhere.

    Raises:
        InputError: as `images.read_case`; or a modality is constant inside the brain, or misses it.
    """
    modalities = settings.modalities or cohort.modalities
    read = read_case(cohort, case, modalities)
    grid = prepared_grid(read.native, read.brain, settings.spacing, settings.margin_mm)
    brain = resample(read.brain.astype(np.float32), read.native, grid, antialias=True) > 0.5
    images = np.zeros((len(modalities), *grid.shape), np.float16)
    statistics: dict[str, dict[str, float]] = {}
    masks: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
    for channel, modality in enumerate(modalities):
        if modality not in read.images:
            continue
        raw, covered = _on_grid(read, modality, grid, brain, masks)
        values = raw[covered].astype(np.float64)
        if values.size < 0.02 * brain.sum() or float(values.std()) <= 1e-6 * float(np.abs(values).max(initial=0)):
            raise _useless(cohort, case, modality, values, int(brain.sum()))
        mean, deviation = float(values.mean()), float(values.std())
        images[channel][covered] = ((values - mean) / deviation).astype(np.float16)
        statistics[modality] = {"mean": mean, "deviation": deviation, "covered": float(values.size / brain.sum())}
    labels = None if read.labels is None else resample_labels(read.labels, read.native, grid)
    samples = {} if labels is None else _samples(labels, case, settings.samples)
    present = tuple(modality in read.images for modality in modalities)
    return PreparedArrays(images, labels, brain, grid, read.native, present, read.label_set, samples, statistics)


def _on_grid(
    read: CaseImages, modality: str, grid: Grid, brain: np.ndarray, masks: dict[tuple, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Raw values of a modality on the prepared grid, and the brain voxels it covers. `masks` keeps what modalities share."""
    array, source = read.images[modality]
    key = (source.shape, source.affine.tobytes())
    if key not in masks:
        inside = resample(read.brain.astype(np.float32), read.native, source, antialias=True) > 0.5
        masks[key] = inside, resample(inside.astype(np.float32), source, grid, antialias=True)
    inside, share = masks[key]
    covered = brain & (share > REACHED)
    air = inside & ~fill_holes(foreground(array))
    if air.any():
        missing = (resample(air.astype(np.float32), source, grid, antialias=True) > 0.5).astype(np.uint8)
        width = max(2, int(np.ceil(UNCOVERED_MM / min(grid.spacing))))
        thick = ndimage.grey_opening(missing, size=(width, width, width))
        near = ndimage.maximum_filter(thick, size=2 * width + 1)  # the slab's rounded rim belongs to it
        covered &= (near & missing) == 0
    return resample_inside(array, inside, share, source, grid), covered


def _useless(cohort: Cohort, case: str, modality: str, values: np.ndarray, brain: int) -> InputError:
    path = str(cohort.path(case, modality))
    if values.size < 0.02 * brain:
        value = "all-zero (or constant) inside the brain, or its field of view misses it"
        message = f"the channel is {value}: it covers {values.size} of the brain's {brain} voxels"
    else:
        message = f"the channel is {'all-zero' if not values.any() else f'constant ({values[0]:g})'} inside the brain"
    remedy = "check the image and its header; if it was not acquired, make it null in the table of cases"
    return InputError(Problem(case=case, file=path, channel=modality, message=f"{message}; expected an image", remedy=remedy))


def _samples(labels: np.ndarray, case: str, count: int) -> dict[int, np.ndarray]:
    found = {}
    for label in (int(v) for v in np.unique(labels) if v):
        voxels = np.flatnonzero(labels == label)
        rng = stream(0, "foreground", case, label)
        chosen = voxels if voxels.size <= count else np.sort(rng.choice(voxels, count, replace=False))
        found[label] = np.stack(np.unravel_index(chosen, labels.shape), axis=1).astype(np.int32)
    return found
