"""The MNI152 average head: tissue maps, vessels, ventricles, lobes, and the grids everything is computed on.

Anatomy: Fonov et al. 2011 (ICBM 2009a symmetric), as carried by nilearn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.populations import LAYERED, LOBES

FIELD_OF_VIEW = (168.0, 192.0, 168.0)
"""Edge lengths in mm of what is written; 3 mm voxels make it 56 x 64 x 56."""
CENTRE = (0.0, -17.0, 5.0)
COARSE = 4.0
"""Spacing in mm of the grid that holds a deformation: the deformation is far smoother than this."""

TEMPLATE_ORIGIN = np.array([-98.0, -134.0, -72.0])


@dataclass(frozen=True)
class Box:
    """A regular grid along the world axes (RAS+): voxel (i, j, k) has its centre at origin + spacing * (i, j, k) mm."""

    shape: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    def points(self) -> list[np.ndarray]:
        """Coordinates in mm along each axis, shaped to broadcast."""
        axes = [o + self.spacing * np.arange(n) for o, n in zip(self.origin, self.shape, strict=True)]
        return [axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]]

    def part(self, window: tuple[slice, slice, slice]) -> Box:
        """The sub-grid that `window` cuts out."""
        size = [cut.stop - cut.start for cut in window]
        x, y, z = (o + self.spacing * cut.start for o, cut in zip(self.origin, window, strict=True))
        return Box((size[0], size[1], size[2]), self.spacing, (x, y, z))

    def affine(self) -> np.ndarray:
        """Voxel index to world millimetres, (4, 4)."""
        affine = np.diag([self.spacing] * 3 + [1.0])
        affine[:3, 3] = self.origin
        return affine

    def resample(self, array: np.ndarray, source: Box, *, outside: Literal["constant", "nearest"] = "constant") -> np.ndarray:
        """Linear interpolation of `array` on `source` at this grid's voxels; 0 (or the nearest value) beyond its edge."""
        result = np.asarray(array, np.float32)
        for axis in range(3):
            position = (self.origin[axis] + self.spacing * np.arange(self.shape[axis]) - source.origin[axis]) / source.spacing
            last = result.shape[axis] - 1
            low = np.clip(np.floor(position), 0, max(last - 1, 0)).astype(int)
            weight = np.clip(position - low, 0, 1)
            weights = np.stack([1 - weight, weight]).astype(np.float32)
            if outside == "constant":
                weights[:, (position < -0.5) | (position > last + 0.5)] = 0
            lower, upper = weights.reshape(2, *(-1 if a == axis else 1 for a in range(3)))
            high = np.minimum(low + 1, last)
            part = np.take(result, low, axis)
            part *= lower
            other = np.take(result, high, axis)
            other *= upper
            part += other
            result = part
        return result


def field_of_view(spacing: float, margin: float = 0.0) -> Box:
    """The grid of what is written at this spacing, `margin` mm larger on every side."""
    size = [math.ceil((edge + 2 * margin) / spacing - 1e-9) for edge in FIELD_OF_VIEW]
    origin = [c - spacing * (n - 1) / 2 for c, n in zip(CENTRE, size, strict=True)]
    return Box((size[0], size[1], size[2]), spacing, (origin[0], origin[1], origin[2]))


@dataclass(frozen=True)
class Template:
    """The average head at 1 mm. Arrays are (197, 233, 189) float32 unless said otherwise."""

    grey: np.ndarray
    white: np.ndarray
    brain: np.ndarray
    vessels: np.ndarray
    """Where contrast agent stays in a healthy head: choroid plexus, falx and sinuses."""
    ventricles: np.ndarray
    """(3, ...) on `coarse`: unit-height push away from the lateral ventricles."""
    depth: np.ndarray
    """On `coarse`: distance to the brain's surface in mm, 0 outside."""
    places: np.ndarray
    """On `coarse`: 0 where no glioma starts, else 1 + index into `PLACES`."""
    coarse: Box


PLACES: tuple[tuple[str, bool], ...] = tuple(
    (lobe, cortical) for lobe in LOBES for cortical in (True, False) if lobe in LAYERED or not cortical
)
"""(lobe, cortical): where a tumour can start."""


@cache
def template() -> Template:
    """The template, made once per process from the files in nilearn's own package (no download)."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    t1, grey, white = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    )
    names, _ = ndimage.label(t1 > 0)
    brain = names == names[98, 134, 92]  # without two specks of the eye sockets
    # The maps are averages of many heads: squaring the odds gives the crisp borders of one.
    fluid = np.clip(1 - grey - white, 0, 1)
    odds = np.stack([grey, white, fluid]) ** 2
    odds = odds / np.maximum(odds.sum(0), 1e-6) * brain
    grey, white, fluid = (part.astype(np.float32) for part in odds)
    coarse = field_of_view(COARSE, margin=12.0)
    own = Box((brain.shape[0], brain.shape[1], brain.shape[2]), 1.0, (-98.0, -134.0, -72.0))
    gap = 1 - _fissure(own)
    grey, white, fluid = grey * gap, white * gap, brain - (grey + white) * gap
    inside = coarse.resample(brain.astype(np.float32), own) > 0.5
    depth = (ndimage.distance_transform_edt(inside) * COARSE).astype(np.float32)
    return Template(
        grey=grey,
        white=white,
        brain=brain.astype(np.float32),
        vessels=_vessels(fluid, own),
        ventricles=_ventricle_push(fluid, own, coarse),
        depth=depth,
        places=_places(coarse, depth, coarse.resample(white + grey, own)),
        coarse=coarse,
    )


@cache
def template_at(spacing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(grey, white, brain, vessels) blurred to voxels of this size, so that coarse voxels hold partial volumes."""
    source = template()
    sigma = 0.42 * math.sqrt(max(spacing**2 - 1.0, 0.0))
    fields = (source.grey, source.white, source.brain, source.vessels)
    if sigma < 0.2:
        return fields
    grey, white, brain, vessels = (ndimage.gaussian_filter(field, sigma, truncate=3) for field in fields)
    return grey, white, brain, vessels


def _fissure(own: Box) -> np.ndarray:
    """The cleft between the hemispheres, which averaging has closed: without it tumours would cross the falx."""
    x, y, z = own.points()
    falx = (z > 33) | (y > 37) | ((y < -50) & (z > -8)) | ((y > 10) & (z < -3))
    return (0.9 * np.exp(-((x / 1.7) ** 2)) * falx).astype(np.float32)


def _vessels(fluid: np.ndarray, own: Box) -> np.ndarray:
    x, y, z = own.points()
    x = np.abs(x)
    choroid = ((x - 24) / 4) ** 2 + ((y + 38) / 9) ** 2 + ((z - 6) / 6) ** 2 < 1
    falx = (x < 1.6) & (((z > 38) & (y > -90)) | (y < -70))
    return (fluid * (1.3 * (choroid & (fluid > 0.3)) + 0.8 * falx)).astype(np.float32)


def _ventricle_push(fluid: np.ndarray, own: Box, coarse: Box) -> np.ndarray:
    low, high = (np.subtract(corner, own.origin).astype(int) for corner in ((-50, -72, -24), (50, 54, 50)))
    room = fluid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    part = Box(room.shape, 1.0, tuple(float(v) for v in low + np.asarray(own.origin)))  # type: ignore[arg-type]
    x, y, z = part.points()
    centre = (np.abs(x) < 38) & (y > -56) & (y < 38) & (z > -8) & (z < 34)
    names, _ = ndimage.label((room > 0.5) & centre)
    sizes = np.bincount(names.ravel())
    sizes[0] = 0
    lateral = (names == sizes.argmax()).astype(np.float32)
    smooth = coarse.resample(ndimage.gaussian_filter(lateral, 6.0, truncate=3), part)
    push = np.stack(np.gradient(smooth, COARSE))
    return (push / np.sqrt((push**2).sum(0)).max()).astype(np.float32)


def _places(coarse: Box, depth: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """A plain parcellation by MNI coordinates: enough to tell lobes apart, nothing finer."""
    x, y, z = np.broadcast_arrays(*coarse.points())
    x = np.abs(x)
    lobe = np.full(coarse.shape, LOBES.index("parietal"))
    lobe[y > -2 - 0.45 * (z - 10)] = LOBES.index("frontal")
    lobe[y < -68] = LOBES.index("occipital")
    lobe[((z < -4) & (x > 20) & (y < 16)) | ((x > 42) & (z < 6) & (y < 8) & (y > -54))] = LOBES.index("temporal")
    lobe[(x > 28) & (x < 44) & (y > -18) & (y < 24) & (z > -12) & (z < 18)] = LOBES.index("insular")
    lobe[(x < 28) & (y > -34) & (y < 18) & (z > -6) & (z < 24)] = LOBES.index("deep")
    below = ((y < -34) & (z < -8)) | ((x < 20) & (y < -4) & (z < -6))  # cerebellum and brain stem
    allowed = (tissue > 0.6) & (depth > 0) & ~below & (z > -38)
    places = np.zeros(coarse.shape, np.int8)
    for index, (name, cortical) in enumerate(PLACES):
        layer = (depth < 11) if cortical else (depth >= 11) if name in LAYERED else depth > 6
        places[allowed & layer & (lobe == LOBES.index(name))] = index + 1
    return places
