"""From one voxel grid to another: exactly where the grids share a lattice, else by linear interpolation.

Linear, not cubic: across 5 mm slices and at the edge of a skull-stripped brain cubic splines ring (values that no tissue
has, next to the very rim where tumours touch). Along an axis on which a target voxel spans more than one source voxel, it
gets the mean of what it spans: the partial volume that a scanner with such voxels would have seen. Between grids whose axes
are not parallel, a Gaussian of about that width comes first instead (sigma^2 = (k^2 - 1) / (8 ln 2) source voxels for a step
of k voxels; Cardoso et al., MICCAI 2015).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse

from workbench.geometry import Grid, canonical_grid, from_canonical_array, to_canonical_array

_LATTICE = 1e-3
"""Relative difference of spacings, and part of a voxel, below which two grids count as one lattice."""


REACHED = 0.05
"""A voxel of which less than this share comes from inside the mask has no value of its own."""


def prepared_grid(native: Grid, brain: np.ndarray, spacing: float, margin_mm: float = 0.0) -> Grid:
    """The grid of a prepared case: the brain's bounding box plus margin, axes flipped and permuted to RAS+, isotropic.

    The axes keep the directions in which the image was acquired: oblique slices follow the anatomy, and along every axis
    whose spacing is the wanted one the voxels are the native ones, so nothing is interpolated there.

    Args:
        native: the case's native grid.
        brain: bool, of the native shape.
        spacing: mm. Spacings that differ by less than 0.1 % are taken as equal.
        margin_mm: kept around the bounding box, at most to the native volume's border.
    """
    grid = canonical_grid(native)
    mask = to_canonical_array(brain, native.affine)
    step = np.ones(3)
    start, count = np.zeros(3), np.ones(3, int)
    for axis in range(3):
        occupied = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(margin_mm / grid.spacing[axis] - 1e-6))
        low, high = max(occupied[0] - margin, 0), min(occupied[-1] + margin, grid.shape[axis] - 1)
        if abs(grid.spacing[axis] / spacing - 1) > _LATTICE:
            step[axis] = spacing / grid.spacing[axis]
        count[axis] = max(1, int(np.ceil((high - low + 1) / step[axis] - 1e-3)))
        # both boxes have the same middle; with step 1 the first voxel is exactly `low`
        start[axis] = (low + high) / 2 - (count[axis] - 1) / 2 * step[axis]
    affine = grid.affine @ np.block([[np.diag(step), start[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
    return Grid((int(count[0]), int(count[1]), int(count[2])), affine)


def resample(array: np.ndarray, source: Grid, target: Grid, *, fill: float = 0.0, antialias: bool = False) -> np.ndarray:
    """An image (..., X, Y, Z) of grid `source` on grid `target`, same dtype.

    Grids on one lattice (equal up to flips, permutations, crops and whole-voxel shifts) are copied, for any dtype; else
    floating-point images are interpolated linearly. Voxels outside the source's field of view get `fill`.

    Args:
        array: (..., X, Y, Z) on `source`.
        source: its grid.
        target: the wanted grid.
        fill: value outside the source.
        antialias: average where the target is coarser, instead of taking the value at its voxels' centres.
    """
    canonical = canonical_grid(target)
    matrix, offset = _index_map(canonical_grid(source), canonical)
    moved = to_canonical_array(array, source.affine)
    shift = np.rint(offset).astype(int)
    if np.allclose(matrix, np.eye(3), rtol=0, atol=1e-5) and np.allclose(offset, shift, rtol=0, atol=_LATTICE):
        result = crop(moved, tuple(shift), canonical.shape, fill)
    else:
        flat = moved.reshape(-1, *moved.shape[-3:])
        done = [_interpolate(volume, matrix, offset, canonical.shape, fill, antialias) for volume in flat]
        result = np.stack(done).reshape(*moved.shape[:-3], *canonical.shape)
    return np.ascontiguousarray(from_canonical_array(result, target.affine))


def resample_labels(labels: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Labels (X, Y, Z) uint8 on another grid: each label's share of a target voxel, then the largest share.

    Unlike interpolating the label values this makes no label that is not there between two others; unlike nearest neighbour
    it keeps thin structures connected when sampling more coarsely.
    """
    if _same_lattice(source, target):
        return resample(labels, source, target)
    best = np.zeros(target.shape, np.uint8)
    found = [int(v) for v in np.unique(labels) if v]
    shares = [resample((labels == v).astype(np.float32), source, target, antialias=True) for v in found]
    largest = 1 - sum(shares, np.zeros(target.shape, np.float32))
    for value, share in zip(found, shares, strict=True):
        wins = (share > largest - 1e-4) & (share > 0)  # ties go to the rarer thing: thin lesions lose most by averaging
        best[wins], largest[wins] = value, share[wins]
    return best


def resample_inside(array: np.ndarray, mask: np.ndarray, share: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """An image on another grid, mixed from the voxels inside a mask only (normalised convolution, Knutsson & Westin 1993).

    Air next to the brain has an arbitrary value; plain smoothing would carry it into the rim.

    Args:
        array: float32 on `source`.
        mask: bool on `source`.
        share: the mask on `target`, `resample`d with `antialias`.
        source: grid of `array`.
        target: the wanted grid.

    Returns:
        The image, float32, 0 where `share` is below `REACHED`.
    """
    reached = share > REACHED
    if _same_lattice(source, target):
        return resample(array, source, target) * reached
    middle = np.float32(array[mask].mean()) if mask.any() else np.float32(0)
    total = resample(np.where(mask, array - middle, np.float32(0)), source, target, antialias=True)
    return np.where(reached, total / np.where(reached, share, np.float32(1)) + middle, np.float32(0))


def crop(array: np.ndarray, low: tuple[int, ...], shape: tuple[int, ...], fill: float = 0.0) -> np.ndarray:
    """The box of `shape` that starts at voxel `low` of the last three axes; what lies outside the array is `fill`."""
    result = np.full((*array.shape[:-3], *shape), fill, array.dtype)
    (x, y, z), (u, v, w) = overlap(low, shape, array.shape[-3:])
    result[..., u, v, w] = array[..., x, y, z]
    return result


def overlap(low: tuple[int, ...], shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the part of a box (from `low`, of `shape`) inside an array of `size`: in the array, and in the box."""
    inside, place = [], []
    for start, length, extent in zip(low, shape, size, strict=True):
        first = min(max(int(start), 0), extent)
        last = max(min(int(start) + length, extent), first)
        inside.append(slice(first, last))
        place.append(slice(first - int(start), last - int(start)) if last > first else slice(0, 0))
    return tuple(inside), tuple(place)


def _index_map(source: Grid, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (3, 3) and offset (3,): source index = matrix @ target index + offset. Numerical dust is removed."""
    full = np.linalg.inv(source.affine) @ target.affine
    matrix = np.where(np.abs(full[:3, :3]) < 1e-6, 0.0, full[:3, :3])
    return matrix, full[:3, 3]


def _same_lattice(source: Grid, target: Grid) -> bool:
    matrix, offset = _index_map(canonical_grid(source), canonical_grid(target))
    whole = np.allclose(offset, np.rint(offset), rtol=0, atol=_LATTICE)
    return bool(np.allclose(matrix, np.eye(3), rtol=0, atol=1e-5) and whole)


def _interpolate(
    volume: np.ndarray, matrix: np.ndarray, offset: np.ndarray, shape: tuple[int, ...], fill: float, antialias: bool
) -> np.ndarray:
    if np.count_nonzero(matrix - np.diag(np.diag(matrix))):
        result = _oblique(volume, matrix, offset, shape, antialias)
    else:
        result = _along_axes(volume, np.diag(matrix), offset, shape, antialias)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    for axis in range(3):  # a voxel's field of view ends half a voxel beyond its centre
        terms = [matrix[axis, k] * axes[k] for k in range(3) if matrix[axis, k]]
        index = offset[axis] + sum(terms[1:], terms[0])
        outside = (index < -0.5 - 1e-6) | (index > volume.shape[axis] - 0.5 + 1e-6)
        if outside.any():
            result[np.broadcast_to(outside, shape)] = fill
    return result


def _oblique(volume: np.ndarray, matrix: np.ndarray, offset: np.ndarray, shape: tuple[int, ...], antialias: bool) -> np.ndarray:
    if antialias:
        steps = np.linalg.norm(matrix, axis=1)
        sigma = np.sqrt(np.maximum(steps**2 - 1, 0) / (8 * np.log(2)))
        if (sigma > 0).any():
            volume = ndimage.gaussian_filter(volume, sigma, mode="nearest", truncate=3.0)
    return ndimage.affine_transform(volume, matrix, offset, shape, order=1, mode="nearest")


def _along_axes(volume: np.ndarray, scale: np.ndarray, offset: np.ndarray, shape: tuple[int, ...], antialias: bool) -> np.ndarray:
    """One axis after the other: what `affine_transform` with a diagonal matrix gives if linear, ten times as fast."""
    for axis in np.argsort(np.asarray(shape) / volume.shape):  # the axis that shrinks most goes first
        centre = scale[axis] * np.arange(shape[axis]) + offset[axis]
        if antialias and scale[axis] > 1 + _LATTICE:
            weights = _averaging(centre, float(scale[axis]), volume.shape[axis])
        else:
            weights = _linear(centre, volume.shape[axis])
        first = np.moveaxis(volume, axis, 0)
        mixed = weights.astype(volume.dtype) @ first.reshape(first.shape[0], -1)
        volume = np.moveaxis(mixed.reshape(-1, *first.shape[1:]), 0, axis)
    return volume


def _linear(centre: np.ndarray, size: int) -> sparse.csr_array:
    """Weights (positions, voxels) of linear interpolation at positions in voxels; the ends continue constantly."""
    position = np.clip(centre, 0, size - 1)
    low = np.minimum(position.astype(int), max(size - 2, 0))
    part = position - low
    rows = np.arange(len(centre))
    entries = np.concatenate([1 - part, part]), (np.tile(rows, 2), np.concatenate([low, np.minimum(low + 1, size - 1)]))
    return sparse.csr_array(sparse.coo_array(entries, shape=(len(centre), size)))


def _averaging(centre: np.ndarray, width: float, size: int) -> sparse.csr_array:
    """Weights (positions, voxels) of the mean over intervals of `width` voxels, as far as they lie inside the volume."""
    edge = np.arange(size) - 0.5
    low, high = (np.clip(centre + side * width / 2, -0.5, size - 0.5)[:, None] for side in (-1, 1))
    shared = np.clip(np.minimum(high, edge + 1) - np.maximum(low, edge), 0, None)
    return sparse.csr_array(shared / np.maximum(shared.sum(axis=1, keepdims=True), 1e-9))
