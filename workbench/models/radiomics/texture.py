"""Texture of a region in three dimensions: grey-level co-occurrence and size-zone matrices, as the IBSI defines them.

Zwanenburg et al., *The Image Biomarker Standardization Initiative*, Radiology 2020 (reference manual: arXiv 1612.07003).
Intensities are brought to a fixed number of levels between the region's smallest and largest ("fixed bin number"). Co-occurrences
are counted over the 13 directions to the 26 neighbours and merged before the features are computed; zones are 26-connected.

Own code, because pyradiomics has no wheels for current Pythons in the registry; each matrix is a few lines of NumPy and SciPy.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

LEVELS = 16
"""Grey levels: few enough for the matrix of a small tumour to be filled."""

OUTSIDE = -1

DIRECTIONS = tuple(d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0))
"""One of each pair of opposite neighbours: 13."""

_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def discretise(image: np.ndarray, mask: np.ndarray, levels: int = LEVELS) -> np.ndarray:
    """Levels 0 to `levels` - 1 inside the mask, `OUTSIDE` elsewhere; int (X, Y, Z). A constant region is all level 0."""
    result = np.full(image.shape, OUTSIDE, dtype=np.int64)
    values = image[mask].astype(np.float64)
    low, high = values.min(), values.max()
    if high > low:
        result[mask] = np.minimum((levels * (values - low) / (high - low)).astype(np.int64), levels - 1)
    else:
        result[mask] = 0
    return result


def cooccurrence(grey: np.ndarray, levels: int = LEVELS) -> np.ndarray:
    """Symmetric co-occurrence matrix (levels, levels) that sums to 1, over both-inside pairs; zeros where there is no pair."""
    counts = np.zeros(levels * levels, dtype=np.int64)
    for direction in DIRECTIONS:
        here = tuple(slice(max(0, -step), min(n, n - step)) for step, n in zip(direction, grey.shape, strict=True))
        there = tuple(slice(max(0, step), min(n, n + step)) for step, n in zip(direction, grey.shape, strict=True))
        first, second = grey[here], grey[there]
        both = (first >= 0) & (second >= 0)
        counts += np.bincount(first[both] * levels + second[both], minlength=levels * levels)
    matrix = counts.reshape(levels, levels).astype(np.float64)
    matrix += matrix.T
    total = matrix.sum()
    return matrix / total if total else matrix


def cooccurrence_features(matrix: np.ndarray) -> dict[str, float]:
    """Seven numbers of a co-occurrence matrix; empty where it holds no pair."""
    if not matrix.any():
        return {}
    i, j = np.indices(matrix.shape)
    marginal = matrix.sum(axis=0)
    levels = np.arange(len(marginal))
    mean = float(levels @ marginal)
    variance = float((levels - mean) ** 2 @ marginal)
    positive = matrix[matrix > 0]
    together = i + j - 2 * mean
    return {
        "contrast": float(((i - j) ** 2 * matrix).sum()),
        # of one level only, every pair is alike
        "correlation": float(((i - mean) * (j - mean) * matrix).sum() / variance) if variance > 0 else 1.0,
        "angular_second_moment": float((matrix**2).sum()),
        "inverse_difference_moment": float((matrix / (1 + (i - j) ** 2)).sum()),
        "joint_entropy": float(-(positive * np.log2(positive)).sum()) + 0.0,
        "cluster_shade": float((together**3 * matrix).sum()),
        "cluster_prominence": float((together**4 * matrix).sum()),
    }


def zones(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and size in voxels of every 26-connected zone of equal level; two int arrays of equal length."""
    levels, sizes = [], []
    for level in np.unique(grey[grey >= 0]):
        found, count = ndimage.label(grey == level, structure=_NEIGHBOURS)
        levels += [int(level)] * count
        sizes += np.bincount(found.ravel())[1:].tolist()
    return np.asarray(levels, dtype=np.int64), np.asarray(sizes, dtype=np.int64)


def zone_features(levels: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    """Five numbers of the size-zone matrix; empty where there is no zone."""
    if not sizes.size:
        return {}
    shares = np.unique(np.stack([levels, sizes]), axis=1, return_counts=True)[1] / sizes.size
    of_equal_size = np.unique(sizes, return_counts=True)[1]
    return {
        "small_zone_emphasis": float(np.mean(1.0 / sizes.astype(np.float64) ** 2)),
        "large_zone_emphasis": float(np.mean(sizes.astype(np.float64) ** 2)),
        "zone_percentage": float(sizes.size / sizes.sum()),
        "zone_size_non_uniformity": float((of_equal_size.astype(np.float64) ** 2).sum() / sizes.size**2),
        "zone_size_entropy": float(-(shares * np.log2(shares)).sum()) + 0.0,
    }


def texture(image: np.ndarray, mask: np.ndarray, levels: int = LEVELS) -> dict[str, float]:
    """All texture features of an image (X, Y, Z) inside a mask of that shape; empty where the mask is."""
    if not mask.any():
        return {}
    grey = discretise(image, mask, levels)
    pairs = {f"glcm_{name}": value for name, value in cooccurrence_features(cooccurrence(grey, levels)).items()}
    return pairs | {f"glszm_{name}": value for name, value in zone_features(*zones(grey)).items()}
