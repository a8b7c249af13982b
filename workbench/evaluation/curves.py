"""The curves of a marker: ROC and precision-recall with bands, calibration smooth and in bins, the confusion at a threshold.

Every function takes a `markers.Sample` or the rows of markers.parquet it is made from, and returns a table ready to be drawn.
Curves describe the cases at hand, however few; their bands are given only where there are enough subjects of each class
(`Sample.estimable`), NaN elsewhere. Where a class is missing altogether there is no curve: the table has no rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit
from sklearn import metrics as reference

from workbench.evaluation import weighted
from workbench.evaluation.delong import effective_numbers
from workbench.evaluation.intervals import LEVEL, MIN_SUBJECTS, RESAMPLES, Floats, resampled, subject_codes, tail_levels
from workbench.evaluation.markers import Sample, as_sample
from workbench.evaluation.proportions import share_bounds, wilson
from workbench.evaluation.reliability import line_covariance

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

    Where all resamples agree (a perfect predictor), the band is Wilson's of a share of the positives.

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

    positives = np.where(grid < 1, effective_numbers(sample.truth, sample.probability, sample.subjects)[0], 0.0)
    middle = on_grid(_once(sample))[0]
    band = _band(on_grid, middle, positives, sample, resamples, seed)
    band["low"] = np.maximum.accumulate(band["low"])  # a curve that rises is nowhere below where it was
    return pd.DataFrame({"fpr": grid, "tpr": middle, **band})


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

    The precision at a recall is that of the highest threshold which reaches it (no interpolation: precision is not linear). Where
    all resamples agree, the band is Wilson's of a share of the cases called positive there.
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

    middle = on_grid(_once(sample))[0]
    positives = effective_numbers(sample.truth, sample.probability, sample.subjects)[0]
    called = np.maximum(1, positives * grid) / np.where(middle > 0, middle, 1)
    return pd.DataFrame({"recall": grid, "precision": middle, **_band(on_grid, middle, called, sample, resamples, seed)})


def calibration_curve(data: pd.DataFrame | Sample, *, points: int = POINTS) -> pd.DataFrame:
    """Observed frequency as a smooth function of the predicted probability, with its pointwise 95 % band over subjects.

    Logistic regression of the truth on a natural cubic spline of the log-odds with three knots, at their 10th, 50th and 90th
    percentile (Harrell 2015, Regression Modeling Strategies, 2.4), over the range of the log-odds that there are. The band is
    Wald's on the scale of the log-odds, by Student's t; its variance is that of the model times the subjects' design effect
    or the robust one over subjects, whichever is larger, as of the calibration slope (`reliability`).

    Returns:
        probability, observed, low, high. No rows where too few subjects of a class have log-odds, where these do not vary, or
        where they separate the classes: then no finite curve fits best.
    """
    sample = as_sample(data)
    sample = sample.of(~sample.certain)
    nothing = pd.DataFrame(columns=["probability", "observed", "low", "high"], dtype=float)
    if not sample.estimable or bool(weighted.separable(_once(sample), sample.truth, sample.logit)[0]):
        return nothing
    grid = np.linspace(sample.logit.min(), sample.logit.max(), points)
    knots = np.quantile(sample.logit, [0.1, 0.5, 0.9])
    few = np.unique(knots).size < 3
    design, shown = (_straight(x) if few else _spline(x, knots) for x in (sample.logit, grid))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # separation by the spline alone: judged below
        fitted = sm.GLM(sample.truth.astype(np.float64), design, family=sm.families.Binomial()).fit()
    covariance = line_covariance(design, sample.truth - fitted.fittedvalues, sample.subjects)
    spread = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", shown, covariance, shown), 0.0))
    if not fitted.converged or not np.isfinite(spread).all() or spread.min() > 10:
        return nothing
    middle = shown @ fitted.params
    reach = stats.t.ppf((1 + LEVEL) / 2, subject_codes(sample.subjects)[1] - design.shape[1]) * spread
    curves = {"probability": grid, "observed": middle, "low": middle - reach, "high": middle + reach}
    return pd.DataFrame({name: expit(values) for name, values in curves.items()})


def _straight(x: Floats) -> Floats:
    return np.stack([np.ones_like(x), x], axis=1)


def _spline(x: Floats, knots: Floats) -> Floats:
    """Basis (n, 3) of cubic splines with three knots that are straight lines beyond the outer ones."""
    first, middle, last = knots
    cubes = [np.maximum(x - knot, 0) ** 3 for knot in knots]
    bend = cubes[0] - cubes[1] * (last - first) / (last - middle) + cubes[2] * (middle - first) / (last - middle)
    return np.column_stack([_straight(x), bend / (last - first) ** 2])


def calibration_bins(data: pd.DataFrame | Sample, *, bins: int = BINS) -> pd.DataFrame:
    """Observed frequency against predicted probability in bins of equal mass; equal probabilities share a bin.

    Returns:
        bin, n, n_positive, lowest, highest and mean predicted `probability`, `observed` frequency with its 95 % interval low,
        high (`proportions.share_bounds`). Bins without a case have no row.
    """
    sample = as_sample(data)
    columns = ["bin", "n", "n_positive", "lowest", "highest", "probability", "observed", "low", "high"]
    if not sample.truth.size:
        return pd.DataFrame(columns=columns, dtype=float)
    frame = pd.DataFrame({"bin": weighted.equal_mass_bins(sample.probability, bins), "p": sample.probability, "y": sample.truth})
    table = frame.groupby("bin").agg(
        n=("y", "size"), n_positive=("y", "sum"), lowest=("p", "min"), highest=("p", "max"), probability=("p", "mean")
    )
    members = [frame["bin"].to_numpy() == place for place in table.index]
    ends = np.array([share_bounds(sample.truth[of], sample.subjects[of]) for of in members])
    table = table.assign(observed=table["n_positive"] / table["n"], low=ends[:, 0], high=ends[:, 1])
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


def _band(
    on_grid: Callable[[Floats], Floats], middle: Floats, number: Floats, sample: Sample, resamples: int, seed: int
) -> dict[str, Floats]:
    """Pointwise percentile band of a curve; NaN where there are too few subjects.

    Where it has no width, it is that of the share `middle` of `number` cases; of 0 cases it stays: what is so by definition.
    """
    if not sample.estimable or subject_codes(sample.subjects)[1] < MIN_SUBJECTS:
        nothing = np.full(middle.size, np.nan)
        return {"low": nothing, "high": nothing}
    draws = resampled(on_grid, sample.subjects, resamples, seed)
    draws = draws[np.isfinite(draws).all(axis=1)]
    low, high = np.quantile(draws, tail_levels(subject_codes(sample.subjects)[1]), axis=0)
    for place in np.flatnonzero((high - low < 1e-9) & (number > 0)):
        low[place], high[place] = wilson(float(np.clip(middle[place], 0, 1)), float(number[place]))
    return {"low": low, "high": high}
