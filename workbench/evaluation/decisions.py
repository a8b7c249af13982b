"""From logits to decisions: thresholds and calibration maps fitted on validation rows, judged on the others.

Weighted and focal losses and oversampling shift the logits: their ranking may be better, their probabilities are not those of
the cohort. A Platt map fitted on validation cases undoes the shift; a threshold chosen there makes no use of it. Both are read
from the validation rows alone, so that test is touched once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit as log_odds

from workbench.evaluation.calibration import Platt, Temperature, fit_platt, fit_temperature
from workbench.evaluation.intervals import RESAMPLES
from workbench.evaluation.markers import Sample, marker_metrics, sample_of
from workbench.evaluation.summaries import with_available
from workbench.evaluation.thresholds import SENSITIVITY, validation_thresholds

FIXED = "0.5"
RULES = (FIXED, "youden", "sensitivity")
"""Where a probability becomes a decision: at a half, at the Youden point, or where the sensitivity is at least 0.95."""

DECISION_METRICS = ("recall", "specificity", "precision", "balanced_accuracy", "f1", "mcc")
CALIBRATION_METRICS = ("brier", "ece", "calibration_slope", "calibration_intercept")
DECISION_COLUMNS = (
    "split", "marker", "class", "rule", "threshold", "n_validation", "trusted", "metric", "value", "low", "high", "n",
    "n_positive", "estimable",
)  # fmt: skip
CALIBRATION_COLUMNS = (
    "split", "marker", "class", "calibration", "fit", "n_validation", "trusted", "metric", "value", "low", "high", "n",
    "n_positive", "estimable",
)  # fmt: skip


def decision_table(markers: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """What each rule decides on the held-out cases; thresholds are those of the validation cases.

    Args:
        markers: rows of markers.parquet of one run and fold.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        One row per split (test, external), marker, class, rule and metric: the threshold, the validation cases it was chosen on,
        whether they are enough to trust it (10 of each class), value with 95 % interval, counts. A rule without a threshold,
        because validation lacks a class, has NaN.
    """
    markers = with_available(markers)
    cuts = validation_thresholds(markers)
    rows: list[dict[str, Any]] = []
    for keys, part in _held_out(markers):
        chosen = cuts[(cuts["marker"] == keys["marker"]) & (cuts["class"] == keys["class"])]
        for rule in RULES:
            found = chosen[chosen["rule"] == rule]
            threshold = 0.5 if rule == FIXED else float(found["threshold"].iloc[0]) if len(found) else float("nan")
            described = {
                "rule": rule,
                "threshold": threshold,
                "n_validation": int(found["n"].iloc[0]) if len(found) else 0,
                "trusted": rule == FIXED or bool(len(found) and found["estimable"].iloc[0]),
            }
            table = _metrics(sample_of(part), DECISION_METRICS, threshold, resamples, seed)
            rows += [keys | described | row for row in table]
    return pd.DataFrame(rows, columns=list(DECISION_COLUMNS))


def calibration_table(markers: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How right the probabilities of the held-out cases are: as they came, by a temperature, by Platt's map.

    Arguments and rows as in `decision_table`, with `calibration` ('none', 'temperature', 'platt') and `fit`: what was fitted on
    the validation cases, as text.
    """
    markers = with_available(markers)
    rows: list[dict[str, Any]] = []
    for keys, part in _held_out(markers):
        validation = sample_of(_rows_of(markers, "validation", keys))
        for name, fitted in calibrations(validation).items():
            described: dict[str, Any] = {"calibration": name, "fit": _fit_text(fitted), "n_validation": validation.truth.size}
            described["trusted"] = fitted is None or validation.estimable
            table = _metrics(calibrated(sample_of(part), fitted), CALIBRATION_METRICS, 0.5, resamples, seed)
            rows += [keys | described | row for row in table]
    return pd.DataFrame(rows, columns=list(CALIBRATION_COLUMNS))


def calibrations(validation: Sample) -> dict[str, Temperature | Platt | None]:
    """The maps fitted on one marker class's validation cases: none, temperature, platt."""
    if not validation.truth.size:
        return {"none": None}
    logit, truth = validation.logit, validation.truth
    return {"none": None, "temperature": fit_temperature(logit, truth), "platt": fit_platt(logit, truth)}


def calibrated(sample: Sample, fitted: Temperature | Platt | None) -> Sample:
    """The cases with probability and logit mapped; unchanged for None."""
    if fitted is None:
        return sample
    probability = fitted.apply(sample.logit)
    return replace(sample, probability=probability, logit=log_odds(np.clip(probability, 1e-12, 1 - 1e-12)))


def fitted_artefact(markers: pd.DataFrame, parent: str) -> dict[str, Any]:
    """All that was fitted on a run's validation cases as one JSON-able document that names the run.

    Args:
        markers: rows of markers.parquet of one run and fold.
        parent: the run's id.
    """
    markers = with_available(markers)
    cuts = validation_thresholds(markers)
    entries = []
    for (marker, name), part in markers[markers["split"] == "validation"].groupby(["marker", "class"], sort=False):
        chosen = cuts[(cuts["marker"] == marker) & (cuts["class"] == name)].set_index("rule")["threshold"]
        sample = sample_of(part)
        fits = {key: fit.as_dict() for key, fit in calibrations(sample).items() if fit is not None}
        entries.append(
            {
                "marker": marker,
                "class": name,
                "thresholds": {str(rule): _null(float(value)) for rule, value in chosen.items()},
                "sensitivity_at_least": SENSITIVITY,
                "calibration": {
                    key: {k: _null(v) if isinstance(v, float) else v for k, v in fit.items()} for key, fit in fits.items()
                },
                "trusted": sample.estimable,
            }
        )
    return {"parent": parent, "split": "validation", "fitted": entries}


def _held_out(markers: pd.DataFrame) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """({split, marker, class}, rows) of the test and external cases."""
    found = []
    for split in ("test", "external"):
        for (marker, name), part in markers[markers["split"] == split].groupby(["marker", "class"], sort=False):
            found.append(({"split": split, "marker": str(marker), "class": str(name)}, part))
    return found


def _rows_of(markers: pd.DataFrame, split: str, keys: dict[str, str]) -> pd.DataFrame:
    chosen = (markers["split"] == split) & (markers["marker"] == keys["marker"]) & (markers["class"] == keys["class"])
    return markers[chosen]


def _metrics(sample: Sample, names: tuple[str, ...], threshold: float, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Rows metric, value, low, high, n, n_positive, estimable; all NaN where there is no threshold."""
    usable = threshold if np.isfinite(threshold) else 0.5
    table = marker_metrics(sample, threshold=usable, resamples=resamples, seed=seed)
    table = table[table["metric"].isin(names)]
    if not np.isfinite(threshold):
        table = table.assign(value=np.nan, low=np.nan, high=np.nan, estimable=False)
    columns = ["metric", "value", "low", "high", "n", "n_positive", "estimable"]
    return [dict(zip(columns, row, strict=True)) for row in table[columns].itertuples(index=False, name=None)]


def _fit_text(fitted: Temperature | Platt | None) -> str:
    if isinstance(fitted, Temperature):
        return f"T = {fitted.temperature:.2f}"
    return "" if fitted is None else f"{fitted.slope:.2f} z {fitted.intercept:+.2f}"


def _null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
