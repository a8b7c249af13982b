"""Where the network looks: windows slid over a case, one window over all of it, and the crop around the tumour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, int, int]


def slide(
    images: Tensor, patch: Sequence[int], predictor: Callable[[Tensor], Tensor], *, overlap: float = 0.5, batch: int = 1
) -> Tensor:
    """Logits (1, C, X, Y, Z) of images (1, M, X, Y, Z): overlapping windows, averaged with Gaussian weights.

    The weights fall with a standard deviation of an eighth of the window, as in nnU-Net; a side shorter than the window is
    padded with zeros on both ends, and the result cropped back.

    Args:
        images: float32.
        patch: the window's shape.
        predictor: (b, M, *patch) -> (b, C, *patch).
        overlap: share of a window that the next one covers again.
        batch: windows per call.
    """
    result = sliding_window_inference(
        images, tuple(patch), batch, predictor, overlap=overlap, mode="gaussian", sigma_scale=0.125, padding_mode="constant"
    )
    assert isinstance(result, Tensor)
    return result


def whole_shape(shape: Sequence[int], patch: Sequence[int], divisor: int, minimum: int) -> Shape:
    """The window for a whole case: the training patch, enlarged where the case is larger, to sides the method takes."""
    x, y, z = (max(minimum, -(-max(n, p) // divisor) * divisor) for n, p in zip(shape, patch, strict=True))
    return x, y, z


def centred_start(shape: Sequence[int], window: Sequence[int]) -> Shape:
    """First voxel of a window around the volume's middle voxel, as `sampling` lays whole brains; negative where it is larger."""
    x, y, z = (n // 2 - w // 2 for n, w in zip(shape, window, strict=True))
    return x, y, z


def crop(volume: Tensor, start: Sequence[int], window: Sequence[int]) -> Tensor:
    """The part (..., *window) of a volume (..., X, Y, Z) that begins at `start`; zeros where it reaches beyond."""
    pad: list[int] = []
    slices: list[slice] = []
    for first, size, length in zip(start, window, volume.shape[-3:], strict=True):
        low, high = min(max(first, 0), length), min(max(first + size, 0), length)
        slices.append(slice(low, high))
        pad = [max(0, min(-first, size)), size - (high - low) - max(0, min(-first, size)), *pad]
    return F.pad(volume[..., slices[0], slices[1], slices[2]], pad)


def paste(window: Tensor, start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Inverse of `crop`: the window (..., x, y, z) in a volume (..., *shape) of zeros."""
    return crop(window, [-first for first in start], shape)


def tumour_centre(labels: np.ndarray) -> Shape | None:
    """Voxel at the centroid of the largest connected component (26 neighbours) of labels > 0; None where there is none."""
    components, count = ndimage.label(labels > 0, structure=np.ones((3, 3, 3), dtype=bool))
    if count == 0:
        return None
    largest = int(np.bincount(components.ravel())[1:].argmax()) + 1
    x, y, z = (round(float(value)) for value in ndimage.center_of_mass(components == largest))
    return x, y, z


def flips(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All flips along `axes` (0, 1, 2 = X, Y, Z) as dimensions of (B, C, X, Y, Z), none at all first."""
    return [tuple(2 + axis for axis in chosen) for n in range(len(axes) + 1) for chosen in combinations(axes, n)]


def mirrored(predictor: Callable[[Tensor], Tensor], axes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Average the predictor's voxel logits over all flips along `axes` (0, 1, 2 = X, Y, Z)."""
    ways = flips(axes)

    def averaged(images: Tensor) -> Tensor:
        total = predictor(images)
        for flip in ways[1:]:
            total = total + torch.flip(predictor(torch.flip(images, flip)), flip)
        return total / len(ways)

    return averaged if axes else predictor
