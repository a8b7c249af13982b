"""Where lesions other than gliomas lie: distances and places in the average head, all in template millimetres (RAS+).

Lesions are drawn in the template and deformed with the subject's anatomy, so that they stay where they belong (at the ventricle's
wall, at the grey-white junction, in one artery's territory) in every head and at every output spacing. The borders of places and
of arterial territories are plain MNI coordinates, set by eye (own choice): enough to tell territories apart, nothing finer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.anatomy import TEMPLATE_ORIGIN, Box, template

NODE = 2.0
"""Spacing in mm of the grid that holds distances and the scores lesions are thresholded from."""
TERRITORIES = ("aca", "mca", "pca", "cerebellar")


@dataclass(frozen=True)
class Atlas:
    """The average head as lesions need it. Arrays are (X, Y, Z) float32 on `nodes` unless said otherwise."""

    fine: Box
    """The template's own 1 mm grid, on which lesions are drawn."""
    nodes: Box
    white_fine: np.ndarray
    """White matter on `fine`, without the false seam of grey that partial volumes leave along the ventricles."""
    tissue_fine: np.ndarray
    """Grey + white matter on `fine`."""
    white: np.ndarray
    tissue: np.ndarray
    wall: np.ndarray
    """Distance in mm to the lateral ventricles, 0 inside."""
    outward: np.ndarray
    """(3, X, Y, Z): unit vector away from the lateral ventricles."""
    cortex: np.ndarray
    """Distance in mm to the cortex of the cerebrum."""
    depth: np.ndarray
    """Distance in mm to the brain's surface and to its large sulci."""
    below: np.ndarray
    """bool: cerebellum and brain stem."""
    places: dict[str, np.ndarray]
    """Name of a place -> (N, 3) points in mm, both sides."""

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of the nodes nearest to points (N, 3) in mm."""
        index = np.rint((points - np.asarray(self.nodes.origin)) / NODE).astype(int)
        index = np.clip(index, 0, np.asarray(self.nodes.shape) - 1)
        return index[:, 0], index[:, 1], index[:, 2]

    def points_of(self, where: np.ndarray) -> np.ndarray:
        """(N, 3) points in mm of the nodes in a boolean mask."""
        return np.argwhere(where) * NODE + np.asarray(self.nodes.origin)


@cache
def atlas() -> Atlas:
    """The atlas, made once per process."""
    source = template()
    fine = Box(source.brain.shape, 1.0, tuple(float(v) for v in TEMPLATE_ORIGIN))  # type: ignore[arg-type]
    nodes = Box(tuple(n // 2 for n in fine.shape), NODE, tuple(o + 0.5 for o in fine.origin))  # type: ignore[arg-type]
    ventricle = _lateral_ventricles(source.brain - source.grey - source.white, fine)
    near = ndimage.binary_dilation(ventricle, iterations=5)
    opened = np.asarray(ndimage.grey_opening(source.grey, size=(5, 5, 5)))
    seam = np.where(near, source.grey - opened, 0)
    white_fine = (source.white + seam).astype(np.float32)
    tissue_fine = source.grey + source.white
    white, tissue = nodes.resample(white_fine, fine), nodes.resample(tissue_fine, fine)
    grey = tissue - white
    inside = nodes.resample(ventricle.astype(np.float32), fine) > 0.5
    wall = (ndimage.distance_transform_edt(~inside) * NODE).astype(np.float32)
    smooth = np.asarray(ndimage.gaussian_filter(wall, 1.0))
    slope = np.stack([np.gradient(smooth, axis=axis) for axis in range(3)])
    outward = (slope / np.maximum(np.sqrt((slope**2).sum(0)), 1e-3)).astype(np.float32)
    x, y, z = np.broadcast_arrays(*nodes.points())
    side = np.abs(x)
    tent = -6 - 0.2 * side - 0.2 * np.maximum(-55 - y, 0)  # the tentorium falls off sideways and backwards
    below = ((y < -38) & (z < tent) & ((side < 46) | (y < -60))) | ((side < 15) & (y < -8) & (z < -6)) | (z < -46)
    nuclei = (side < 33) & (y > -34) & (y < 24) & (z > -12) & (z < 24)
    ribbon = (grey > 0.5) & ~nuclei & ~below & (wall > 5)
    cortex = (ndimage.distance_transform_edt(~ribbon) * NODE).astype(np.float32)
    depth = (ndimage.distance_transform_edt(tissue > 0.3) * NODE).astype(np.float32)
    made = Atlas(fine, nodes, white_fine, tissue_fine, white, tissue, wall, outward, cortex, depth, below, {})
    made.places.update({name: made.points_of(where) for name, where in _places(made, (side, y, z), grey).items()})
    return made


def _lateral_ventricles(fluid: np.ndarray, fine: Box) -> np.ndarray:
    x, y, z = fine.points()
    room = (np.abs(x) < 38) & (y > -60) & (y < 38) & (z > -8) & (z < 34)
    names, _ = ndimage.label((fluid > 0.5) & room)
    sizes = np.bincount(names.ravel())
    sizes[0] = 0
    return names == sizes.argmax()


def _places(made: Atlas, points: tuple[np.ndarray, np.ndarray, np.ndarray], grey: np.ndarray) -> dict[str, np.ndarray]:
    side, y, z = points
    cerebral = (made.white > 0.7) & ~made.below & (z > -28)
    depth = made.depth
    brainstem = made.below & (side < 13) & (y > -38) & (made.tissue > 0.9) & (depth > 4)
    cerebellum = made.below & (y < -42) & (made.tissue > 0.9) & (depth > 6)
    nuclei = (side > 8) & (side < 30) & (y > -26) & (y < 16) & (z > -2) & (z < 18) & (made.tissue > 0.95) & (made.wall > 3)
    crown = (side > 16) & (side < 32) & (y > -34) & (y < 22) & (z > 16) & (z < 34) & (made.white > 0.9) & (made.wall > 4)
    return {
        "periventricular": cerebral & (made.wall > 1) & (made.wall < 5) & (z > -4),
        "juxtacortical": (made.white > 0.6) & ~made.below & (made.cortex < 4) & (made.wall > 12) & (z > -24),
        "deep": cerebral & (made.wall >= 8) & (made.cortex >= 5) & (z > -4) & ((z > 18) | (side > 34) | (y > 26) | (y < -36)),
        "infratentorial": (brainstem & (y < -18)) | (cerebellum & (made.white > 0.5)),
        "junction": (made.white > 0.45) & ~made.below & (made.cortex <= 3) & (made.wall > 12) & (z > -30) & (depth > 5),
        "cerebellum": cerebellum,
        "brainstem": brainstem,
        "nuclei": nuclei,
        "crown": crown,
        "pons": brainstem & (y > -36) & (y < -18) & (z < -20) & (z > -40) & (side > 2),
        "cortex": (grey > 0.5) & ~made.below & (made.cortex < 1) & (depth < 10),
        "cerebellar_cortex": cerebellum & (depth < 14),
        "ventricle": (made.wall > 0) & (made.wall < 3) & (made.tissue > 0.3),
    }


def territory_of(points: np.ndarray, *, below: np.ndarray | None = None) -> np.ndarray:
    """Arterial territory of points (N, 3) in mm as index into `TERRITORIES`.

    Args:
        below: (N,) bool, which points belong to cerebellum or brain stem; default none.
    """
    side, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    found = np.full(len(points), TERRITORIES.index("mca"))
    medial = 13 + 0.28 * np.maximum(z - 20, 0)  # the strip along the falx widens towards the vertex
    anterior = (side < medial) & (y > -48) & (z > 14 - 0.6 * np.maximum(y - 20, 0))
    precuneus = (side < 16) & (y > -76) & (z >= 40)
    found[anterior | precuneus | ((side < 20) & (y > 48))] = TERRITORIES.index("aca")
    occipital = (y < -62 - 0.35 * np.maximum(side - 25, 0)) & (z < 34)
    medial_parietal = (side < 16) & (y <= -48) & (z < 40)
    temporal = (side < 44) & (y < -18) & (z < -6 - 0.35 * np.maximum(side - 30, 0))
    thalamic = (side < 22) & (y < -6) & (y > -34) & (z > -6) & (z < 16)
    found[occipital | medial_parietal | temporal | thalamic] = TERRITORIES.index("pca")
    if below is not None:
        found[below] = TERRITORIES.index("cerebellar")
    return found
