"""Where a patch lies, and what is in it. A patch of size p around voxel c covers c - p // 2 up to c - p // 2 + p."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.prepare.resampling import overlap
from workbench.prepare.store import PreparedCase

Voxel = tuple[int, int, int]


def read_patch(
    case: PreparedCase, centre: Sequence[int], patch: Sequence[int], modalities: Sequence[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Images float16 (M, *patch) and labels uint8 (*patch) or None around a voxel; zero outside the prepared box.

    Only the chunks that the patch touches are decoded.
    """
    low = tuple(int(c) - int(p) // 2 for c, p in zip(centre, patch, strict=True))
    size = tuple(int(p) for p in patch)
    (x, y, z), (u, v, w) = overlap(low, size, case.shape)
    images = np.zeros((len(modalities), *size), np.float16)
    images[:, u, v, w] = case.images((x, y, z), modalities)
    drawn = case.labels((x, y, z))
    if drawn is None:
        return images, None
    labels = np.zeros(size, np.uint8)
    labels[u, v, w] = drawn
    return images, labels


def box_centre(shape: Sequence[int]) -> Voxel:
    """The voxel around which a patch covers a box of `shape` centrally, whatever the patch's size."""
    x, y, z = (int(n) // 2 for n in shape)
    return x, y, z


def inner_centre(centre: Sequence[int], shape: Sequence[int], patch: Sequence[int]) -> Voxel:
    """The nearest centre whose patch stays inside the box; along axes on which the patch is larger, the box's middle."""
    moved = []
    for c, n, p in zip(centre, shape, patch, strict=True):
        half = int(p) // 2
        moved.append(int(n) // 2 if n <= p else int(np.clip(int(c), half, int(n) - int(p) + half)))
    return moved[0], moved[1], moved[2]


def random_centre(shape: Sequence[int], patch: Sequence[int], rng: np.random.Generator) -> Voxel:
    """A patch anywhere inside the box, all positions with the same chance."""
    drawn = [int(rng.integers(0, max(int(n) - int(p), 0) + 1)) + int(p) // 2 for n, p in zip(shape, patch, strict=True)]
    return inner_centre(drawn, shape, patch)


def foreground_centre(case: PreparedCase, patch: Sequence[int], rng: np.random.Generator) -> Voxel | None:
    """A patch that holds a voxel of a label drawn with equal chance among the case's, as nnU-Net does (Isensee et al. 2021);
    centred on it unless the patch would leave the box. None where the case has no foreground."""
    labels = sorted(case.foreground)
    if not labels:
        return None
    voxels = case.foreground[labels[int(rng.integers(len(labels)))]]
    return inner_centre(voxels[int(rng.integers(len(voxels)))], case.shape, patch)


def jittered_mask_centre(case: PreparedCase, jitter: int, rng: np.random.Generator) -> Voxel:
    """The centroid of the case's mask, of the brain where it has none, moved by up to `jitter` voxels along each axis."""
    moved = np.asarray(case.mask_centre or case.brain_centre) + rng.integers(-jitter, jitter + 1, 3)
    x, y, z = (int(v) for v in moved)
    return x, y, z
