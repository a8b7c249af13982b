"""How well a molecular marker is predicted: discrimination, decisions at a threshold, and calibration, with 95 % intervals.

`evaluation.metrics` lists them. Decisions are positive from `threshold` on; a calibration slope below 1 is overconfident, a
calibration intercept (with the slope held at 1) of 0 is right on average.

Intervals have closed forms that hold with few of a class and never claim certainty: Newcombe's of the AUC (`delong.auc_bounds`),
Wilson's of shares and what is made of them (`proportions`; of the average precision as a share of the positives, after Boyd, Eng
and Page 2013, ECML PKDD), jackknife and Wald of probabilities (`reliability`). A metric without one has the BCa interval over
resampled subjects. With fewer than `MIN_PER_CLASS` subjects of either class nothing is estimable: values are NaN, the counts are
still given.

A probability of exactly 0 or 1 has no log-odds. Such cases, where right, add nothing to the likelihood of any slope or shift:
slope and intercept are those of the other cases. Where one is wrong, no slope or shift makes it possible, and the log loss is
infinite: the three are not estimable. `remark` counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from workbench.contracts import MARKER_POSITIVE, MARKER_TASK
from workbench.errors import InputError, ParameterError, Problem
from workbench.evaluation import weighted
from workbench.evaluation.delong import auc_bounds, effective_numbers
from workbench.evaluation.intervals import MIN_PER_CLASS, RESAMPLES, Floats, Interval, subject_codes, weighted_interval
from workbench.evaluation.metrics import in_order, metrics_of, require_known
from workbench.evaluation.proportions import UNKNOWN, Bounds, decision_bounds, wilson
from workbench.evaluation.reliability import CalibrationError, calibration_error, line_bounds, loss_bounds, skill_bounds

COLUMNS = ("metric", "value", "low", "high", "n", "n_positive", "n_subjects", "n_unknown", "estimable", "remark")

OF_CHANCE = ("ece_calibrated", "ece_excess")
"""Metrics that say what chance makes of an ECE."""

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
    certain: np.ndarray
    """(n,) bool: a probability of exactly 0 or 1 whose log-odds are not known; `logit` only stands in for them."""
    n_unknown: int = 0
    """Rows that were left out because their truth is unknown."""
    n_models: int = 1
    """Models that scored the cases: the folds of a pooled run."""

    @property
    def per_class(self) -> tuple[int, int]:
        """Number of subjects with a positive and with a negative case."""
        positive, negative = (int(np.unique(self.subjects[self.truth == side]).size) for side in (True, False))
        return positive, negative

    @property
    def estimable(self) -> bool:
        """Whether there are enough subjects of each class for a metric."""
        return min(self.per_class) >= MIN_PER_CLASS

    @property
    def too_few(self) -> str:
        """Why nothing is estimable; empty where it is."""
        positive, negative = self.per_class
        if self.estimable:
            return ""
        return f"{positive} positive and {negative} negative subjects, {MIN_PER_CLASS} of each are needed"

    def of(self, chosen: np.ndarray) -> Sample:
        """The sample of some of the cases, (n,) bool."""
        arrays = {name: getattr(self, name)[chosen] for name in ("truth", "probability", "logit", "subjects", "certain")}
        return Sample(**arrays, n_unknown=self.n_unknown, n_models=self.n_models)

    @property
    def pooled(self) -> str:
        """What its ranking is of, where several models scored the cases; empty for one."""
        if self.n_models < 2:
            return ""
        return f"ranks the cases of {self.n_models} models together: of different folds, scores of different models are compared"


def sample_of(frame: pd.DataFrame) -> Sample:
    """The usable rows of a markers table (one marker, class, split and `present`; columns as in markers.parquet).

    `logit` is used where it is the probability's log-odds (binary markers); for a softmax over grades, whose logits are not, and
    where the column is missing, the log-odds come from the probability.

    Raises:
        InputError: a truth that is neither 0, 1 nor unknown; a case of known truth that has no valid probability, or occurs
            twice. The message names the case.
        ParameterError: rows of several classes or markers.
    """
    for column in {"marker", "class", "present", "split"} & set(frame.columns):
        if frame[column].nunique() > 1:
            listed = ", ".join(map(str, frame[column].unique()[:4]))
            raise ParameterError(f"marker metrics are of one {column} at a time, but the rows hold {listed}: filter them first")
    known = frame[frame["truth"].notna()]
    _require_classes(known)
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
    # A logit that is larger than what `log_odds` stops at is a model's own, whose probability was only rounded to 0 or 1.
    certain = np.isin(probability, (0.0, 1.0)) & (np.abs(odds) <= 1.001 * log_odds(1.0))
    models = known["fold"].nunique() if "fold" in known else 1
    truth = known["truth"].to_numpy(np.float64) > 0.5
    return Sample(truth, probability, odds, subjects, certain, len(frame) - len(known), max(models, 1))


def _require_classes(known: pd.DataFrame) -> None:
    """Refuse truths other than 0 and 1."""
    wrong = known.loc[~known["truth"].isin((0, 1))]
    if len(wrong):
        raise InputError(
            *(
                Problem(
                    case=str(row.get("case", "")),
                    channel=str(row.get("marker", "")),
                    message=f"the true class is {row['truth']}, expected 0, 1, or nothing where it is unknown",
                    remedy="correct the marker in the cohort's table, or the truth in the table of predictions",
                )
                for _, row in wrong.head(8).iterrows()
            )
        )


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

    All but `OF_CHANCE`, which are no function of the cases alone.

    Raises:
        ParameterError: a metric that is computed but not in `evaluation.metrics`.
    """
    truth, probability = sample.truth, sample.probability
    values = {"auc": weighted.auc(weights, truth, probability)}
    values["average_precision"] = weighted.average_precision(weights, truth, probability)
    values |= weighted.confusion_metrics(weighted.counts(weights, truth, probability >= threshold))
    values["brier"] = weighted.brier(weights, truth, probability)
    values["brier_skill"] = weighted.brier_skill(weights, truth, probability)
    values["ece"] = weighted.calibration_error(weights, truth, probability)
    values |= _of_log_odds(sample, weights)
    require_known(values, MARKER_TASK)
    return {name: values[name] for name in metrics_of(MARKER_TASK) if name in values}


def _of_log_odds(sample: Sample, weights: Floats) -> dict[str, Floats]:
    """Log loss, calibration slope and intercept; NaN where a case is certain and wrong, see the module."""
    names = ("log_loss", "calibration_slope", "calibration_intercept")
    if _certain_and_wrong(sample):
        return {name: np.full(len(weights), np.nan) for name in names}
    open_, own = sample.of(~sample.certain), weights[:, ~sample.certain]
    losses = own @ weighted.log_losses(open_.truth, open_.logit)
    slope = weighted.calibration_slope(own, open_.truth, open_.logit)[0]
    shift = weighted.calibration_in_the_large(own, open_.truth, open_.logit)
    return dict(zip(names, (weighted.divide(losses, weights.sum(axis=1)), slope, shift), strict=True))


def _certain_and_wrong(sample: Sample) -> int:
    return int(np.sum(sample.certain & (sample.probability != sample.truth)))


def marker_metrics(
    frame: pd.DataFrame | Sample, *, threshold: float = 0.5, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Every metric of one marker class with its interval.

    Args:
        frame: rows of markers.parquet of one marker, class, split and modality subset; or a `Sample`.
        threshold: probability from which a case is called positive; chosen on validation (`evaluation.thresholds`).
        resamples: resamples of subjects, where an interval needs them: that of ECE's excess over chance.
        seed: same seed, same intervals.

    Returns:
        One row per metric: metric, value, low, high, n, n_positive, n_subjects, n_unknown (rows left out), estimable, remark
        (why there is no number or no interval, or what it leaves out; empty).

    Raises:
        InputError: see `sample_of`.
        ParameterError: a threshold outside [0, 1], rows of several markers or classes, or a metric without an entry in
            `evaluation.metrics`.
    """
    if not 0 <= threshold <= 1:
        raise ParameterError(f"threshold is {threshold}, expected a number from 0 to 1")
    sample = as_sample(frame)
    n, positive, n_subjects = sample.truth.size, int(sample.truth.sum()), subject_codes(sample.subjects)[1]
    common = (n, positive, n_subjects, sample.n_unknown)
    nan = float("nan")
    if not sample.estimable:
        return pd.DataFrame(
            [(metric, nan, nan, nan, *common, False, sample.too_few) for metric in metrics_of(MARKER_TASK)], columns=list(COLUMNS)
        )
    values = {metric: float(of[0]) for metric, of in metric_values(sample, np.ones((1, n)), threshold).items()}
    known = _known_bounds(sample, threshold, values)
    error = calibration_error(sample.truth, sample.probability, sample.subjects, resamples=resamples, seed=seed)
    values |= dict(zip(OF_CHANCE, (error.calibrated, error.excess), strict=True))
    known |= {"ece": UNKNOWN, "ece_calibrated": error.calibrated_range, "ece_excess": error.excess_bounds}
    remarks = _remarks(sample, values, error)
    rows = []
    for metric, value in in_order(values, MARKER_TASK).items():
        low, high = known[metric] if metric in known else _resampled_bounds(sample, threshold, metric, resamples, seed)
        low, high = np.clip([low, high], *metrics_of(MARKER_TASK)[metric].limits)
        rows.append((metric, value, float(low), float(high), *common, bool(np.isfinite(value)), remarks.get(metric, "")))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _known_bounds(sample: Sample, threshold: float, values: Mapping[str, float]) -> dict[str, Bounds]:
    """The intervals that have a closed form."""
    truth, probability, subjects = sample.truth, sample.probability, sample.subjects
    found = {"auc": auc_bounds(truth, probability, subjects)}
    found["average_precision"] = wilson(values["average_precision"], effective_numbers(truth, probability, subjects)[0])
    found |= decision_bounds(truth, probability >= threshold, subjects)
    found["brier"] = loss_bounds((probability - truth) ** 2, (probability - ~truth) ** 2, subjects)
    found["brier_skill"] = skill_bounds(truth, probability, subjects)
    open_ = sample.of(~sample.certain)
    slope, shift = line_bounds(open_.truth, open_.logit, open_.subjects) if open_.estimable else (UNKNOWN, UNKNOWN)
    losses = np.where(sample.certain, 0.0, weighted.log_losses(truth, sample.logit))
    return found | {
        "log_loss": loss_bounds(losses, weighted.log_losses(~truth, sample.logit), subjects)
        if np.isfinite(values["log_loss"])
        else UNKNOWN,
        "calibration_slope": slope if np.isfinite(values["calibration_slope"]) else UNKNOWN,
        "calibration_intercept": shift if np.isfinite(values["calibration_intercept"]) else UNKNOWN,
    }


def _resampled_bounds(sample: Sample, threshold: float, metric: str, resamples: int, seed: int) -> Bounds:
    found = weighted_interval(
        lambda weights: metric_values(sample, weights, threshold)[metric], sample.subjects, resamples=resamples, seed=seed
    )
    return found.low, found.high


def _remarks(sample: Sample, values: Mapping[str, float], error: CalibrationError) -> dict[str, str]:
    """What a reader must know beside a number."""
    low, high = error.calibrated_range
    range_ = f" ({low:.3f} to {high:.3f})" if np.isfinite(low) else ""
    found = {"ece": f"a calibrated model would show {error.calibrated:.3f}{range_} at these probabilities"}
    found["ece_calibrated"] = "the range is that of 95 % of such models"
    found |= dict.fromkeys(("auc", "average_precision"), sample.pooled)
    for metric, called in (("precision", "positive"), ("npv", "negative")):
        if not np.isfinite(values[metric]):
            found[metric] = f"no case is called {called}"
    certain, wrong = int(sample.certain.sum()), _certain_and_wrong(sample)
    for metric in ("log_loss", "calibration_slope", "calibration_intercept"):
        if wrong:
            found[metric] = f"not estimable: {wrong} cases have a probability of exactly 0 or 1 and are wrong"
        elif certain:
            found[metric] = f"{certain} cases with a probability of exactly 0 or 1, all right, add nothing"
    if not wrong and not np.isfinite(values["calibration_slope"]):
        found["calibration_slope"] = "not estimable: the classes do not overlap"
    return found


def auc_interval(data: pd.DataFrame | Sample) -> Interval:
    """AUC with its 95 % interval, for a curve's legend; not estimable with too few subjects of a class."""
    sample = as_sample(data)
    n, subjects = sample.truth.size, subject_codes(sample.subjects)[1]
    if not sample.estimable:
        return Interval.unknown(n, subjects)
    value = float(weighted.auc(np.ones((1, n)), sample.truth, sample.probability)[0])
    return Interval(value, *auc_bounds(sample.truth, sample.probability, sample.subjects), n, subjects)
