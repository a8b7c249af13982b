"""Decision thresholds, chosen on validation cases and nowhere else.

A threshold is placed half-way between the lowest probability that it calls positive and the next one below: the same decisions
on the validation cases, and the widest margin for others. A case is positive from the threshold on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from workbench.errors import ParameterError
from workbench.evaluation.markers import Sample, make_sample, sample_of

SENSITIVITY = 0.95
ALL_FOLDS = -1
"""`fold` of the external cases of a pooled run, which the models of all folds predicted together."""
NO_THRESHOLD = "not estimable: no threshold was chosen, since validation lacks a class"
COLUMNS = (
    "fold",
    "present",
    "marker",
    "class",
    "rule",
    "threshold",
    "sensitivity",
    "specificity",
    "n",
    "n_positive",
    "estimable",
)


def youden_threshold(truth: ArrayLike, probability: ArrayLike) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950); of equals, the highest.

    NaN where a class is missing.
    """
    sample = make_sample(truth, probability)
    cuts, sensitivity, specificity = _operating_points(sample)
    if not cuts.size:
        return float("nan")
    youden = sensitivity + specificity - 1
    return float(cuts[np.flatnonzero(youden >= youden.max() - 1e-12)[0]])


def sensitivity_threshold(truth: ArrayLike, probability: ArrayLike, sensitivity: float = SENSITIVITY) -> float:
    """The highest threshold at which the sensitivity is at least `sensitivity`; NaN where a class is missing.

    Raises:
        ParameterError: `sensitivity` is not in (0, 1].
    """
    if not 0 < sensitivity <= 1:
        raise ParameterError(f"sensitivity is {sensitivity}, expected a number above 0 and up to 1")
    cuts, reached, _ = _operating_points(make_sample(truth, probability))
    return float(cuts[np.flatnonzero(reached >= sensitivity - 1e-12)[0]]) if cuts.size else float("nan")


def validation_thresholds(markers: pd.DataFrame, *, sensitivity: float = SENSITIVITY) -> pd.DataFrame:
    """The thresholds of a run: per fold, modality subset, marker and class, from its validation rows; other rows are not read.

    In a pooled run each fold has its own: a fold's validation cases are another fold's test cases, so that a threshold chosen on
    all of them would have seen the cases it judges. External cases are nobody's validation cases: where a pooled run has some, a
    threshold for them (fold `ALL_FOLDS`) is chosen on the validation cases of all folds.

    Args:
        markers: rows of markers.parquet.
        sensitivity: what the second rule guarantees on validation.

    Returns:
        fold, present, marker, class, rule ('youden' or 'sensitivity'), threshold, the sensitivity and specificity it has on
        validation, n, n_positive, estimable (False: too few cases for the threshold to be trusted). No rows without validation.
    """
    rows = []
    chosen = markers[markers["split"] == "validation"]
    if "fold" not in chosen:
        chosen = chosen.assign(fold=ALL_FOLDS)
    elif (markers["fold"] == ALL_FOLDS).any() and not (chosen["fold"] == ALL_FOLDS).any():
        chosen = pd.concat([chosen, chosen.assign(fold=ALL_FOLDS)], ignore_index=True)
    for key, part in chosen.groupby(["fold", "present", "marker", "class"], sort=False):
        sample = sample_of(part)
        cuts = {
            "youden": youden_threshold(sample.truth, sample.probability),
            "sensitivity": sensitivity_threshold(sample.truth, sample.probability, sensitivity),
        }
        for rule, cut in cuts.items():
            called = sample.probability >= cut
            hits = float(np.mean(called[sample.truth])) if np.isfinite(cut) else float("nan")
            rejections = float(np.mean(~called[~sample.truth])) if np.isfinite(cut) else float("nan")
            counts = (sample.truth.size, int(sample.truth.sum()), sample.estimable)
            rows.append((*tuple(key), rule, cut, hits, rejections, *counts))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def per_case(rows: pd.DataFrame, thresholds: float | Mapping[int, float]) -> np.ndarray:
    """The threshold of each row of one marker class: that of its fold, NaN where its fold has none; (n,) float64."""
    if not isinstance(thresholds, Mapping):
        return np.full(len(rows), float(thresholds))
    folds = rows["fold"] if "fold" in rows else pd.Series(ALL_FOLDS, index=rows.index)
    return np.array([float(thresholds.get(int(fold), np.nan)) for fold in folds], dtype=np.float64)


def by_fold(table: pd.DataFrame, rule: str) -> dict[tuple[str, str], dict[int, float]]:
    """`validation_thresholds` of one rule as (marker, class) -> fold -> threshold; folds without a threshold are left out."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in table[(table["rule"] == rule) & table["threshold"].notna()].to_dict("records") if len(table) else []:
        found.setdefault((str(row["marker"]), str(row["class"])), {})[int(row["fold"])] = float(row["threshold"])
    return found


def _operating_points(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds from high to low with their sensitivity and specificity; empty where a class is missing."""
    if not sample.truth.any() or sample.truth.all():
        return np.empty(0), np.empty(0), np.empty(0)
    values = np.unique(sample.probability)[::-1]
    called = sample.probability >= values[:, None]
    below = np.append(values[1:], 0.0 if values[-1] > 0 else values[-1])
    sensitivity = (called & sample.truth).sum(axis=1) / sample.truth.sum()
    specificity = (~called & ~sample.truth).sum(axis=1) / (~sample.truth).sum()
    middle = (values + below) / 2
    return np.where(middle > below, middle, values), sensitivity, specificity  # neighbours one rounding step apart
