"""Sites: what a scanner does to the signal, and what its annotators do to the contour."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.anatomy import CENTRE, FIELD_OF_VIEW, Box, template
from workbench.cohort.phantom.deformation import smooth_noise
from workbench.cohort.phantom.populations import MODALITIES, SiteOptions

_CEILING = 1.6
UNITS = {"adc": 2000.0, "cbv": 500.0}
"""Map -> what a signal of 1 stands for: 1e-6 mm^2/s, and percent of white matter's blood volume; see `contrast`."""


def available(rng: np.random.Generator, site: SiteOptions, modalities: tuple[str, ...] = MODALITIES) -> tuple[str, ...]:
    """The sequences acquired in one scan: each is missing at its site's rate; T1c is kept where all would be missing."""
    draws = rng.random(len(modalities))  # one after the other: what stands behind does not change those before
    present = tuple(m for m, u in zip(modalities, draws, strict=True) if u >= site.missing.get(m, 0.0))
    return present or ("t1c",)


def shift(signal: np.ndarray, offset_mm: np.ndarray, spacing: float) -> np.ndarray:
    """The whole image moved by `offset_mm` (3,): misregistration."""
    return ndimage.shift(signal, offset_mm / spacing, order=1, mode="nearest", output=np.float32)


def scan(
    rng: np.random.Generator, signal: np.ndarray, brain: np.ndarray, box: Box, site: SiteOptions, modality: str
) -> np.ndarray:
    """One acquired image as int16, 0 outside the brain: bias field, slices, Rician noise, contrast, scanner units.

    Args:
        signal: noise-free, (X, Y, Z), relative units.
        brain: bool (X, Y, Z).
    """
    image = signal * np.exp(site.bias * bias_field(rng, box))
    thickness = site.thickness.get(modality, 0.0)
    slices = _slices(thickness, box) if thickness > box.spacing * 1.01 else None
    if slices is not None:
        image = _acquire(image, thickness / box.spacing, slices)
    noise = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(site.noise)
    image = np.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)
    if slices is not None:
        image = _interpolate(image, box.shape[2], slices)
    gamma = site.gamma.get(modality, 1.0) * float(np.exp(rng.normal(0, 0.03)))
    image = np.clip(image / _CEILING, 0, 1) ** gamma
    units = float(np.exp(rng.normal(np.log(1200), 0.35)))
    return np.where(brain, np.clip(np.rint(image * units), 1, 32767), 0).astype(np.int16)


def scan_map(
    rng: np.random.Generator, signal: np.ndarray, brain: np.ndarray, box: Box, site: SiteOptions, modality: str
) -> np.ndarray:
    """One map as int16 in the unit of `UNITS`, 0 outside the brain: quantitative, so without bias field or scanner units."""
    image = signal
    thickness = site.thickness.get(modality, 0.0)
    slices = _slices(thickness, box) if thickness > box.spacing * 1.01 else None
    if slices is not None:
        image = _acquire(image, thickness / box.spacing, slices)
    image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(site.noise)
    if slices is not None:
        image = _interpolate(image, box.shape[2], slices)
    return np.where(brain, np.clip(np.rint(image * UNITS[modality]), 1, 32767), 0).astype(np.int16)


def bias_field(rng: np.random.Generator, box: Box) -> np.ndarray:
    """A smooth field of about unit size at the head's edge: linear and quadratic in the coordinates."""
    axes = [(points - c) / (edge / 2) for points, c, edge in zip(box.points(), CENTRE, FIELD_OF_VIEW, strict=True)]
    linear, square = rng.normal(0, 0.6, 3), rng.normal(0, 0.6, 3)
    field = np.zeros(box.shape, np.float32)
    for axis, one, two in zip(axes, linear, square, strict=True):
        field += (one * axis + two * (axis**2 - 0.3)).astype(np.float32)
    return field


def _slices(thickness: float, box: Box) -> np.ndarray:
    step = thickness / box.spacing
    return np.arange(0.5 * (step - 1), box.shape[2] - 1, step)


def _acquire(image: np.ndarray, step: float, slices: np.ndarray) -> np.ndarray:
    """Average over each slice's profile (Gaussian, full width at half maximum = thickness), then keep the slices only."""
    blurred = ndimage.gaussian_filter1d(image, step / 2.355, axis=2, mode="nearest")
    return _at(blurred, slices)


def _interpolate(image: np.ndarray, count: int, slices: np.ndarray) -> np.ndarray:
    return _at(image, (np.arange(count) - slices[0]) / (slices[1] - slices[0]))


def _at(image: np.ndarray, positions: np.ndarray) -> np.ndarray:
    positions = np.clip(positions, 0, image.shape[2] - 1)
    low = np.minimum(positions.astype(int), image.shape[2] - 2)
    weight = (positions - low).astype(np.float32)
    return image[:, :, low] * (1 - weight) + image[:, :, low + 1] * weight


def annotate(rng: np.random.Generator, box: Box, error_mm: float) -> np.ndarray:
    """Where an annotator sees each voxel: displacement (3, X, Y, Z) in mm, smooth over 6 mm, `error_mm` in size."""
    coarse = template().coarse
    fields = [smooth_noise(rng, coarse.shape, 6.0 / coarse.spacing) * np.float32(error_mm / np.sqrt(3)) for _ in range(3)]
    return np.stack([box.resample(field, coarse, outside="nearest") for field in fields])
