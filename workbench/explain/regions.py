"""What explanation maps say per region of the tumour: shares of attribution beside chance, and which sequence weighs how much.

Plain NumPy: everything here works on maps that are on disk as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.labels import REGIONS

OUTSIDE = "outside"
WEIGHT = "weight_"
"""Maps of this name and a modality's hold the weight of that modality at each voxel; over all modalities they add up to 1."""

_REGIONS = {"glioma": ("ET", "NCR", "ED"), "glioma_post": ("ET", "NCR", "ED", "RC"), "WT": ("WT",), "lesion": ("lesion",)}


def explained_regions(label_set: str) -> tuple[str, ...]:
    """The regions, none overlapping another, by which maps of a case with this label set are judged; none without a mask."""
    return _REGIONS.get(label_set, ())


def _masks(labels: np.ndarray | None, looked_at: np.ndarray, regions: tuple[str, ...]) -> dict[str, np.ndarray]:
    inside = {region: np.isin(labels, REGIONS[region]) & looked_at for region in regions} if labels is not None else {}
    rest = looked_at.copy()
    for mask in inside.values():
        rest &= ~mask
    return inside | {OUTSIDE: rest}


def attribution_rows(values: np.ndarray, labels: np.ndarray, looked_at: np.ndarray, label_set: str) -> pd.DataFrame:
    """Share of a map's sum inside each region and outside all of them, beside what a map without any preference would have.

    Args:
        values: (X, Y, Z), 0 or more.
        labels: (X, Y, Z) canonical labels.
        looked_at: (X, Y, Z) bool: brain inside the window that the method looked at; what lies elsewhere does not count.
        label_set: a key of `labels.LABEL_SETS`.

    Returns:
        Columns region, share, chance (the region's share of the voxels looked at). Each column of numbers adds up to 1; shares
        are NaN where the map is zero everywhere.

    Raises:
        ValueError: the map has negative values, of which there are no shares.
    """
    if float(values.min(initial=0.0)) < 0:
        raise ValueError("a map with negative values has no shares")
    total, count = float(values[looked_at].sum(dtype=np.float64)), max(int(np.count_nonzero(looked_at)), 1)
    rows = [
        (region, float(values[mask].sum(dtype=np.float64)) / total if total > 0 else np.nan, np.count_nonzero(mask) / count)
        for region, mask in _masks(labels, looked_at, explained_regions(label_set)).items()
    ]
    return pd.DataFrame(rows, columns=["region", "share", "chance"])


def modality_weight_rows(
    maps: Mapping[str, np.ndarray], labels: np.ndarray | None, looked_at: np.ndarray, label_set: str
) -> pd.DataFrame:
    """Mean weight of each modality in each region: which sequence decides where.

    Args:
        maps: all maps of a case; those named `weight_<modality>` are used.
        labels: (X, Y, Z) canonical labels, or None without a mask.
        looked_at: (X, Y, Z) bool, as for `attribution_rows`.
        label_set: a key of `labels.LABEL_SETS`; '' without a mask.

    Returns:
        Columns region, modality, weight, voxels; regions that the case has, and 'outside' for the brain around them. In each
        region the weights add up to 1. Empty where the method has no such maps.
    """
    weights = {name.removeprefix(WEIGHT): values for name, values in maps.items() if name.startswith(WEIGHT)}
    masks = _masks(labels, looked_at, explained_regions(label_set) if labels is not None else ())
    rows = [
        (region, modality, float(values[mask].mean(dtype=np.float64)), int(np.count_nonzero(mask)))
        for region, mask in masks.items()
        if mask.any()
        for modality, values in weights.items()
    ]
    return pd.DataFrame(rows, columns=["region", "modality", "weight", "voxels"])
