"""How well a molecular marker is predicted: discrimination, decisions at a threshold, and calibration, with 95 % intervals.

`evaluation.metrics` lists them. Decisions are positive from `threshold` on; a calibration slope below 1 is overconfident, a
calibration intercept (with the slope held at 1) of 0 is right on average.

Intervals are 95 % BCa intervals over resampled subjects (`evaluation.intervals`), but ECE's is a percentile interval recentred on
the value, since every resample inflates an ECE. With fewer than `MIN_PER_CLASS` cases of either class nothing is estimable:
values are NaN, the counts are still given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from workbench.contracts import MARKER_POSITIVE, MARKER_TASK
from workbench.errors import InputError, ParameterError, Problem
from workbench.evaluation import weighted
from workbench.evaluation.intervals import (
    MIN_PER_CLASS,
    RESAMPLES,
    Floats,
    Interval,
    Method,
    bounds,
    leave_out_weights,
    resample_weights,
    subject_codes,
    weighted_interval,
)
from workbench.evaluation.metrics import in_order, metrics_of

COLUMNS = ("metric", "value", "low", "high", "n", "n_positive", "n_subjects", "n_unknown", "estimable")

SMALLEST = 1e-7
"""Probability below which none is told apart from 0 when it is written as log-odds."""


def log_odds(probability: ArrayLike, smallest: float = SMALLEST) -> np.ndarray:
    """Log-odds of probabilities, elementwise float64; within `smallest` of 0 and 1 they stop, so that all are finite."""
    return np.asarray(logit(np.clip(np.asarray(probability, np.float64), smallest, 1 - smallest)))


def class_rows(marker: str, value: Any, logits: Floats) -> list[tuple[str, float, float, float]]:
    """What a model's logits say of one marker of one case, each class against the rest, as rows of markers.parquet hold it.

    Args:
        marker: its name.
        value: the true class: 0/1, of grade 2, 3 or 4; null = unknown.
        logits: (1,), a sigmoid (for grade: 4 against the rest), or (3,), a softmax over grades 2, 3, 4, whose
            one-against-the-rest logit is log(p / (1 - p)).

    Returns:
        (class, truth, logit, probability) of each class; truth is 1, 0, or NaN where it is unknown.
    """
    unknown = pd.isna(value)
    if logits.size == 1:
        positive = 4 if marker == "grade" else 1
        name = "4" if marker == "grade" else MARKER_POSITIVE[marker]
        logit = float(logits[0])
        return [(name, float("nan") if unknown else float(value == positive), logit, float(1 / (1 + np.exp(-logit))))]
    rest = [np.logaddexp.reduce(np.delete(logits, k)) for k in range(logits.size)]
    return [
        (str(grade), float("nan") if unknown else float(value == grade), float(z - r), float(1 / (1 + np.exp(r - z))))
        for grade, z, r in zip((2, 3, 4), logits, rest, strict=True)
    ]


@dataclass(frozen=True)
class Sample:
    """The cases of known truth of one marker class: what every curve and metric here is computed from."""

    truth: np.ndarray
    """(n,) bool."""
    probability: np.ndarray
    """(n,) float64 in [0, 1]."""
    logit: np.ndarray
    """(n,) log-odds."""
    subjects: np.ndarray
    """(n,) text."""
    n_unknown: int = 0
    """Rows that were left out because their truth is unknown."""

    @property
    def estimable(self) -> bool:
        """Whether there are enough cases of each class for a metric."""
        positive = int(self.truth.sum())
        return min(positive, self.truth.size - positive) >= MIN_PER_CLASS


def sample_of(frame: pd.DataFrame) -> Sample:
    """The usable rows of a markers table (one marker, class, split and `present`; columns as in markers.parquet).

    `logit` is used where it is the probability's log-odds (binary markers); for a softmax over grades, whose logits are not, and
    where the column is missing, the log-odds come from the probability.

    Raises:
        InputError: a case of known truth has no valid probability, or occurs twice; the message names it.
        ParameterError: rows of several classes or markers.
    """
    for column in {"marker", "class", "present", "split"} & set(frame.columns):
        if frame[column].nunique() > 1:
            listed = ", ".join(map(str, frame[column].unique()[:4]))
            raise ParameterError(f"marker metrics are of one {column} at a time, but the rows hold {listed}: filter them first")
    known = frame[frame["truth"].notna()]
    probability = known["probability"].to_numpy(np.float64)
    bad = known.loc[~((probability >= 0) & (probability <= 1))]
    if len(bad):
        raise InputError(
            *(
                Problem(
                    case=str(row.get("case", "")),
                    channel=str(row.get("marker", "")),
                    message=f"the predicted probability is {row['probability']}, expected a number from 0 to 1",
                    remedy="the training probably diverged: look at its losses, lower the learning rate",
                )
                for _, row in bad.head(8).iterrows()
            )
        )
    if "case" in known and known["case"].duplicated().any():
        twice = str(known.loc[known["case"].duplicated(), "case"].iloc[0])
        raise InputError(
            Problem(
                case=twice,
                message="the case has several predictions",
                remedy="pass the rows of one run, seed and modality subset",
            )
        )
    odds = log_odds(probability)
    if "logit" in known:
        given = known["logit"].to_numpy(np.float64)
        if np.isfinite(given).all() and np.allclose(expit(given), probability, rtol=1e-3, atol=1e-6):
            odds = given
    subjects = known["subject" if "subject" in known else "case"].to_numpy().astype(str)
    return Sample(known["truth"].to_numpy(np.float64) > 0.5, probability, odds, subjects, len(frame) - len(known))


def make_sample(truth: ArrayLike, probability: ArrayLike, subjects: Sequence[str] | None = None) -> Sample:
    """A `Sample` from arrays; NaN truth = unknown, left out. Each case is its own subject where none are given.

    Serves the phantom's best-possible curve as well: posterior probabilities are just another predictor.
    """
    frame = pd.DataFrame({"truth": np.asarray(truth, np.float64), "probability": np.asarray(probability, np.float64)})
    frame["subject"] = [f"{index:09d}" for index in range(len(frame))] if subjects is None else np.asarray(subjects).astype(str)
    return sample_of(frame)


def as_sample(data: pd.DataFrame | Sample) -> Sample:
    """The sample itself, or the one made from table rows."""
    return data if isinstance(data, Sample) else sample_of(data)


def metric_values(sample: Sample, weights: Floats, threshold: float | Floats = 0.5) -> dict[str, Floats]:
    """Every metric for each row of case weights (R, n) -> {metric: (R,)}; one threshold, or one for each case (n,).

    Raises:
        ParameterError: a metric that is computed but not in `evaluation.metrics`.
    """
    truth, probability = sample.truth, sample.probability
    values = {"auc": weighted.auc(weights, truth, probability)}
    values |= weighted.confusion_metrics(weighted.counts(weights, truth, probability >= threshold))
    values["brier"] = weighted.brier(weights, truth, probability)
    values["ece"] = weighted.calibration_error(weights, truth, probability)
    values["calibration_slope"] = weighted.calibration_slope(weights, truth, sample.logit)[0]
    values["calibration_intercept"] = weighted.calibration_in_the_large(weights, truth, sample.logit)
    return in_order(values, MARKER_TASK)


def marker_metrics(
    frame: pd.DataFrame | Sample, *, threshold: float = 0.5, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Every metric of one marker class with its interval.

    Args:
        frame: rows of markers.parquet of one marker, class, split and modality subset; or a `Sample`.
        threshold: probability from which a case is called positive; chosen on validation (`evaluation.thresholds`).
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        One row per metric: metric, value, low, high, n, n_positive, n_subjects, n_unknown (rows left out), estimable.

    Raises:
        InputError: see `sample_of`.
        ParameterError: a threshold outside [0, 1], or rows of several markers or classes.
    """
    if not 0 <= threshold <= 1:
        raise ParameterError(f"threshold is {threshold}, expected a number from 0 to 1")
    sample = as_sample(frame)
    n, positive, n_subjects = sample.truth.size, int(sample.truth.sum()), subject_codes(sample.subjects)[1]
    common = (n, positive, n_subjects, sample.n_unknown)
    nan = float("nan")
    if not sample.estimable:
        return pd.DataFrame(
            [(metric, nan, nan, nan, *common, False) for metric in metrics_of(MARKER_TASK)], columns=list(COLUMNS)
        )
    values = metric_values(sample, np.ones((1, n)), threshold)
    draws = metric_values(sample, resample_weights(sample.subjects, resamples, seed), threshold)
    jackknife = metric_values(sample, leave_out_weights(sample.subjects), threshold)
    rows = []
    for metric, entry in metrics_of(MARKER_TASK).items():
        value, (low, high) = float(values[metric][0]), (nan, nan)
        if n_subjects > 1:
            method: Method = "recentred" if metric == "ece" else "bca"
            low, high = bounds(value, draws[metric], jackknife[metric], method=method, n_subjects=n_subjects)
        low, high = np.clip([low, high], *entry.limits)
        rows.append((metric, value, float(low), float(high), *common, bool(np.isfinite(value))))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def auc_interval(data: pd.DataFrame | Sample, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """AUC with its 95 % interval, for a curve's legend; not estimable with too few cases of a class."""
    sample = as_sample(data)
    n, subjects = sample.truth.size, subject_codes(sample.subjects)[1]
    if not sample.estimable:
        return Interval.unknown(n, subjects)
    return weighted_interval(
        lambda weights: weighted.auc(weights, sample.truth, sample.probability),
        sample.subjects,
        resamples=resamples,
        seed=seed,
    )
