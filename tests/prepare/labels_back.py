"""The way back that a drawn mask takes: what a test holds against the original."""

from __future__ import annotations

import numpy as np

from workbench.prepare.native import to_native
from workbench.prepare.store import PreparedCase


def labels_back(labels: np.ndarray, case: PreparedCase) -> np.ndarray:
    """Canonical labels (X, Y, Z) of a case on its native grid, uint8: the label of the largest interpolated share."""
    shares = np.stack([labels == label for label in range(4)]).astype(np.float32)
    return to_native(shares, case, np.eye(4)[0]).argmax(axis=0).astype(np.uint8)
