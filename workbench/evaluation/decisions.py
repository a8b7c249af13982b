"""From logits to decisions: thresholds and calibration maps fitted on validation rows, judged on the others.

Weighted and focal losses and oversampling shift the logits: their ranking may be better, their probabilities are not those of
the cohort. A Platt map fitted on validation cases undoes the shift; a threshold chosen there makes no use of it. Both are read
from the validation rows alone, so that test is touched once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.contracts import JUDGED, MARKER_TASK
from workbench.evaluation.calibration import Platt, Temperature, fit_platt, fit_temperature
from workbench.evaluation.intervals import RESAMPLES
from workbench.evaluation.markers import Sample, marker_metrics, sample_of
from workbench.evaluation.metrics import Place, shown_in
from workbench.evaluation.summaries import with_available
from workbench.evaluation.thresholds import ALL_FOLDS, NO_THRESHOLD, SENSITIVITY, per_case, validation_thresholds

FIXED = "0.5"
RULES = (FIXED, "youden", "sensitivity")
"""Where a probability becomes a decision: at a half, at the Youden point, or where the sensitivity is at least 0.95."""

DECISION_COLUMNS = (
    "split", "marker", "class", "rule", "threshold", "n_validation", "trusted", "metric", "value", "low", "high", "n",
    "n_positive", "estimable", "remark",
)  # fmt: skip
CALIBRATION_COLUMNS = (
    "split", "marker", "class", "calibration", "fit", "n_validation", "trusted", "metric", "value", "low", "high", "n",
    "n_positive", "estimable", "remark",
)  # fmt: skip


def decision_table(markers: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """What each rule decides on the held-out cases; thresholds are those of the validation cases.

    Args:
        markers: rows of markers.parquet of one run. Of a pooled run each fold's cases are judged at that fold's own threshold.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        One row per split (test, external), marker, class, rule and metric: the threshold, the validation cases it was chosen on,
        whether they are enough to trust it (10 subjects of each class, in every fold), value, 95 % interval, counts, remark. A
        rule without a threshold, because validation lacks a class, has NaN; where folds have thresholds of their own, `threshold`
        is NaN and `validation_thresholds` lists them.
    """
    markers = _with_fold(with_available(markers))
    cuts = validation_thresholds(markers)
    rows: list[dict[str, Any]] = []
    for keys, part in _held_out(markers):
        chosen = cuts[(cuts["marker"] == keys["marker"]) & (cuts["class"] == keys["class"])]
        for rule in RULES:
            found = chosen[(chosen["rule"] == rule) & chosen["fold"].isin(_folds(part))]
            cut = 0.5 if rule == FIXED else {int(f): float(t) for f, t in zip(found["fold"], found["threshold"], strict=True)}
            described = {
                "rule": rule,
                "threshold": cut if isinstance(cut, float) else next(iter(cut.values())) if len(cut) == 1 else float("nan"),
                "n_validation": int(found["n"].sum()),
                "trusted": rule == FIXED or bool(len(found) == len(_folds(part)) and found["estimable"].all()),
            }
            rows += [keys | described | row for row in _decided(part, cut, resamples, seed)]
    return pd.DataFrame(rows, columns=list(DECISION_COLUMNS))


def calibration_table(markers: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How right the probabilities of the held-out cases are: as they came, by a temperature, by Platt's map.

    Arguments and rows as in `decision_table`, with `calibration` ('none', 'temperature', 'platt') and `fit`: what was fitted on
    the validation cases, as text.
    """
    markers = _with_fold(with_available(markers))
    rows: list[dict[str, Any]] = []
    for keys, part in _held_out(markers):
        samples = [(part[part["fold"] == fold], _validation_of(markers, keys, fold)) for fold in _folds(part)]
        fits = [calibrations(validation) for _, validation in samples]
        for name in [name for name in fits[0] if all(name in fit for fit in fits)]:
            fitted = [fit[name] for fit in fits]
            described: dict[str, Any] = {
                "calibration": name,
                "fit": _fit_text(fitted[0]) if len(fitted) == 1 or name == "none" else f"one for each of {len(fitted)} folds",
                "n_validation": sum(validation.truth.size for _, validation in samples),
                "trusted": name == "none" or all(validation.estimable for _, validation in samples),
            }
            mapped = [calibrated(sample_of(rows_), fit) for (rows_, _), fit in zip(samples, fitted, strict=True)]
            table = _metrics(_joined(mapped), Place.RECALIBRATION, 0.5, resamples, seed)
            rows += [keys | described | row for row in table]
    return pd.DataFrame(rows, columns=list(CALIBRATION_COLUMNS))


def calibrations(validation: Sample) -> dict[str, Temperature | Platt | None]:
    """The maps fitted on one marker class's validation cases: none, temperature, platt. Cases without log-odds are left out."""
    if not validation.truth.size:
        return {"none": None}
    known = validation.of(~validation.certain)
    logit, truth = known.logit, known.truth
    return {"none": None, "temperature": fit_temperature(logit, truth), "platt": fit_platt(logit, truth)}


def calibrated(sample: Sample, fitted: Temperature | Platt | None) -> Sample:
    """The cases with probability and logit mapped; unchanged for None, and where a probability of 0 or 1 has no log-odds."""
    if fitted is None:
        return sample
    probability = np.where(sample.certain, sample.probability, fitted.apply(sample.logit))
    return replace(sample, probability=probability, logit=np.where(sample.certain, sample.logit, fitted.log_odds(sample.logit)))


def fitted_artefact(markers: pd.DataFrame, parent: str) -> dict[str, Any]:
    """All that was fitted on a run's validation cases as one JSON-able document that names the run.

    Args:
        markers: rows of markers.parquet of one run; of a pooled run there is an entry per fold.
        parent: the run's id.
    """
    markers = _with_fold(with_available(markers))
    cuts = validation_thresholds(markers)
    entries = []
    for (fold, marker, name), part in markers[markers["split"] == "validation"].groupby(["fold", "marker", "class"], sort=False):
        mine = (cuts["fold"] == fold) & (cuts["marker"] == marker) & (cuts["class"] == name)
        chosen = cuts[mine].set_index("rule")["threshold"]
        sample = sample_of(part)
        fits = {key: fit.as_dict() for key, fit in calibrations(sample).items() if fit is not None}
        entries.append(
            {
                "fold": int(str(fold)),
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
    for split in JUDGED:
        for (marker, name), part in markers[markers["split"] == split].groupby(["marker", "class"], sort=False):
            found.append(({"split": split, "marker": str(marker), "class": str(name)}, part))
    return found


def _with_fold(markers: pd.DataFrame) -> pd.DataFrame:
    return markers if "fold" in markers else markers.assign(fold=ALL_FOLDS)


def _folds(part: pd.DataFrame) -> list[int]:
    """The folds whose cases stand in some rows, in order."""
    return sorted(int(fold) for fold in part["fold"].unique())


def _validation_of(markers: pd.DataFrame, keys: dict[str, str], fold: int) -> Sample:
    """The validation cases by which a fold's cases may be calibrated: its own; of external cases of a pooled run, all folds'."""
    chosen = (markers["split"] == "validation") & (markers["marker"] == keys["marker"]) & (markers["class"] == keys["class"])
    rows = markers[chosen]
    return sample_of(rows if fold == ALL_FOLDS else rows[rows["fold"] == fold])


def _joined(samples: list[Sample]) -> Sample:
    """The cases of several folds together."""
    if len(samples) == 1:
        return samples[0]
    arrays = {
        name: np.concatenate([getattr(s, name) for s in samples])
        for name in ("truth", "probability", "logit", "subjects", "certain")
    }
    return Sample(**arrays, n_unknown=sum(s.n_unknown for s in samples), n_models=len(samples))


def _decided(part: pd.DataFrame, cut: float | Mapping[int, float], resamples: int, seed: int) -> list[dict[str, Any]]:
    """`_metrics` of the decisions, each case decided at its fold's threshold; all NaN where a fold has none."""
    sample, each = sample_of(part), per_case(part[part["truth"].notna()], cut)
    cuts = np.unique(each)
    if cuts.size < 2 or not np.isfinite(cuts).all():
        one = 0.5 if not cuts.size else float(cuts[0]) if np.isfinite(cuts).all() else float("nan")
        return _metrics(sample, Place.DECISIONS, one, resamples, seed)
    called = (sample.probability >= each).astype(np.float64)  # these metrics know nothing of a case but its decision
    return _metrics(replace(sample, probability=called), Place.DECISIONS, 0.5, resamples, seed)


def _metrics(sample: Sample, place: Place, threshold: float, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Rows metric, value, low, high, n, n_positive, estimable, remark; all NaN where there is no threshold."""
    usable = threshold if np.isfinite(threshold) else 0.5
    table = marker_metrics(sample, threshold=usable, resamples=resamples, seed=seed)
    table = table[table["metric"].isin(shown_in(place, MARKER_TASK))]
    if not np.isfinite(threshold):
        table = table.assign(value=np.nan, low=np.nan, high=np.nan, estimable=False, remark=NO_THRESHOLD)
    columns = ["metric", "value", "low", "high", "n", "n_positive", "estimable", "remark"]
    return [dict(zip(columns, row, strict=True)) for row in table[columns].itertuples(index=False, name=None)]


def _fit_text(fitted: Temperature | Platt | None) -> str:
    if isinstance(fitted, Temperature):
        return f"T = {fitted.temperature:.2f}"
    return "" if fitted is None else f"{fitted.slope:.2f} z {fitted.intercept:+.2f}"


def _null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
