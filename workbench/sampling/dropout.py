"""Which modalities a model gets to see: modality dropout for training, and the list of all subsets for judging robustness."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All non-empty subsets of the names, smallest first, each in the order of `names`: 2^n - 1 of them."""
    return [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


def drop_each(present: Sequence[bool], probability: float, rng: np.random.Generator) -> list[bool]:
    """Keep each present modality with 1 - `probability`, independently; where that leaves none, one of them is kept,
    all with the same chance.

    Args:
        present: per modality, whether it was acquired.
        probability: of dropping each.
        rng: source of randomness.

    Returns:
        Per modality, whether it is kept; never one that is absent.
    """
    there = [index for index, value in enumerate(present) if value]
    draws = rng.random(len(there))
    spare = int(rng.integers(len(there))) if there else 0  # drawn in any case: the same number of draws for every outcome
    kept = {index for index, draw in zip(there, draws, strict=True) if draw >= probability}
    if there and not kept:
        kept = {there[spare]}
    return [index in kept for index in range(len(present))]


def drop_subset(present: Sequence[bool], probability: float, rng: np.random.Generator) -> list[bool]:
    """With `probability`, keep a subset drawn uniformly from all non-empty subsets of the present modalities; else keep all."""
    there = [index for index, value in enumerate(present) if value]
    replace, code = rng.random() < probability, int(rng.integers(1, 2 ** len(there))) if there else 0
    if not replace:
        return [bool(value) for value in present]
    kept = {index for bit, index in enumerate(there) if code >> bit & 1}
    return [index in kept for index in range(len(present))]
