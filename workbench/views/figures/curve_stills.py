"""ROC and calibration of several runs in one figure, for paper and executed notebooks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.evaluation.curves import BINS, calibration_bins, calibration_curve, roc_curve
from workbench.evaluation.markers import Sample, auc_interval, marker_metrics, sample_of
from workbench.views.estimates import estimate_text
from workbench.views.tables import calibration_text, too_few_text
from workbench.views.theme import colour, theme

_DASHES = ("-", "--", "-.", ":")
_MARKS = ("o", "s", "^", "D", "v", "h", "*")


def overlay_still(runs: Mapping[str, pd.DataFrame], *, title: str, resamples: int = 1000) -> Figure:
    """ROC curves with AUC, interval and n in the legend; beside them calibration, smooth with slope and intercept, and in bins.

    Args:
        runs: title -> rows of one marker class and split, each case once; in the order of their colours.
        title: marker, cohort, split.
        resamples: bootstrap resamples of subjects.
    """
    below, above, side = 0.75 + 0.19 * len(runs), 0.62 + 0.2 * title.count("\n"), 3.9  # inches
    width, height = 2 * side + 1.9, side + below + above
    figure = Figure(figsize=(width, height), dpi=110)
    left, right = (
        figure.add_axes((at / width, below / height, side / width, side / height)) for at in (0.65, side + 1.65)
    )  # fmt: skip
    for ax in (left, right):
        ax.plot([0, 1], [0, 1], color=theme("light").muted, linewidth=0.8, linestyle=":")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color=theme("light").line, linewidth=0.6)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    for index, (name, rows) in enumerate(runs.items()):
        _draw(left, right, index, name, sample_of(rows), resamples)
    left.set(xlabel="false positive rate (1 − specificity)", ylabel="true positive rate (sensitivity)")
    right.set(xlabel="predicted probability", ylabel="observed frequency")
    for ax, head in ((left, "ROC"), (right, "calibration: smooth with 95 % band, and bins")):
        ax.set_title(head, fontsize=11, loc="left")
        ax.legend(fontsize=8.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.11))
    figure.text(0.65 / width, 1 - 0.1 / height, title, fontsize=12, fontweight="bold", va="top")
    return figure


def _draw(left: Axes, right: Axes, index: int, name: str, sample: Sample, resamples: int) -> None:
    n, positive = sample.truth.size, int(sample.truth.sum())
    counts = f"n = {n} ({positive}+)"
    shade, dash = colour(index), _DASHES[index % len(_DASHES)]
    if not sample.estimable:
        for ax in (left, right):
            ax.plot([], [], color=shade, linestyle=dash, label=f"{name}: {too_few_text(*sample.per_class)}")
        return
    area, curve = auc_interval(sample), roc_curve(sample)
    label = f"{name}: AUC {estimate_text(area.value, area.low, area.high, subjects=area.n_subjects)}, {counts}"
    left.plot(curve["fpr"], curve["tpr"], color=shade, linestyle=dash, linewidth=1.8, label=label)
    bins = calibration_bins(sample, bins=int(np.clip(n // 10, 3, BINS)))
    reach = np.maximum([bins["observed"] - bins["low"], bins["high"] - bins["observed"]], 0)
    right.errorbar(
        bins["probability"], bins["observed"], yerr=reach, fmt=_MARKS[index % len(_MARKS)], color=shade, markersize=4, capsize=2,
        linestyle="", elinewidth=0.8, alpha=0.7,
    )  # fmt: skip
    smooth = calibration_curve(sample)
    right.fill_between(smooth["probability"], smooth["low"], smooth["high"], color=shade, alpha=0.12, linewidth=0)
    line = calibration_text(marker_metrics(sample, resamples=resamples))
    right.plot(smooth["probability"], smooth["observed"], color=shade, linestyle=dash, linewidth=1.8, label=f"{name}: {line}")
