"""Missing sequences as pictures for the dashboard: a heat map over all subsets, means by number, and where one more hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from workbench.contracts import MARKER_TITLES, MODALITY_TITLES
from workbench.evaluation.metrics import TRUE_CLASS, metric_title
from workbench.evaluation.robustness import split_names
from workbench.views.estimates import estimate_text
from workbench.views.tables import marker_title
from workbench.views.theme import colour, dash, finish, places, shape, theme

COLOURS = "cividis"
"""Perceptually even and readable without colour vision."""
NOT_TRAINED = "†"
"""Stands behind a subset that no training case showed."""


def subset_title(present: str, untrained: Sequence[str] = ()) -> str:
    """'t1c+flair' -> 'T1c + FLAIR'; with a dagger where training never showed it."""
    names = " + ".join(MODALITY_TITLES.get(name, name.upper()) for name in split_names(present))
    return f"{names} {NOT_TRAINED}" if present in untrained else names


def judgement_title(judged: str) -> str:
    """'dice:WT' -> 'Dice, WT'; 'auc:idh:mutant' -> 'AUC, IDH mutation'."""
    kind, name, *rest = judged.split(":")
    return f"{metric_title(kind)}, {marker_title(name, rest[0]) if rest else name}"


def score_title(judged: str) -> str:
    """What single cases are judged by: as `judgement_title`, of a marker the probability of the true class."""
    kind, name, *_ = judged.split(":")
    return f"{TRUE_CLASS}, {MARKER_TITLES.get(name, name)}" if kind == "auc" else judgement_title(judged)


def unequal_cases(tables: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], split: str) -> str:
    """A sentence where runs were judged on different cases (another fold, `subsets=few`), else nothing: means differ by that.

    Args:
        tables: title -> subset_metrics and subset_markers of a run.
        split: test or external.
    """
    for kind in (0, 1):  # masks, markers: not every method gives both, nor has every case both
        parts = {title: of_run[kind] for title, of_run in tables.items()}
        found = {title: frozenset(part.loc[part["split"] == split, "case"]) for title, part in parts.items()}
        judged = {title: cases for title, cases in found.items() if cases}
        if len(set(judged.values())) > 1:
            common = len(frozenset.intersection(*judged.values()))
            counts = ", ".join(f"{title} {len(cases)}" for title, cases in judged.items())
            return f"Not judged on the same cases ({counts}, {common} of them in common): do not compare their means."
    return ""


def numbers_label(table: pd.DataFrame) -> str:
    """Under a picture of `by_number`: whose means these are, since cases with fewer sequences may be no part of them."""
    if "complete" not in table or not len(table):
        return "sequences shown"
    if not table["complete"].all():
        return "sequences shown, each case with what it has"
    return f"sequences shown, of cases that have {int(table['number'].max())}"


def cell_colours(values: np.ndarray, low: float, high: float) -> list[str]:
    """Black or white, whichever reads better on each value's colour."""
    place = np.clip((values - low) / (high - low if high > low else 1.0), 0, 1)
    return ["black" if value > 0.55 else "white" for value in place]


def subset_heatmap(
    table: pd.DataFrame,
    *,
    subsets: Sequence[str],
    columns: Sequence[str],
    title: str,
    subtitle: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    untrained: Sequence[str] = (),
    name: str = "light",
    reverse: bool = False,
) -> hv.Overlay:
    """Subsets from top (one sequence) to bottom (all), one column per region or run, the number in each cell.

    Args:
        table: columns present, column, value, low, high, n, n_subjects; no row or a NaN value: not estimable.
        subsets: values of `present`, in order.
        columns: values of `column`, in order.
        title: what is shown.
        subtitle: cohort, split, n.
        limits: values of the first and the last colour.
        untrained: subsets that no training case showed.
        name: 'light' or 'dark'.
        reverse: smaller is better.
    """
    look = theme(name)
    rows = table[table["present"].isin(subsets) & table["column"].isin(columns) & table["value"].notna()]
    place = {present: len(subsets) - 1 - index for index, present in enumerate(subsets)}
    across = {column: index for index, column in enumerate(columns)}
    cells = rows.assign(
        x=rows["column"].map(across).astype(float), y=rows["present"].map(place).astype(float),
        sequences=[subset_title(p) for p in rows["present"]],
        interval=[estimate_text(value, low, high, 3, subjects=int(people)).partition(" ")[2].strip("()")
                  for value, low, high, people in rows[["value", "low", "high", "n_subjects"]].itertuples(index=False)],
    )  # fmt: skip
    cells = cells.assign(x0=cells["x"] - 0.5, x1=cells["x"] + 0.5, y0=cells["y"] - 0.5, y1=cells["y"] + 0.5)
    palette = [to_hex(c) for c in colormaps[COLOURS + "_r" if reverse else COLOURS](np.linspace(0, 1, 256))]
    tiles = hv.Rectangles(cells, ["x0", "y0", "x1", "y1"], ["value", "sequences", "column", "interval", "n"]).opts(
        color="value", cmap=palette, clim=limits, line_color=look.page, line_width=1, tools=["hover"], colorbar=True, clabel="",
        hover_tooltips=[("shown", "@sequences"), ("", "@column"), ("value", "@value{0.000}"), ("95 %", "@interval"), ("n", "@n")],
        backend="bokeh",
    )  # fmt: skip
    parts: list[Any] = [tiles]
    texts = [f"{value:.2f}" if limits[1] <= 2 else f"{value:.1f}" for value in cells["value"]]
    ink = cell_colours(cells["value"].to_numpy(float) if not reverse else -cells["value"].to_numpy(float),
                       *(limits if not reverse else (-limits[1], -limits[0])))  # fmt: skip
    for tone in ("black", "white"):
        chosen = [(x, y, text) for x, y, text, own in zip(cells["x"], cells["y"], texts, ink, strict=True) if own == tone]
        parts.append(hv.Labels(chosen, ["x", "y"], "text").opts(text_color=tone, text_font_size="12px", backend="bokeh"))
    return finish(
        hv.Overlay(parts), title=title, subtitle=subtitle, name=name, legend=None,
        width=max(260, min(130, 720 // max(1, len(columns))) * len(columns)), height=26 * len(subsets) + 10,
        xlabel="", ylabel="", xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(subsets) - 0.5),
        xticks=[(index, column) for column, index in across.items()],
        yticks=[(index, subset_title(present, untrained)) for present, index in place.items()],
        xaxis="top", xrotation=0 if max(map(len, columns), default=0) < 14 else 30,
    )  # fmt: skip


def number_figure(
    table: pd.DataFrame,
    *,
    title: str,
    ylabel: str,
    subtitle: str = "",
    name: str = "light",
    width: int = 380,
    height: int = 330,
    order: Sequence[str] = (),
) -> hv.Overlay:
    """Mean over all subsets of 1, 2, 3, ... sequences with 95 % intervals, one line per series.

    Args:
        table: columns series, number, mean, low, high, n, complete.
        title: what is shown.
        ylabel: of the metric.
        subtitle: cohort, split, n.
        name: 'light' or 'dark'.
        width: of the inner frame, pixels.
        height: of the inner frame, pixels.
        order: titles of all compared runs, for the colours; default: those shown.
    """
    parts: list[Any] = []
    series = list(dict.fromkeys(table["series"]))
    for index, key in enumerate(series):
        place = places(series, order)[key]
        rows = table[(table["series"] == key) & table["mean"].notna()].sort_values("number")
        moved = rows.assign(x=rows["number"] + (index - (len(series) - 1) / 2) * 0.06)
        spread = moved.assign(down=(moved["mean"] - moved["low"]).fillna(0), up=(moved["high"] - moved["mean"]).fillna(0))
        parts += [
            hv.Curve(moved, "x", "mean", label=str(key)).opts(
                color=colour(place, name), line_dash=dash(place), line_width=2, backend="bokeh"
            ),
            hv.ErrorBars(spread, "x", ["mean", "down", "up"]).opts(
                line_color=colour(place, name), line_width=1.5, lower_head=None, upper_head=None, backend="bokeh"
            ),
            hv.Scatter(moved, "x", ["mean", "low", "high", "n"], label=str(key)).opts(
                color=colour(place, name), marker=shape(place), size=9, tools=["hover"], backend="bokeh"
            ),
        ]
    numbers = sorted({int(number) for number in table["number"]})
    return finish(
        hv.Overlay(parts), title=title, subtitle=subtitle, name=name, width=width, height=height,
        xlabel=numbers_label(table), ylabel=ylabel, xticks=[(number, str(number)) for number in numbers],
        xlim=(min(numbers, default=1) - 0.4, max(numbers, default=1) + 0.4),
    )  # fmt: skip
