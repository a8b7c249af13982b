"""The forest plot for paper and executed notebooks, in matplotlib."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench.views.ablation_tables import clear, outcome_title
from workbench.views.figures.forest import COLUMNS, axis_ticks, beside, column_titles, direction, limits
from workbench.views.theme import colour, theme

_TEXT_INCHES = 5.8


def forest_still(table: pd.DataFrame, *, metric: str, of: str, title: str, against: str = "baseline") -> Figure:
    """Forest plot of the lines of `views.figures.forest.forest_rows`; arguments as `forest_figure`."""
    look = theme("light")
    labels = max((len(str(label)) for label in table["label"]), default=1)
    left, plot, right = 0.35 + 0.085 * labels, 3.6, _TEXT_INCHES
    height = 0.36 * len(table) + 1.25
    figure = Figure(figsize=(left + plot + right, height), dpi=110)
    ax = figure.add_axes((left / (left + plot + right), 0.4 / height, plot / (left + plot + right), 1 - 1.2 / height))
    low, high = limits(table)
    ax.axvline(0, color=look.muted, linestyle=":", linewidth=1.2)
    for place, (_, row) in enumerate(table.iterrows()):
        if np.isfinite(row["difference"]):
            if np.isfinite(row["low"]):
                ax.plot([row["low"], row["high"]], [place, place], color=colour(0), linewidth=2.2, solid_capstyle="butt")
            face = colour(0) if clear(row) else "white"
            ax.plot(
                row["difference"], place, "o", markersize=8, markerfacecolor=face, markeredgecolor=colour(0), markeredgewidth=1.8
            )
        for (offset, _), text in zip(COLUMNS, beside(row), strict=True):
            ax.annotate(text, (1, place), xycoords=("axes fraction", "data"), xytext=(12 + 0.82 * offset, 0),
                        textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    for (offset, _), head in zip(COLUMNS, column_titles(table), strict=True):
        ax.annotate(head, (1, 1), xycoords="axes fraction", xytext=(12 + 0.82 * offset, 4), textcoords="offset points",
                    fontsize=8.5, color=look.muted)  # fmt: skip
    zero = (0 - low) / (high - low)
    for text, align, shift in zip(direction(metric), ("right", "left"), (-5, 5), strict=True):
        ax.annotate(text, (zero, 1), xycoords="axes fraction", xytext=(shift, 4), textcoords="offset points", ha=align,
                    fontsize=8.5, color=look.muted)  # fmt: skip
    ticks = axis_ticks(low, high)
    ax.set(
        xlim=(low, high), ylim=(len(table) - 0.5, -0.5), yticks=range(len(table)), yticklabels=list(table["label"]),
        xticks=[place for place, _ in ticks], xticklabels=[text for _, text in ticks], xlabel="",
    )  # fmt: skip
    ax.tick_params(axis="y", length=0, labelsize=10)
    ax.tick_params(axis="x", labelsize=8.5)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="x", color=look.line, linewidth=0.6)
    ax.set_axisbelow(True)
    figure.text(
        0.012, 1 - 0.1 / height, f"{outcome_title(metric, of)}: difference to {against}", fontsize=12, fontweight="bold", va="top"
    )
    figure.text(0.012, 1 - 0.34 / height, title, fontsize=9, color=look.muted, va="top")
    return figure
