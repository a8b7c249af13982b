"""The curves of a marker: ROC and precision-recall with bootstrap bands, calibration bins, and the confusion at a threshold.

Every function takes a `markers.Sample` or the rows of markers.parquet it is made from, and returns a table ready to be drawn.
Curves describe the cases at hand, however few; their bands are given only where there are enough cases of each class
(`Sample.estimable`), NaN elsewhere. Where a class is missing altogether there is no curve: the table has no rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn import metrics as reference
from statsmodels.stats.proportion import proportion_confint

from workbench.evaluation import weighted
from workbench.evaluation.intervals import LEVEL, RESAMPLES, Floats, resample_weights, subject_codes, tail_levels
from workbench.evaluation.markers import Sample, as_sample

BINS = 10
POINTS = 101


def roc_curve(data: pd.DataFrame | Sample) -> pd.DataFrame:
    """The empirical ROC curve: threshold, fpr, tpr, from (0, 0) at threshold infinity to (1, 1)."""
    sample = as_sample(data)
    if not _both_classes(sample):
        return pd.DataFrame(columns=["threshold", "fpr", "tpr"], dtype=float)
    fpr, tpr, threshold = reference.roc_curve(sample.truth, sample.probability, drop_intermediate=False)
    return pd.DataFrame({"threshold": threshold, "fpr": fpr, "tpr": tpr})


def roc_curve_band(
    data: pd.DataFrame | Sample, *, points: int = POINTS, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """ROC curve on a common grid of false positive rates with its pointwise 95 % band over resampled subjects.

    Returns:
        fpr (0 to 1 in `points` steps), tpr, low, high. Between its corners the curve is interpolated linearly.
    """
    sample = as_sample(data)
    grid = np.linspace(0, 1, points)
    if not _both_classes(sample):
        return pd.DataFrame(columns=["fpr", "tpr", "low", "high"], dtype=float)

    def on_grid(weights: Floats) -> Floats:
        hits, alarms = _cumulative(weights, sample)
        tpr, fpr = weighted.divide(hits, hits[:, -1:]), weighted.divide(alarms, alarms[:, -1:])
        return np.stack(
            [np.interp(grid, x, y) if np.isfinite(x + y).all() else grid * np.nan for x, y in zip(fpr, tpr, strict=True)]
        )

    return pd.DataFrame({"fpr": grid, "tpr": on_grid(_once(sample))[0], **_band(on_grid, sample, resamples, seed)})


def precision_recall_curve(data: pd.DataFrame | Sample) -> pd.DataFrame:
    """The empirical precision-recall curve: threshold, recall, precision, from the highest threshold down."""
    sample = as_sample(data)
    if not _both_classes(sample):
        return pd.DataFrame(columns=["threshold", "recall", "precision"], dtype=float)
    precision, recall, threshold = reference.precision_recall_curve(sample.truth, sample.probability)
    # The last point (1, 0) belongs to no threshold: precision is not defined where nothing is called positive.
    return pd.DataFrame({"threshold": threshold[::-1], "recall": recall[:-1][::-1], "precision": precision[:-1][::-1]})


def precision_recall_band(
    data: pd.DataFrame | Sample, *, points: int = POINTS, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Precision on a common grid of recalls with its 95 % band over resampled subjects: recall, precision, low, high.

    The precision at a recall is that of the highest threshold which reaches it (no interpolation: precision is not linear).
    """
    sample = as_sample(data)
    grid = np.linspace(0, 1, points)
    if not _both_classes(sample):
        return pd.DataFrame(columns=["recall", "precision", "low", "high"], dtype=float)

    def on_grid(weights: Floats) -> Floats:
        hits, alarms = (counts[:, 1:] for counts in _cumulative(weights, sample))
        precision, recall = weighted.divide(hits, hits + alarms), weighted.divide(hits, hits[:, -1:])
        # A resample that lacks the top scores starts with thresholds at which nothing is called positive.
        reached = [np.searchsorted(np.where(np.isnan(p), -1.0, r), grid - 1e-12) for p, r in zip(precision, recall, strict=True)]
        return np.stack([p[np.minimum(index, p.size - 1)] for p, index in zip(precision, reached, strict=True)])

    return pd.DataFrame({"recall": grid, "precision": on_grid(_once(sample))[0], **_band(on_grid, sample, resamples, seed)})


def calibration_bins(data: pd.DataFrame | Sample, *, bins: int = BINS) -> pd.DataFrame:
    """Observed frequency against predicted probability in bins of equal mass; equal probabilities share a bin.

    Returns:
        bin, n, n_positive, lowest, highest and mean predicted `probability`, `observed` frequency with its 95 % Wilson interval
        low, high (over cases, not subjects). Bins without a case have no row.
    """
    sample = as_sample(data)
    columns = ["bin", "n", "n_positive", "lowest", "highest", "probability", "observed", "low", "high"]
    if not sample.truth.size:
        return pd.DataFrame(columns=columns, dtype=float)
    frame = pd.DataFrame({"bin": weighted.equal_mass_bins(sample.probability, bins), "p": sample.probability, "y": sample.truth})
    table = frame.groupby("bin").agg(
        n=("y", "size"), n_positive=("y", "sum"), lowest=("p", "min"), highest=("p", "max"), probability=("p", "mean")
    )
    low, high = proportion_confint(table["n_positive"], table["n"], alpha=1 - LEVEL, method="wilson")
    table = table.assign(observed=table["n_positive"] / table["n"], low=np.asarray(low), high=np.asarray(high))
    return table.reset_index()[columns]


def confusion_at(data: pd.DataFrame | Sample, threshold: float) -> pd.DataFrame:
    """Confusion matrix at a threshold (probability >= threshold is positive), long.

    Returns:
        Four rows: truth (0/1), predicted (0/1), n, share (of the cases with this truth; NaN where there is none).
    """
    sample = as_sample(data)
    found = weighted.counts(_once(sample), sample.truth, sample.probability >= threshold)
    tp, fp, fn, tn = (round(float(value[0])) for value in found)
    rows = [(0, 0, tn, tn + fp), (0, 1, fp, tn + fp), (1, 0, fn, tp + fn), (1, 1, tp, tp + fn)]
    table = pd.DataFrame(rows, columns=["truth", "predicted", "n", "of"])
    return table.assign(share=weighted.divide(table["n"], table["of"])).drop(columns="of")


def _both_classes(sample: Sample) -> bool:
    return bool(sample.truth.any() and not sample.truth.all())


def _once(sample: Sample) -> Floats:
    return np.ones((1, sample.truth.size))


def _cumulative(weights: Floats, sample: Sample) -> tuple[Floats, Floats]:
    """Weighted true and false positives (R, 1 + thresholds) as the threshold falls past each distinct probability, from none."""
    order = np.argsort(-sample.probability, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(sample.probability[order]) != 0])
    truth, drawn = sample.truth[order], weights[:, order]
    start = np.zeros((len(weights), 1))
    hits, alarms = (np.cumsum(np.add.reduceat(drawn * of, starts, axis=1), axis=1) for of in (truth, ~truth))
    return np.hstack([start, hits]), np.hstack([start, alarms])


def _band(on_grid: Callable[[Floats], Floats], sample: Sample, resamples: int, seed: int) -> dict[str, Floats]:
    """Pointwise percentile band of a curve; NaN where there are too few cases or a single subject."""
    if not sample.estimable or subject_codes(sample.subjects)[1] < 2:
        nothing = np.full(on_grid(_once(sample)).shape[1], np.nan)
        return {"low": nothing, "high": nothing}
    draws = on_grid(resample_weights(sample.subjects, resamples, seed))
    draws = draws[np.isfinite(draws).all(axis=1)]
    low, high = np.quantile(draws, tail_levels(subject_codes(sample.subjects)[1]), axis=0)
    return {"low": low, "high": high}
