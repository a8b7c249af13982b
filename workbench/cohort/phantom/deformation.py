"""Another person: a smooth deformation of the template without folds, ventricles by age, and the mass effect of a tumour.

All maps are backward: they say, for a point of the subject (MNI millimetres, RAS+), which point of the template is seen there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.anatomy import CENTRE, COARSE, PLACES, TEMPLATE_ORIGIN, Box, template, template_at

LEAST_JACOBIAN = 0.2


@dataclass(frozen=True)
class Deformation:
    """A subject's backward map: template point = point + displacement(point), then mirrored where `flip`."""

    displacement: np.ndarray
    """(3, ...) in mm on `template().coarse`."""
    flip: bool

    def jacobian(self) -> np.ndarray:
        """Determinant of the map's derivative at the nodes of the coarse grid (mirroring aside): > 0 everywhere = no fold."""
        rows = np.stack([np.stack(np.gradient(part.astype(np.float64), COARSE)) for part in self.displacement])
        for axis in range(3):
            rows[axis, axis] += 1
        return _determinant(rows)

    def template_index(self, box: Box) -> np.ndarray:
        """Template voxel coordinates (3, *box.shape) seen at each voxel of `box`."""
        coarse = template().coarse
        index = np.empty((3, *box.shape), np.float32)
        for axis, points in enumerate(box.points()):
            index[axis] = box.resample(self.displacement[axis], coarse, outside="nearest") + points
        if self.flip:
            index[0] *= -1
        index -= TEMPLATE_ORIGIN.astype(np.float32)[:, None, None, None]
        return index

    def tissue(self, box: Box, spacing: float = 1.0, parts: int = 4) -> list[np.ndarray]:
        """The first `parts` of (grey, white, brain, vessels) on `box`, with the partial volumes of voxels of `spacing` mm."""
        index = self.template_index(box)
        fields = template_at(spacing)[:parts]
        return [ndimage.map_coordinates(field, index, order=1, mode="constant", output=np.float32) for field in fields]

    def tissue_within(self, box: Box, centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """(grey, white) on `box` within `radius` mm of `centre`, 0 farther away."""
        near = sum((points - c) ** 2 for points, c in zip(box.points(), centre, strict=True)) < radius**2
        index = self.template_index(box)[:, near]
        result = []
        for field in template_at(1.0)[:2]:
            part = np.zeros(box.shape, np.float32)
            part[near] = ndimage.map_coordinates(field, index, order=1, mode="constant", output=np.float32)
            result.append(part)
        return result[0], result[1]

    def followed_by_push(self, push: np.ndarray) -> Deformation:
        """The map after the subject's own anatomy was pushed aside: backward displacement `push` (3, ...) comes first."""
        coarse = template().coarse
        index = np.indices(coarse.shape, dtype=np.float32) + push / COARSE
        moved = np.stack([ndimage.map_coordinates(part, index, order=1, mode="nearest") for part in self.displacement])
        return Deformation((moved + push).astype(np.float32), self.flip)


def _determinant(rows: np.ndarray) -> np.ndarray:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """A Gaussian random field of unit standard deviation, correlated over `sigma` voxels; float32."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3)
    return field / max(float(field.std()), 1e-12)


def deform(rng: np.random.Generator, strength: float, ventricle_shift: float, flip: bool) -> Deformation:
    """A new person: head size and tilt, a deformation on two scales, wider or narrower ventricles.

    Args:
        strength: standard deviation of the random deformation in mm.
        ventricle_shift: outward shift of the ventricular wall in mm (negative: narrower).
    """
    source = template()
    coarse = source.coarse
    points = [axis - centre for axis, centre in zip(coarse.points(), CENTRE, strict=True)]
    linear = np.diag(np.clip(rng.normal(0.0, 0.025, 3), -0.04, 0.04))
    tilt = np.clip(rng.normal(0.0, 0.03, 3), -0.07, 0.07)
    for (a, b), angle in zip(((0, 1), (0, 2), (1, 2)), tilt, strict=True):
        linear[a, b], linear[b, a] = angle, -angle
    affine = np.stack([sum((linear[a, b] * points[b] for b in range(3)), np.zeros(coarse.shape)) for a in range(3)])
    edge = np.clip((source.depth + 8) / 16, 0.4, 1)  # calmer at the surface, so that the head keeps its outline
    large = np.stack([smooth_noise(rng, coarse.shape, 22 / COARSE) for _ in range(3)]) * strength * 0.8
    small = np.stack([smooth_noise(rng, coarse.shape, 8 / COARSE) for _ in range(3)]) * strength * 0.4
    wild = (large + small) * edge + ventricle_shift * source.ventricles
    for _ in range(12):
        result = Deformation((affine + wild).astype(np.float32), flip)
        if result.jacobian().min() > LEAST_JACOBIAN:
            return result
        wild = wild * 0.85
    return Deformation(affine.astype(np.float32), flip)


def push_aside(deformation: Deformation, centre: np.ndarray, radius: float, amount: float) -> Deformation:
    """Mass effect: tissue around `centre` (mm) is pushed outward by up to `amount` mm at `radius` mm, nothing at the skull.

    The tumour is grown afterwards, in the displaced anatomy: what it infiltrates and what it displaces agree.
    """
    coarse = template().coarse
    offset = [points - c for points, c in zip(coarse.points(), centre, strict=True)]
    distance = np.sqrt(sum(o**2 for o in offset))
    profile = np.exp(0.5 * (1 - (distance / radius) ** 2)) / radius
    skull = np.clip(ndimage.gaussian_filter(template().depth, 1.0) / 14, 0, 1)
    push = np.stack([-amount * profile * skull * o for o in offset]).astype(np.float32)
    for _ in range(12):
        result = deformation.followed_by_push(push)
        if result.jacobian().min() > 0.5 * LEAST_JACOBIAN:
            return result
        push = push * 0.8
    return deformation


def choose_seed(rng: np.random.Generator, deformation: Deformation, lobe: str, cortical: bool, left: bool) -> np.ndarray:
    """A point (mm) of the subject from which a tumour of this place starts: uniform over the place on the given side."""
    source = template()
    index = deformation.template_index(source.coarse)
    nodes = (index + TEMPLATE_ORIGIN[:, None, None, None] - np.asarray(source.coarse.origin)[:, None, None, None]) / COARSE
    places = ndimage.map_coordinates(source.places, nodes, order=0, mode="constant")
    x = np.broadcast_to(source.coarse.points()[0], places.shape)
    chosen = (places == PLACES.index((lobe, cortical)) + 1) & ((x < 0) == left)
    candidates = np.argwhere(chosen)
    node = candidates[rng.integers(len(candidates))]
    return np.asarray(source.coarse.origin) + COARSE * node
