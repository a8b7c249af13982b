"""Figures for paper and executed notebooks, in matplotlib: one file, nothing to load from anywhere, the same look as the app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.contracts import MARKER_TITLES, SEGMENTATION
from workbench.evaluation.curves import calibration_bins, calibration_curve, roc_curve, roc_curve_band
from workbench.evaluation.intervals import MIN_PER_CLASS, mean_interval
from workbench.evaluation.metrics import Kind, Place, metrics_of, shown_in
from workbench.evaluation.metrics import metric as entry_of
from workbench.evaluation.proportions import median_interval
from workbench.views.figures.training import thin
from workbench.views.theme import colour, theme


def _figure(columns: int, width: float = 4.2, height: float = 3.4, rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=110)
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(rows * columns)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color=theme("light").line, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def training_figure(events: pd.DataFrame, *, title: str) -> Figure:
    """Loss terms and validation score over optimiser steps.

    Args:
        events: columns name, step, value, as `RunFolder.events()` gives them.
        title: run, method and cohort.
    """
    figure, (left, right) = _figure(2)
    shown = events[events["name"].str.startswith("train/") & ~events["name"].isin(["train/learning_rate", "train/gradient_norm"])]
    for index, (name, rows) in enumerate(shown.groupby("name", sort=False)):
        series = thin(rows.sort_values("step"))
        left.plot(series["step"], series["value"], color=colour(index), label=str(name).removeprefix("train/"))
    left.set(xlabel="optimiser step", ylabel="loss", title="training")
    left.legend(fontsize=8, frameon=False)
    for index, (name, rows) in enumerate(events[events["name"].str.startswith("validation/")].groupby("name", sort=False)):
        rows = rows.sort_values("step")
        right.plot(
            rows["step"], rows["value"], "o-", markersize=4, color=colour(index), label=str(name).removeprefix("validation/")
        )
        if rows["value"].notna().any():
            best = rows.iloc[int(np.nanargmax(rows["value"].to_numpy()))]
            right.annotate(
                f"best {best['value']:.3f}\nat step {int(best['step'])}", (best["step"], best["value"]), xytext=(-6, -26),
                textcoords="offset points", fontsize=8, ha="right",
            )  # fmt: skip
    right.set(xlabel="optimiser step", ylabel="score (higher is better)", title="validation")
    figure.suptitle(title, fontsize=10)
    return figure


def distribution_figure(metrics: pd.DataFrame, *, title: str, split: str = "test") -> Figure:
    """One point per case and region, with the mean (of distances the median) of those that have it and its 95 % interval."""
    shown = shown_in(Place.FIGURE, SEGMENTATION)
    rows = metrics[metrics["split"] == split]
    regions = list(dict.fromkeys(rows["region"]))
    figure, axes = _figure(len(shown))
    for ax, metric in zip(axes, shown, strict=True):
        entry = entry_of(metric)
        for index, region in enumerate(regions):
            found = rows[(rows["region"] == region) & (rows["metric"] == metric) & rows["value"].notna()]
            if found.empty:
                continue
            spread = np.linspace(-0.16, 0.16, len(found))
            empty = (found["n_truth"] == 0).to_numpy()
            for part, face in ((~empty, colour(index)), (empty, "none")):
                ax.scatter(
                    (index + spread)[part], found["value"][part], s=16, alpha=0.7, facecolors=face, edgecolors=colour(index)
                )
            there = found[~empty]
            values, subjects = there["value"].to_numpy(np.float64), there["subject"].to_numpy().astype(str)
            distance = entry.kind is Kind.DISTANCE
            number = median_interval(values, subjects) if distance else mean_interval(values, subjects, entry.limits)
            if number.estimable:
                reach = np.nan_to_num([[number.value - number.low], [number.high - number.value]])
                style: dict[str, Any] = {"fmt": "D", "color": "black", "markersize": 4, "capsize": 3}
                ax.errorbar(index + 0.32, number.value, yerr=np.maximum(reach, 0), **style)
        counts = [rows[(rows["region"] == r) & (rows["metric"] == metric)]["value"].notna().sum() for r in regions]
        ax.set_xticks(range(len(regions)), [f"{r}\nn = {n}" for r, n in zip(regions, counts, strict=True)])
        entry = metrics_of(SEGMENTATION)[metric]
        ax.set(ylabel=entry.full_title)
        if entry.bounded:
            ax.set_ylim(-0.03, 1.03)
    note = "open circles: the case does not have the region; diamonds: mean (HD95: median) of the others, 95 % interval"
    figure.suptitle(f"{title}\n{split} cases; {note}", fontsize=9)
    return figure


def marker_figure(
    markers: pd.DataFrame, *, title: str, best: Mapping[tuple[str, str], np.ndarray] | None = None, split: str = "test"
) -> Figure | None:
    """ROC and calibration of each marker and class; None where the split holds no case of known truth.

    Args:
        markers: rows of markers.parquet.
        title: run and cohort.
        best: (marker, class) -> best possible probabilities of a phantom, aligned with the rows of that marker and split.
        split: the split shown.
    """
    rows = markers[(markers["split"] == split) & markers["truth"].notna()]
    kinds = list(dict.fromkeys(zip(rows["marker"], rows["class"], strict=True)))
    if not kinds:
        return None
    figure, axes = _figure(2, rows=len(kinds), width=4.0, height=3.7)
    for index, (marker, name) in enumerate(kinds):
        found = rows[(rows["marker"] == marker) & (rows["class"] == name)]
        positive, negative = (int((found["truth"] == side).sum()) for side in (1, 0))
        estimable = min(found.loc[found["truth"] == side, "subject"].nunique() for side in (1, 0)) >= MIN_PER_CLASS
        few = "" if estimable else f": not estimable (needs {MIN_PER_CLASS} subjects of each)"
        note = f"n+ = {positive}, n- = {negative}{few}"
        _draw_roc(axes[2 * index], found, (best or {}).get((marker, name)), estimable)
        axes[2 * index].set_title(f"{MARKER_TITLES[marker]}: {name}\n{note}", fontsize=9)
        _draw_calibration(axes[2 * index + 1], found)
        axes[2 * index + 1].set_title("calibration: smooth with 95 % band; bins with counts", fontsize=9)
    figure.suptitle(f"{title}, {split} cases", fontsize=10)
    return figure


def _draw_roc(ax: Axes, found: pd.DataFrame, best: np.ndarray | None, estimable: bool) -> None:
    ax.plot([0, 1], [0, 1], color=theme("light").muted, linewidth=0.8, linestyle=":")
    if estimable:
        band = roc_curve_band(found)
        ax.fill_between(band["fpr"], band["low"], band["high"], color=colour(0), alpha=0.2, linewidth=0, label="95 % band")
    curve = roc_curve(found)
    ax.plot(curve["fpr"], curve["tpr"], color=colour(0), linestyle="-" if estimable else "--", label="this run")
    if best is not None:
        ideal = roc_curve(found.assign(probability=best))
        ax.plot(ideal["fpr"], ideal["tpr"], color="0.4", linestyle="--", linewidth=1.2, label="best possible (phantom)")
    ax.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.legend(fontsize=7, frameon=False, loc="lower right")


def _draw_calibration(ax: Axes, found: pd.DataFrame) -> None:
    bins = calibration_bins(found)
    ax.plot([0, 1], [0, 1], color=theme("light").muted, linewidth=0.8, linestyle=":")
    reach = np.maximum([bins["observed"] - bins["low"], bins["high"] - bins["observed"]], 0)
    ax.errorbar(bins["probability"], bins["observed"], yerr=reach, fmt="o", color=colour(0), markersize=4, capsize=2, alpha=0.7)
    smooth = calibration_curve(found)
    ax.fill_between(smooth["probability"], smooth["low"], smooth["high"], color=colour(0), alpha=0.15)
    ax.plot(smooth["probability"], smooth["observed"], color=colour(0), linewidth=1.6)
    for _, row in bins.iterrows():
        place = (row["probability"], row["observed"])
        ax.annotate(f"{int(row['n'])}", place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    ax.set(xlabel="predicted probability", ylabel="observed frequency", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
