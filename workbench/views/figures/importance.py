"""Permutation importance of features as horizontal bars."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from workbench.contracts import MARKER_TITLES
from workbench.evaluation.intervals import MIN_PER_CLASS
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
        rows = table[table["marker"] == marker]
        positive, n = int(rows["n_positive"].iloc[0]), int(rows["n"].iloc[0])
        negative = n - positive
        trusted = min(positive, negative) >= MIN_PER_CLASS
        rows = rows[(rows["drop"] != 0) | (rows["deviation"] != 0)].nlargest(shown, "drop").iloc[::-1]
        ax.barh(
            rows["feature"], rows["drop"], xerr=rows["deviation"], color=colour(index), alpha=1 if trusted else 0.4, height=0.65,
            ecolor=look.muted,
        )  # fmt: skip
        ax.axvline(0, color=look.muted, linewidth=0.8)
        note = "" if trusted else f": too few to trust (needs {MIN_PER_CLASS} of each)"
        ax.set_title(f"{MARKER_TITLES[marker]}, n+ = {positive}, n- = {negative}{note}", fontsize=9)
        if rows.empty:
            ax.text(0.5, 0.5, "no feature changes the AUC", transform=ax.transAxes, ha="center", fontsize=8)
        ax.set_xlabel("drop of the AUC when permuted", fontsize=8)
        ax.tick_params(labelsize=7.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", color=look.line, linewidth=0.6)
        ax.set_axisbelow(True)
    figure.suptitle(title, fontsize=10)
    return figure
