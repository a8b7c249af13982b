"""The way back: from a case's prepared grid to the grid of its own images."""

from __future__ import annotations

import numpy as np

from workbench.prepare.resampling import resample
from workbench.prepare.store import PreparedCase


def to_native(array: np.ndarray, case: PreparedCase, background: float | np.ndarray = 0.0) -> np.ndarray:
    """Logits, probabilities or maps (C, X, Y, Z) of a case on its native grid (C, *native.shape), same dtype.

    A pure flip, permutation and padding where preparing did not interpolate, else linear. Not smoothed before going to
    thicker slices: annotators drew on the middle of a slice, not on its average.

    Args:
        array: (C, X, Y, Z) floating point, on the prepared grid.
        case: the prepared case.
        background: value outside the prepared box, one for all channels or one per channel (C,); for logits, values that
            make background win.
    """
    if array.shape[1:] != case.shape:
        raise ValueError(f"expected (C, {', '.join(map(str, case.shape))}) of case {case.name}, found {array.shape}")
    fills = np.broadcast_to(np.asarray(background, dtype=np.float64), (array.shape[0],))
    return np.stack(
        [resample(channel, case.grid, case.native, fill=float(fill)) for channel, fill in zip(array, fills, strict=True)]
    )
