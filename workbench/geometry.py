"""Affines and voxel grids in world millimetres, RAS+ (NIfTI convention)."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np


@dataclass(frozen=True)
class Grid:
    """A voxel grid: its shape (X, Y, Z) and the affine (4, 4) from voxel index to world millimetres (RAS+)."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm along the array's axes."""
        x, y, z = nib.affines.voxel_sizes(self.affine)
        return float(x), float(y), float(z)

    @property
    def orientation(self) -> str:
        """Axis codes such as 'RAS' or 'LPS': the direction in which each axis increases."""
        return "".join(nib.aff2axcodes(self.affine))

    @property
    def diagonal(self) -> float:
        """Length of the grid's diagonal in mm, from the first voxel's outer corner to the last one's."""
        return float(np.linalg.norm(np.asarray(self.shape) * np.asarray(self.spacing)))

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm^3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def matches(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same shape and the same affine within `tolerance` mm."""
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, rtol=0, atol=tolerance))

    def as_dict(self) -> dict[str, list]:
        """A JSON-able form; `Grid.from_dict` reads it back exactly."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @classmethod
    def from_dict(cls, value: dict[str, list]) -> Grid:
        """Inverse of `as_dict`."""
        x, y, z = (int(n) for n in value["shape"])
        return cls((x, y, z), np.asarray(value["affine"], dtype=np.float64))

    @classmethod
    def of(cls, image: nib.spatialimages.SpatialImage) -> Grid:
        """The grid of a 3-D nibabel image."""
        x, y, z = (int(n) for n in image.shape[:3])
        return cls((x, y, z), np.asarray(image.affine, dtype=np.float64))


def canonical_grid(grid: Grid) -> Grid:
    """The same grid with its axes flipped and permuted to lie closest to RAS+ (no resampling)."""
    transform = nib.orientations.io_orientation(grid.affine)
    shape = tuple(int(grid.shape[int(np.argwhere(transform[:, 0] == axis)[0, 0])]) for axis in range(3))
    affine = grid.affine @ nib.orientations.inv_ornt_aff(transform, grid.shape)
    return Grid((shape[0], shape[1], shape[2]), affine)


def to_canonical_array(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Flip and permute the last three axes of `array` (..., X, Y, Z) to lie closest to RAS+."""
    transform = nib.orientations.io_orientation(affine)
    moved = np.moveaxis(array, (-3, -2, -1), (0, 1, 2))
    return np.moveaxis(nib.orientations.apply_orientation(moved, transform), (0, 1, 2), (-3, -2, -1))


def from_canonical_array(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Inverse of `to_canonical_array`: `affine` is that of the original grid."""
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.io_orientation(affine))
    moved = np.moveaxis(array, (-3, -2, -1), (0, 1, 2))
    return np.moveaxis(nib.orientations.apply_orientation(moved, back), (0, 1, 2), (-3, -2, -1))
