"""Drawing lesions on the template's 1 mm grid, as ellipsoids or as regions cut from a score; then seen through a deformation.

Every part of a lesion (plaque, oedema, infarct, ...) is a field of fractions in 0..1 with soft borders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.anatomy import TEMPLATE_ORIGIN, Box
from workbench.cohort.phantom.deformation import Deformation, smooth_noise
from workbench.cohort.phantom.lesion_atlas import Atlas

_SOFT = 1.2  # mm over which an ellipsoid's border falls from 1 to 0
Window = tuple[slice, slice, slice]


@dataclass
class Drawing:
    """The lesions of one subject while they are drawn, on `atlas.fine`."""

    atlas: Atlas
    rng: np.random.Generator
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    """Part -> (X, Y, Z) float32 fractions; painted in this order."""
    facts: dict[str, Any] = field(default_factory=dict)
    ragged: np.ndarray | None = None

    def part(self, name: str) -> np.ndarray:
        """The field of a part, empty at first."""
        if name not in self.parts:
            self.parts[name] = np.zeros(self.atlas.fine.shape, np.float32)
        return self.parts[name]

    def add(self, name: str, window: Window, fraction: np.ndarray) -> None:
        """Union with what is there."""
        part = self.part(name)
        np.maximum(part[window], fraction, out=part[window])

    def noise(self, millimetres: float) -> np.ndarray:
        """Unit-variance noise on `atlas.nodes`, correlated over this length."""
        return smooth_noise(self.rng, self.atlas.nodes.shape, millimetres / self.atlas.nodes.spacing)

    def ellipsoid(
        self, centre: np.ndarray, radii: np.ndarray, axis: np.ndarray | None = None, uneven: float = 0.12
    ) -> tuple[Window, np.ndarray]:
        """An ellipsoid's window on the fine grid and its fractions there.

        Args:
            centre: (3,) in mm.
            radii: (3,) in mm; the first lies along `axis`.
            axis: (3,) direction of the first radius; default at random.
            uneven: standard deviation of the radius along the surface, as a share of it.
        """
        frame = _frame(self.rng.standard_normal(3) if axis is None else axis, self.rng)
        window = _around(self.atlas.fine, centre, float(radii.max()) * (1 + 3 * uneven) + 2)
        points = self.atlas.fine.part(window).points()
        offset = [p - c for p, c in zip(points, centre, strict=True)]
        squared: np.ndarray | float = 0.0
        for direction, radius in zip(frame, radii, strict=True):
            along = sum((float(d) * o for d, o in zip(direction, offset, strict=True)), np.zeros(()))
            squared = squared + (along / radius) ** 2
        distance = np.sqrt(squared)
        if uneven:
            if self.ragged is None:
                self.ragged = self.noise(4.0)
            bumps = self.atlas.fine.part(window).resample(self.ragged, self.atlas.nodes, outside="nearest")
            distance = distance / np.clip(1 + uneven * bumps, 0.5, 1.6)
        size = float(np.prod(radii) ** (1 / 3))
        return window, np.clip(0.5 - (distance - 1) * size / _SOFT, 0, 1).astype(np.float32)

    def below(self, score: np.ndarray, threshold: float, soft: float) -> tuple[Window, np.ndarray]:
        """Where a score on `atlas.nodes` lies below `threshold`: window on the fine grid and fractions, falling over `soft`."""
        reached = score < threshold + soft
        if not reached.any():
            return (slice(0, 1),) * 3, np.zeros((1, 1, 1), np.float32)
        low = self.atlas.points_of(reached).min(0) - 3
        high = self.atlas.points_of(reached).max(0) + 3
        window = _between(self.atlas.fine, low, high)
        capped = np.minimum(score, threshold + 4 * soft)  # an infinite score cannot be interpolated
        fine = self.atlas.fine.part(window).resample(capped, self.atlas.nodes, outside="nearest")
        return window, np.clip(0.5 - (fine - threshold) / (2 * soft), 0, 1)


def threshold_for(score: np.ndarray, share: np.ndarray, volume: float, cell: float) -> float:
    """The threshold below which lie `volume` mm^3; all there is where that is less.

    Args:
        score: (X, Y, Z); infinite = never.
        share: share of each voxel that counts.
        cell: volume of a voxel in mm^3.
    """
    possible = np.isfinite(score) & (share > 0)
    values = score[possible]
    order = np.argsort(values, kind="stable")
    total = np.cumsum(share[possible][order]) * cell
    return float(values[order[min(int(np.searchsorted(total, volume)), len(order) - 1)]])


def _frame(axis: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three orthonormal rows, the first along `axis`."""
    first = axis / max(float(np.linalg.norm(axis)), 1e-9)
    other = rng.standard_normal(3)
    second = other - other @ first * first
    second /= max(float(np.linalg.norm(second)), 1e-9)
    return np.stack([first, second, np.cross(first, second)])


def _around(box: Box, centre: np.ndarray, reach: float) -> Window:
    return _between(box, np.asarray(centre) - reach, np.asarray(centre) + reach)


def _between(box: Box, low: np.ndarray, high: np.ndarray) -> Window:
    cuts = []
    for axis in range(3):
        start = math.floor((low[axis] - box.origin[axis]) / box.spacing)
        stop = math.ceil((high[axis] - box.origin[axis]) / box.spacing) + 1
        start = min(max(start, 0), box.shape[axis] - 1)
        cuts.append(slice(start, max(min(stop, box.shape[axis]), start + 1)))
    return cuts[0], cuts[1], cuts[2]


@dataclass(frozen=True)
class Lesions:
    """The finished lesions of one subject in template space."""

    box: Box
    parts: dict[str, np.ndarray]
    """Part -> (X, Y, Z) float32 fractions on `box`."""
    facts: dict[str, Any]

    @classmethod
    def of(cls, drawing: Drawing) -> Lesions:
        """Cropped to what was drawn, with 4 mm to spare."""
        fine = drawing.atlas.fine
        reached = np.any([part > 0.01 for part in drawing.parts.values()], axis=0)
        cuts = []
        for axis in range(3):
            found = np.flatnonzero(reached.any(axis=tuple(a for a in range(3) if a != axis)))
            cuts.append(slice(max(int(found[0]) - 4, 0), min(int(found[-1]) + 5, fine.shape[axis])))
        window = cuts[0], cuts[1], cuts[2]
        parts = {name: np.ascontiguousarray(part[window]) for name, part in drawing.parts.items()}
        return cls(fine.part(window), parts, drawing.facts)

    def seen(self, deformation: Deformation, box: Box, error: np.ndarray | None = None, *, blur: bool) -> dict[str, np.ndarray]:
        """All parts on a subject's grid `box`.

        Args:
            error: (3, X, Y, Z) displacement in mm of what is seen at each voxel.
            blur: with the partial volumes of the grid's voxels (for signals), or as the voxel's centre is (for labels).
        """
        index = deformation.template_index(box)
        fine = self.box
        index -= (np.asarray(fine.origin) - TEMPLATE_ORIGIN).astype(np.float32)[:, None, None, None]
        if error is not None:
            index += error
        near = np.ones(box.shape, bool)
        for axis in range(3):
            near &= (index[axis] > -1) & (index[axis] < fine.shape[axis])
        places = index[:, near]
        sigma = 0.42 * math.sqrt(max(box.spacing**2 - 1.0, 0.0)) if blur else 0.0
        result = {}
        for name, part in self.parts.items():
            source = ndimage.gaussian_filter(part, sigma, truncate=3) if sigma > 0.2 else part
            whole = np.zeros(box.shape, np.float32)
            whole[near] = ndimage.map_coordinates(source, places, order=1, mode="constant", output=np.float32)
            result[name] = whole
        return result
