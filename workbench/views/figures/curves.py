"""What a marker prediction is worth, as pictures: ROC, precision-recall, calibration, and the confusion matrix at a threshold.

Each figure takes `CurveData`, one per run, made once with `curve_data`. With fewer than ten subjects of a class the steps are
drawn and the figure says 'not estimable' with the counts: no band, no AUC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from workbench.evaluation import curves
from workbench.evaluation.intervals import RESAMPLES, Interval
from workbench.evaluation.markers import Sample, as_sample, auc_interval, marker_metrics
from workbench.views.estimates import estimate_text
from workbench.views.tables import calibration_text, too_few_text
from workbench.views.theme import colour, dash, finish, places, reference_line, shape, theme

BEST_REMARK = "A finite sample can exceed the best possible curve by chance."
BEST_TITLE = "best possible"
_UNIT = (-0.02, 1.02)


@dataclass(frozen=True)
class CurveData:
    """Everything that the figures of one run's marker need."""

    title: str
    sample: Sample
    roc: pd.DataFrame
    roc_band: pd.DataFrame
    recall: pd.DataFrame
    recall_band: pd.DataFrame
    bins: pd.DataFrame
    smooth: pd.DataFrame
    """`evaluation.curves.calibration_curve`."""
    auc: Interval
    line: str
    """Calibration slope and intercept, as text."""

    @property
    def n(self) -> int:
        """Cases of known truth."""
        return int(self.sample.truth.size)

    @property
    def n_positive(self) -> int:
        """Those of class 1."""
        return int(self.sample.truth.sum())

    @property
    def counts(self) -> str:
        """'n = 60 (24+)': cases, and those of class 1."""
        return f"n = {self.n} ({self.n_positive}+)"

    @property
    def too_few(self) -> str:
        """What to say where nothing is estimable; empty where it is."""
        return "" if self.sample.estimable else too_few_text(*self.sample.per_class)


@dataclass(frozen=True)
class Mark:
    """A threshold to be shown on the curves of one run."""

    threshold: float
    label: str


def curve_data(title: str, data: pd.DataFrame | Sample, *, resamples: int = RESAMPLES, seed: int = 0) -> CurveData:
    """Compute what the figures need from the rows of one marker class and split (or a `Sample`).

    Raises:
        InputError: the rows hold no valid probabilities; see `evaluation.markers.sample_of`.
    """
    sample = as_sample(data)
    return CurveData(
        title,
        sample,
        curves.roc_curve(sample),
        curves.roc_curve_band(sample, resamples=resamples, seed=seed),
        curves.precision_recall_curve(sample),
        curves.precision_recall_band(sample, resamples=resamples, seed=seed),
        curves.calibration_bins(sample, bins=int(np.clip(sample.truth.size // 10, 3, curves.BINS))),
        curves.calibration_curve(sample),
        auc_interval(sample),
        calibration_text(marker_metrics(sample, resamples=resamples, seed=seed)) if sample.estimable else "",
    )


def roc_figure(
    runs: Sequence[CurveData],
    *,
    best: CurveData | None = None,
    marks: Mapping[str, Sequence[Mark]] | None = None,
    title: str = "ROC",
    subtitle: str = "",
    name: str = "light",
    width: int = 360,
    order: Sequence[str] = (),
) -> hv.Overlay:
    """ROC curves of several runs with their pointwise 95 % bootstrap bands, AUC and n in the legend.

    Args:
        runs: in the order of their colours.
        best: the best possible predictor of a phantom, drawn dashed.
        marks: run title -> thresholds to mark on its curve.
        title: of the figure.
        subtitle: cohort and split.
        name: 'light' or 'dark'.
        width: and height of the inner frame, pixels.
        order: titles of all compared runs, for the colours; default: those shown.
    """
    placed = _placed(runs, order)
    parts: list[Any] = [reference_line([(0, 0), (1, 1)], name)]
    parts += [_area(run.roc_band, "fpr", index, name) for run, index in placed]
    if best is not None and len(best.roc):
        label = f"{BEST_TITLE}: AUC {_auc(best)}"
        parts.append(_line(best.roc[["fpr", "tpr"]], label, theme(name).text, "dashed"))
    for run, index in placed:
        line = run.roc[["fpr", "tpr"]] if len(run.roc) else pd.DataFrame({"fpr": [np.nan], "tpr": [np.nan]})
        parts.append(_line(line, f"{run.title}: AUC {_auc(run)}", colour(index, name), dash(index)))
    for run, index in placed:
        points = _rates(run, (marks or {}).get(run.title, ()))
        parts += _marked(points, ("fpr", "tpr"), index, name)
    axes = ("false positive rate (1 − specificity)", "true positive rate (sensitivity)")
    return _square(parts, axes, title, subtitle, name, width)


def precision_recall_figure(
    runs: Sequence[CurveData],
    *,
    best: CurveData | None = None,
    marks: Mapping[str, Sequence[Mark]] | None = None,
    title: str = "Precision and recall",
    subtitle: str = "",
    name: str = "light",
    width: int = 360,
    order: Sequence[str] = (),
) -> hv.Overlay:
    """Precision-recall curves with bands; dotted: the prevalence, what guessing would reach. Arguments as `roc_figure`."""
    placed = _placed(runs, order)
    parts: list[Any] = []
    if runs and runs[0].n:
        share = runs[0].n_positive / runs[0].n
        parts.append(reference_line([(0, share), (1, share)], name))
    parts += [_area(run.recall_band, "recall", index, name) for run, index in placed]
    if best is not None and len(best.recall):
        line = best.recall[["recall", "precision"]]
        parts.append(_line(line, f"{BEST_TITLE}, {best.counts}", theme(name).text, "dashed"))
    for run, index in placed:
        line = (
            run.recall[["recall", "precision"]] if len(run.recall) else pd.DataFrame({"recall": [np.nan], "precision": [np.nan]})
        )
        parts.append(_line(line, f"{run.title}: {run.too_few or run.counts}", colour(index, name), dash(index), "steps-pre"))
    for run, index in placed:
        parts += _marked(_rates(run, (marks or {}).get(run.title, ())), ("tpr", "precision"), index, name)
    return _square(parts, ("recall (sensitivity)", "precision"), title, subtitle, name, width)


def calibration_figure(
    runs: Sequence[CurveData],
    *,
    title: str = "Calibration",
    subtitle: str = "",
    name: str = "light",
    width: int = 360,
    order: Sequence[str] = (),
) -> hv.Overlay:
    """Observed frequency against predicted probability: smooth with its 95 % band, slope and intercept in the legend; in bins.

    Bins are of equal mass, with 95 % intervals and numbers of cases.

    Arguments as `roc_figure`. With fewer than ten subjects of a class nothing is drawn.
    """
    placed = _placed(runs, order)
    parts: list[Any] = [reference_line([(0, 0), (1, 1)], name)]
    for run, index in placed:
        parts += _calibration(run, index, name, counts=len(runs) <= 2)
    remark = "smooth, points: bins" + (" with cases" if len(runs) <= 2 else "")
    subtitle = f"{subtitle}; {remark}" if subtitle else remark
    return _square(parts, ("predicted probability", "observed frequency"), title, subtitle, name, width)


def confusion_figure(
    run: CurveData,
    threshold: float,
    *,
    names: tuple[str, str] = ("negative", "positive"),
    index: int = 0,
    subtitle: str = "",
    name: str = "light",
    width: int = 210,
) -> hv.Overlay:
    """The confusion matrix at a threshold: counts, and their share of the cases of the same truth.

    Args:
        run: the run.
        threshold: probability from which a case is called positive.
        names: of class 0 and class 1.
        index: place of the run in the comparison, for its colour.
        subtitle: cohort and split.
        name: 'light' or 'dark'.
        width: of the inner frame, pixels.
    """
    table = curves.confusion_at(run.sample, threshold)
    look = theme(name)
    cells = pd.DataFrame(
        {
            "predicted": [names[int(value)] for value in table["predicted"]],
            "truth": [names[int(value)] for value in table["truth"]],
            "share": table["share"].fillna(0.0),
            "n": table["n"],
            "text": [
                f"{n}\n{share:.0%}" if share == share else f"{n}" for n, share in zip(table["n"], table["share"], strict=True)
            ],
        }
    )
    grid = hv.HeatMap(cells, ["predicted", "truth"], ["share", "n"]).opts(
        cmap=[_mix(look.panel, colour(index, name), step / 20) for step in range(15)], clim=(0, 1), tools=["hover"],
        line_color=look.line, backend="bokeh",
    )  # fmt: skip
    labels = hv.Labels(cells, ["predicted", "truth"], "text").opts(text_color=look.text, text_font_size="13px", backend="bokeh")
    return finish(
        grid * labels,
        title=run.title,
        subtitle=subtitle or f"threshold {threshold:.2f}, n = {run.n}",
        name=name,
        width=width,
        height=int(width * 0.7),
        legend=None,
        xlabel="predicted",
        ylabel="truth",
        toolbar=None,
    )


def _square(parts: list[Any], axes: tuple[str, str], title: str, subtitle: str, name: str, width: int) -> hv.Overlay:
    """The figure of parts whose both axes run from 0 to 1."""
    frame: dict[str, Any] = {"xlabel": axes[0], "ylabel": axes[1], "xlim": _UNIT, "ylim": _UNIT}
    return finish(hv.Overlay(parts), title=title, subtitle=subtitle, name=name, width=width, height=width, **frame)


def _calibration(run: CurveData, index: int, name: str, *, counts: bool) -> list[Any]:
    bins = run.bins if run.sample.estimable else run.bins.iloc[:0]
    table = bins.assign(down=bins["observed"] - bins["low"], up=bins["high"] - bins["observed"], count=bins["n"].astype(str))
    shade = colour(index, name)
    points = table if len(table) else pd.DataFrame([dict.fromkeys(table.columns, np.nan)])  # the legend still names the run
    parts: list[Any] = [
        hv.ErrorBars(table, "probability", ["observed", "down", "up"]).opts(
            line_color=shade, line_width=1.5, alpha=0.7, lower_head=None, upper_head=None, backend="bokeh"
        ),
        _area(run.smooth, "probability", index, name),
        _line(run.smooth[["probability", "observed"]], "", shade, dash(index)),
        hv.Scatter(
            points,
            "probability",
            ["observed", "low", "high", "n", "n_positive"],
            label=f"{run.title}: {run.too_few or f'{run.line}, {run.counts}'}",
        ).opts(marker=shape(index), size=7, color=shade, line_color=theme(name).text, tools=["hover"], backend="bokeh"),
    ]
    if counts and len(table):
        place = table.assign(y=np.where(table["observed"] > 0.9, table["observed"] - 0.05, table["observed"] + 0.05))
        texts = hv.Labels(place, ["probability", "y"], "count")
        parts.append(texts.opts(text_color=shade, text_font_size="11px", xoffset=0.02, backend="bokeh"))
    return parts


def _auc(run: CurveData) -> str:
    return run.too_few or f"{estimate_text(run.auc.value, run.auc.low, run.auc.high, subjects=run.auc.n_subjects)}, {run.counts}"


def _placed(runs: Sequence[CurveData], order: Sequence[str]) -> list[tuple[CurveData, int]]:
    """The runs with their places among all that are compared."""
    place = places([run.title for run in runs], order)
    return [(run, place[run.title]) for run in runs]


def _area(band: pd.DataFrame, x: str, index: int, name: str) -> hv.Area:
    """The band; with no rows where it is unknown."""
    known = band[band["low"].notna()]
    area = hv.Area(known[[x, "low", "high"]], x, ["low", "high"])
    return area.opts(color=colour(index, name), alpha=0.15, line_alpha=0, backend="bokeh")


def _line(table: pd.DataFrame, label: str, shade: str, pattern: str, steps: str = "linear") -> hv.Curve:
    x, y = table.columns
    return hv.Curve(table, x, y, label=label).opts(
        color=shade, line_dash=pattern, line_width=2, interpolation=steps, backend="bokeh"
    )


def _rates(run: CurveData, marks: Sequence[Mark]) -> pd.DataFrame:
    """Where thresholds lie on the curves of a run."""
    truth, probability = run.sample.truth, run.sample.probability
    rows = []
    for mark in marks:
        called = probability >= mark.threshold
        if not truth.any() or truth.all() or not np.isfinite(mark.threshold):
            continue
        rows.append(
            {
                "fpr": float(called[~truth].mean()),
                "tpr": float(called[truth].mean()),
                "precision": float(truth[called].mean()) if called.any() else np.nan,
                "threshold": mark.threshold,
                "what": mark.label,
            }
        )
    return pd.DataFrame(rows, columns=["fpr", "tpr", "precision", "threshold", "what"])


def _marked(points: pd.DataFrame, axes: tuple[str, str], index: int, name: str) -> list[Any]:
    parts = []
    for place, (_, point) in enumerate(points.iterrows()):
        parts.append(
            hv.Scatter(pd.DataFrame([point]), axes[0], [axes[1], "threshold", "what"]).opts(
                color=colour(index, name), line_color=theme(name).text, line_width=1.5, size=12,
                marker=("circle", "star", "diamond")[place % 3], tools=["hover"], backend="bokeh",
            )
        )  # fmt: skip
    return parts


def _mix(low: str, high: str, share: float) -> str:
    """A colour between two hexadecimal colours."""
    pairs = [(int(low[i : i + 2], 16), int(high[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)
