"""From tumour concentration to what an annotator draws and a scanner sees: core, rim, necrosis, oedema, and the signs' own maps.

Works on the growth grid, in millimetres: what comes out does not depend on the output spacing. Takes signs, never a class: what
is rendered can depend on the class only through what the posterior knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.anatomy import Box
from workbench.cohort.phantom.classes import Subject
from workbench.cohort.phantom.deformation import smooth_noise
from workbench.cohort.phantom.options import PhantomOptions

_SOFT = 0.7  # mm: sigma of the border between sub-regions


@dataclass(frozen=True)
class Tumour:
    """One tumour on its growth grid."""

    box: Box
    concentration: np.ndarray
    """u, continued smoothly beyond the brain's tissue, so that interpolation at the cortex does not dilute it."""
    tissue: np.ndarray
    """1 where grey or white matter is, clefts of a voxel closed, else 0; float."""
    core: np.ndarray
    """Fractions in 0..1 with soft borders, as are the next three: NCR/NETC + ET."""
    enhancing: np.ndarray
    necrosis: np.ndarray
    interior: np.ndarray
    """What a mismatch tumour suppresses on FLAIR: all but its rim."""
    specks: np.ndarray
    """Calcified specks."""
    mottle: np.ndarray
    """Unit-variance texture of a heterogeneous tumour, 0 otherwise."""
    grain: np.ndarray
    """Unit-variance tissue texture of every tumour, correlated over a few mm."""
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    """Maps that the signal mode adds; see `signals`."""
    cavity: np.ndarray | None = None
    """After surgery, as are the next two: the fluid-filled resection cavity; None before it."""
    gliosis: np.ndarray | None = None
    """Scarred tissue around the cavity."""
    rim: np.ndarray | None = None
    """Thin enhancing rim of the cavity."""


def build_tumour(
    rng: np.random.Generator, box: Box, concentration: np.ndarray, tissue: np.ndarray, subject: Subject, options: PhantomOptions
) -> Tumour:
    """Divide a grown tumour into its sub-regions.

    Args:
        concentration: u (X, Y, Z) on `box`.
        tissue: bool (X, Y, Z), grey or white matter.
    """
    h = box.spacing
    whole = concentration > options.detect_t2
    rim = float(rng.uniform(*options.rim))
    ragged = 1 + 0.4 * np.clip(smooth_noise(rng, box.shape, 3.5 / h), -1.3, 2)
    patches = smooth_noise(rng, box.shape, 3.0 / h)
    mottle = smooth_noise(rng, box.shape, 2.2 / h)
    grain = smooth_noise(rng, box.shape, 2.5 / h)
    empty = np.zeros(box.shape, np.float32)
    interior, necrosis, enhancing = empty, empty, empty
    if subject.enhancement == "ring":
        core = concentration > _ring_threshold(concentration, whole, options)
        depth = ndimage.distance_transform_edt(core).astype(np.float32) * h
        thick = min(rim, 0.45 * float(depth.max()))
        necrosis = (depth > thick * ragged).astype(np.float32)
        enhancing = core - necrosis
    else:
        core = concentration > options.detect_solid
        if subject.mismatch:
            depth = ndimage.distance_transform_edt(whole).astype(np.float32) * h
            thick = min(rim, 0.35 * float(depth.max()))
            interior = (depth > thick).astype(np.float32)
            core = interior > 0
        if subject.enhancement == "patchy":
            enhancing = _patches(concentration, core, patches, options.detect_t1c, 0.9 if subject.mismatch else 0.78).astype(
                np.float32
            )
    specks = empty
    if subject.heterogeneous:
        specks = _specks(rng, core if core.any() else whole, h)
    return Tumour(
        box=box,
        concentration=_continued(concentration, tissue),
        tissue=ndimage.binary_closing(tissue).astype(np.float32),
        core=soft(core, h),
        enhancing=soft(enhancing, h),
        necrosis=soft(necrosis, h),
        interior=soft(interior, h),
        specks=specks,
        mottle=mottle if subject.heterogeneous else empty,
        grain=grain,
    )


def _ring_threshold(concentration: np.ndarray, whole: np.ndarray, options: PhantomOptions) -> float:
    """The T1c detection threshold, or less where the core would be too small for its ring to be seen."""
    share = np.quantile(concentration[whole], 1 - options.core_share)
    return float(min(options.detect_t1c, share))


def _patches(concentration: np.ndarray, core: np.ndarray, patches: np.ndarray, detect: float, quantile: float) -> np.ndarray:
    dense = core & (concentration > min(detect, float(np.quantile(concentration[core], 0.5)) if core.any() else 1.0))
    if not dense.any():
        return dense
    return dense & (patches > np.quantile(patches[dense], quantile))


def _specks(rng: np.random.Generator, where: np.ndarray, h: float) -> np.ndarray:
    places = np.argwhere(where)
    chosen = places[rng.integers(len(places), size=int(rng.integers(10, 22)))]
    sharp = np.zeros(where.shape, np.float32)
    for place in chosen:
        sharp[tuple(place)] = rng.uniform(0.6, 1.4)
    sigma = 1.5 / h
    blobs = ndimage.gaussian_filter(sharp, sigma) * (np.sqrt(2 * np.pi) * sigma) ** 3
    return np.clip(blobs, 0, 1)


def soft(mask: np.ndarray, h: float) -> np.ndarray:
    """The mask (X, Y, Z) as fractions in 0..1 with a soft border; `h` = voxel edge in mm."""
    return ndimage.gaussian_filter(mask.astype(np.float32), _SOFT / h, truncate=3) if mask.any() else mask.astype(np.float32)


def _continued(concentration: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    weight = ndimage.uniform_filter(tissue.astype(np.float32), 3)
    mean = ndimage.uniform_filter(concentration * tissue, 3) / np.maximum(weight, 1e-3)
    return np.where(tissue, concentration, mean * (weight > 0.03)).astype(np.float32)
