"""What explanation maps say by region, as a run's tables hold it."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.fixture
def attribution() -> pd.DataFrame:
    """Shares of three maps in two cases."""
    return pd.DataFrame(
        [
            (case, name, region, share, chance)
            for case, shift in (("TINY-00000-000", 0.0), ("b", 0.1))
            for name in ("weight_seen", "gradcam_codel", "gate")
            for region, share, chance in (("outside", 0.5 - shift, 0.9), ("ET", 0.2 + shift, 0.04), ("ED", 0.3, 0.06))
        ],
        columns=["case", "map", "region", "share", "chance"],
    )


@pytest.fixture
def weights() -> pd.DataFrame:
    """Mean weights of two sequences in two cases, one of which has no voxel outside."""
    return pd.DataFrame(
        [("TINY-00000-000", "ET", "t1c", 0.7, 9), ("TINY-00000-000", "ET", "flair", 0.3, 9), ("b", "ET", "t1c", 0.5, 1),
         ("b", "ET", "flair", 0.5, 1), ("b", "outside", "t1c", 0.25, 99), ("b", "outside", "flair", 0.75, 99)],
        columns=["case", "region", "modality", "weight", "voxels"],
    )  # fmt: skip
