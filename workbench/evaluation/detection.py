"""Regions that a case may lack: found or invented, apart from how well they are drawn; and what a distance to nothing counts as.

A mean Dice over all cases mixes three questions: was the region found, was one invented where there is none, and how good is the
outline. Of six cases in which one has no enhancing tumour and nothing is ever found, it says 0.17. Here each has its own number.
A mean distance depends on what a missed region counts as, and with that on the grid of the images: the policy is named, and the
median, which a few misses hardly move, leads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import InputError, ParameterError, Problem
from workbench.evaluation.metrics import METRICS, Kind
from workbench.evaluation.proportions import proportion
from workbench.labels import REGIONS

GRID_DIAGONAL, BRATS, EXCLUDE = "grid_diagonal", "brats", "exclude"
BRATS_MM = 374.0
"""What BraTS 2023 counts a missed or invented lesion as: the diagonal of its 240 x 240 x 155 grid of 1 mm."""
PENALTIES = {
    GRID_DIAGONAL: "the diagonal of the case's own grid",
    BRATS: f"{BRATS_MM:.0f} mm, as in BraTS 2023",
    EXCLUDE: "nothing: such cases, and those in which both are empty, are left out",
}
"""Policy -> what a distance counts as in a case in which only truth or only prediction has the region."""
COLUMNS = (
    "split", "present", "region", "n_with", "n_found", "found", "found_low", "found_high", "subjects_with",
    "n_without", "n_false", "false", "false_low", "false_high", "subjects_without",
)  # fmt: skip

_DISTANCES = tuple(entry.name for entry in METRICS if entry.kind is Kind.DISTANCE)


def with_penalty(metrics: pd.DataFrame, penalty: str = GRID_DIAGONAL) -> pd.DataFrame:
    """Rows of metrics.parquet, which holds the grid's diagonal, with the distances of another policy.

    Args:
        metrics: columns metric, value, n_truth, n_prediction.
        penalty: of `PENALTIES`.

    Raises:
        ParameterError: there is no such policy.
        InputError: the table does not say what the prediction holds.
    """
    require_penalty(penalty)
    distance = metrics["metric"].isin(_DISTANCES)
    if penalty == GRID_DIAGONAL or not distance.any():
        return metrics
    if "n_prediction" not in metrics:
        raise InputError(
            Problem(
                channel="n_prediction",
                message="the table of metrics has no such column: which distances are penalties cannot be told",
                remedy=f"use the penalty {GRID_DIAGONAL}, which the table holds, or evaluate the run again",
            )
        )
    truth, predicted = metrics["n_truth"] > 0, metrics["n_prediction"] > 0
    value = metrics["value"].mask(distance & (truth != predicted), BRATS_MM if penalty == BRATS else np.nan)
    if penalty == EXCLUDE:
        value = value.mask(distance & ~truth & ~predicted)
    return metrics.assign(value=value)


def require_penalty(penalty: str) -> None:
    """Refuse a policy that there is not.

    Raises:
        ParameterError: names those that there are.
    """
    if penalty not in PENALTIES:
        raise ParameterError(f"penalty '{penalty}' is unknown; there are {', '.join(PENALTIES)}")


def penalty_text(metric: str, penalty: str) -> str:
    """A sentence that belongs beside a distance; empty of other metrics."""
    if metric not in _DISTANCES:
        return ""
    return f"A region that only truth or only prediction has counts as {PENALTIES[penalty]}."


def detection(metrics: pd.DataFrame) -> pd.DataFrame:
    """Per split, modality subset and region: found in k of the n cases that have it, invented in k of the m that do not.

    Args:
        metrics: rows of metrics.parquet with the Dice of each case; others are not looked at.

    Returns:
        n_with: cases whose truth has the region, n_found: with at least one voxel of it in common (Dice above 0); n_without:
        cases whose truth has none, n_false: with a prediction all the same (Dice 0); found and false: the shares, with Wilson's
        interval adjusted for the subjects' cases (`proportions.proportion`); NaN where there is no such case.
    """
    rows: list[dict[str, Any]] = []
    dice = metrics[(metrics["metric"] == "dice") & metrics["value"].notna() & metrics["n_truth"].notna()]
    for key, part in dice.groupby(["split", "present", "region"], sort=False, observed=True):
        there = (part["n_truth"] > 0).to_numpy()
        overlap = (part["value"] > 0).to_numpy()  # where truth has none: nothing was predicted either
        subjects = part["subject"].to_numpy().astype(str)
        found, false = (proportion(hits[of], subjects[of]) for of, hits in ((there, overlap), (~there, ~overlap)))
        rows.append(
            {
                **dict(zip(("split", "present", "region"), map(str, key), strict=True)),
                "n_with": found.n, "n_found": int(overlap[there].sum()), "found": found.value, "found_low": found.low,
                "found_high": found.high, "subjects_with": found.n_subjects, "n_without": false.n,
                "n_false": int((~overlap[~there]).sum()), "false": false.value, "false_low": false.low,
                "false_high": false.high, "subjects_without": false.n_subjects,
            }
        )  # fmt: skip
    rank = {region: place for place, region in enumerate(REGIONS)}
    parts = list(dict.fromkeys((row["split"], row["present"]) for row in rows))
    rows.sort(key=lambda row: (parts.index((row["split"], row["present"])), rank.get(row["region"], len(rank))))
    return pd.DataFrame(rows, columns=list(COLUMNS))
