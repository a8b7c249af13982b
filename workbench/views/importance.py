"""Permutation importance of features as horizontal bars."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from workbench.contracts import MARKER_TITLES
from workbench.views.theme import colour, theme


def importance_figure(table: pd.DataFrame, *, title: str, shown: int = 10) -> Figure | None:
    """The most important features of each marker, with the standard deviation over permutations; None where there are none.

    Args:
        table: columns marker, feature, drop, deviation, n, n_positive, as `models.radiomics.classifiers.importance` gives it.
        title: run and cohort.
        shown: features per marker.
    """
    markers = list(dict.fromkeys(table["marker"])) if len(table) else []
    if not markers:
        return None
    figure = Figure(figsize=(8.4, 0.6 + 2.6 * len(markers)), layout="constrained", dpi=110)
    look = theme("light")
    for index, marker in enumerate(markers):
        ax = figure.add_subplot(len(markers), 1, index + 1)
        rows = table[table["marker"] == marker].nlargest(shown, "drop").iloc[::-1]
        ax.barh(rows["feature"], rows["drop"], xerr=rows["deviation"], color=colour(index), height=0.65, ecolor=look.muted)
        ax.axvline(0, color=look.muted, linewidth=0.8)
        first = rows.iloc[0]
        ax.set_title(f"{MARKER_TITLES[marker]} (n+ = {first['n_positive']}, n- = {first['n'] - first['n_positive']})", fontsize=9)
        ax.set_xlabel("drop of the AUC when permuted", fontsize=8)
        ax.tick_params(labelsize=7.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", color=look.line, linewidth=0.6)
        ax.set_axisbelow(True)
    figure.suptitle(title, fontsize=10)
    return figure
