"""Slices of RAS+ arrays as pictures, in radiological convention: one place for which way round, for all views but NiiVue.

A picture is an array (rows, columns) with row 0 at the top and column 0 on the left. Axial and coronal pictures have the
patient's right on the left side; sagittal pictures have the face to the
right, as NiiVue draws them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.views.cases.images import LabelColour

MAP_COLOURS = "plasma"
"""Colours of continuous maps: no black at the low end, which would darken the image; the same name in NiiVue."""
MAP_FLOOR = 0.1
"""Share of a map's range below which nothing is drawn: weak values would only veil the image."""
SAGITTAL, CORONAL, AXIAL = 0, 1, 2
PLANES = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL}
"""Name of a plane -> the array axis (of RAS+) that runs through it."""
EDGES: dict[int, tuple[str, str, str, str]] = {
    SAGITTAL: ("P", "A", "S", "I"),
    CORONAL: ("R", "L", "S", "I"),
    AXIAL: ("R", "L", "A", "P"),
}
"""Axis -> letters on the left, right, top and bottom edge of its picture."""


def picture_axes(axis: int) -> tuple[int, int]:
    """The array axes that run along a picture's columns (left to right) and rows."""
    return {SAGITTAL: (1, 2), CORONAL: (0, 2), AXIAL: (0, 1)}[axis]


def picture(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Slice `index` along `axis` of a RAS+ array (X, Y, Z) as a picture (rows, columns)."""
    rows = np.take(array, index, axis=axis).T[::-1]
    return rows if axis == SAGITTAL else rows[:, ::-1]


def picture_shape_mm(shape: Sequence[int], spacing: Sequence[float], axis: int) -> tuple[float, float]:
    """Width and height of a picture in mm."""
    columns, rows = picture_axes(axis)
    return shape[columns] * spacing[columns], shape[rows] * spacing[rows]


def colour_table(colours: Sequence[LabelColour]) -> np.ndarray:
    """Label value -> (red, green, blue, alpha), uint8 (256, 4); values without a colour are transparent."""
    table = np.zeros((256, 4), np.uint8)
    for colour in colours:
        table[colour.value] = (*colour.rgb, round(255 * colour.strength))
    return table


def map_table(floor: float = MAP_FLOOR) -> np.ndarray:
    """A continuous map's step -> (red, green, blue, alpha), uint8 (256, 4); transparent below `floor` of the range."""
    from matplotlib import colormaps  # here: it takes half a second and most sessions show no map

    place = (np.linspace(0, 1, 256) - floor) / (1 - floor)
    table = (colormaps[MAP_COLOURS](np.clip(place, 0, 1)) * 255).astype(np.uint8)
    table[place < 0, 3] = 0
    return table


def outline(labels: np.ndarray) -> np.ndarray:
    """The rim of each label in a picture (rows, columns): voxels with another value among their four neighbours."""
    padded = np.pad(labels, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    different = np.zeros(centre.shape, bool)
    for neighbour in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        different |= neighbour != centre
    return np.where(different, centre, 0).astype(labels.dtype)


def blend(grey: np.ndarray, over: np.ndarray | None, table: np.ndarray, opacity: float) -> np.ndarray:
    """A grey picture (rows, columns) uint8 with coloured values laid over it: (rows, columns, 3) uint8."""
    base = np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)
    if over is not None:
        colour = table[over].astype(np.float32)
        alpha = colour[..., 3:] / 255 * opacity
        base = base * (1 - alpha) + colour[..., :3] * alpha
    return np.round(base).astype(np.uint8)
