"""Missing sequences as stills for executed notebooks and paper: the heat map over all subsets, and means by number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench.contracts import MODALITY_TITLES
from workbench.evaluation.robustness import split_names
from workbench.views.figures.robustness import COLOURS, NOT_TRAINED, cell_colours, numbers_label
from workbench.views.theme import colour, theme

_MARKS = ("o", "s", "^", "D", "v", "h", "*")


def subset_still(
    table: pd.DataFrame,
    *,
    subsets: Sequence[str],
    modalities: Sequence[str],
    columns: Sequence[str],
    title: str,
    label: str,
    limits: tuple[float, float] = (0.0, 1.0),
    untrained: Sequence[str] = (),
) -> Figure:
    """Which sequences were shown as filled dots, and beside them one coloured column per region, marker or run.

    Args:
        table: columns present, column, value, n; no row or a NaN value: not estimable.
        subsets: values of `present`, in order, top to bottom.
        modalities: columns of dots.
        columns: values of `column`, in order.
        title: method and cohort.
        label: of the colours, the metric.
        limits: values of the first and the last colour.
        untrained: subsets that no training case showed, marked with a dagger.
    """
    values = table.pivot_table(index="present", columns="column", values="value", aggfunc="first")
    values = values.reindex(index=list(subsets), columns=list(columns))
    counts = table.groupby("present")["n"].max().reindex(list(subsets))
    dots, cells = 0.34 * len(modalities), max(0.75, 0.1 + 0.085 * max(map(len, columns), default=1)) * len(columns)
    figure = Figure(figsize=(1.6 + dots + cells + 0.9, 1.3 + 0.27 * len(subsets)), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2, width_ratios=[dots, cells], sharey=True)
    for row, present in enumerate(subsets):
        shown = split_names(present)
        for place, name in enumerate(modalities):
            filled = theme("light").text if name in shown else "white"
            left.plot(place, row, "o", color=filled, markeredgecolor=theme("light").muted, markersize=7)
    left.set(
        xticks=range(len(modalities)), xticklabels=[MODALITY_TITLES.get(m, m.upper()) for m in modalities],
        yticks=range(len(subsets)),
        yticklabels=[f"{NOT_TRAINED + ' ' if p in untrained else ''}n {'-' if np.isnan(n) else int(n)}"
                     for p, n in counts.items()],
        xlim=(-0.6, len(modalities) - 0.4), ylim=(len(subsets) - 0.5, -0.5),
    )  # fmt: skip
    left.spines[:].set_visible(False)
    picture = right.imshow(values.to_numpy(float), cmap=COLOURS, vmin=limits[0], vmax=limits[1], aspect="auto")
    for row, across in enumerate(values.to_numpy(float)):
        for place, (value, ink) in enumerate(zip(across, cell_colours(across, *limits), strict=True)):
            text, ink = ("n. e.", theme("light").muted) if np.isnan(value) else (f"{value:.2f}", ink)
            right.text(place, row, text, ha="center", va="center", color=ink, fontsize=8)
    right.set(xticks=range(len(columns)), xticklabels=list(columns))
    for ax in (left, right):
        ax.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
    right.tick_params(labelleft=False)
    figure.colorbar(picture, ax=right, label=label).ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def number_still(table: pd.DataFrame, *, title: str, ylabel: str) -> Figure:
    """Mean over all subsets of 1, 2, 3, ... sequences with 95 % intervals, one line per series.

    Args:
        table: columns series, number, mean, low, high, n, complete.
        title: method and cohort.
        ylabel: of the metric.
    """
    figure = Figure(figsize=(5.2, 3.4), layout="constrained", dpi=110)
    ax = figure.subplots()
    series = list(dict.fromkeys(table["series"]))
    for index, key in enumerate(series):
        rows = table[(table["series"] == key) & table["mean"].notna()].sort_values("number")
        if rows.empty:
            continue
        x = rows["number"] + (index - (len(series) - 1) / 2) * 0.06
        spread = [(rows["mean"] - rows["low"]).fillna(0).clip(lower=0), (rows["high"] - rows["mean"]).fillna(0).clip(lower=0)]
        ax.errorbar(
            x, rows["mean"], spread, fmt=_MARKS[index % len(_MARKS)] + "-", color=colour(index), markersize=5, linewidth=1.4,
            label=f"{key} (n {int(rows['n'].max())})",
        )  # fmt: skip
    ax.set(xlabel=numbers_label(table), ylabel=ylabel, xticks=sorted(table["number"].unique()))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color=theme("light").line, linewidth=0.6)
    ax.legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure
