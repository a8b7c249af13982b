"""Forest plot of paired differences: point and interval per line, zero line, which side is better, and the numbers beside it."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from workbench.evaluation.ablation import Deltas
from workbench.evaluation.metrics import Better
from workbench.evaluation.metrics import metric as entry_of
from workbench.views.ablation_tables import MINUS, arm_note, clear, delta_text, outcome_title, p_text
from workbench.views.theme import finish, reference_line, theme

ORDERS = ("declared", "effect")
COLUMNS = ((0, "difference (95 %)"), (236, "p (Holm)"), (298, "better, worse"), (396, "n"), (436, "runs"))
"""Places of the text columns beside the plot in pixels, and their titles."""
_NUMBERS = ("difference", "low", "high", "p_holm", "better", "worse")
_PLOT, _TEXT = 320, 492


def forest_rows(deltas: Deltas, block: str, metric: str, of: str, order: str = "declared") -> pd.DataFrame:
    """One line per arm of a block: label, metric, cells, planned, the numbers, n, n_subjects, note.

    Arms without a number stay, with the reason as note. `order`: 'declared', or 'effect': best first, those without last.
    """
    arms = deltas.arms[deltas.arms["block"] == block]
    table = deltas.table
    rows = table[(table["block"] == block) & (table["metric"] == metric) & (table["of"] == of)].set_index("arm")
    records = []
    for _, arm in arms.iterrows():
        nothing = dict.fromkeys(_NUMBERS, float("nan")) | {"n": 0, "n_subjects": 0}
        found = rows.loc[arm["arm"], list(nothing)].to_dict() if arm["arm"] in rows.index else nothing
        note = arm_note(arm) or ("" if arm["arm"] in rows.index else "not judged by this")
        if not note and not np.isfinite(found["difference"]):
            note = "not estimable"
        head = {"label": arm["arm"], "metric": metric, "cells": arm["cells"], "planned": arm["planned"]}
        records.append({**head, **found, "note": note})
    columns = ["label", "metric", "cells", "planned", *_NUMBERS, "n", "n_subjects", "note"]
    found = pd.DataFrame(records, columns=columns)
    if order == "effect":
        found = found.sort_values(
            "difference", ascending=entry_of(metric).better is Better.LOWER, kind="stable", na_position="last"
        )
    return found.reset_index(drop=True)


def direction(metric: str) -> tuple[str, str]:
    """What stands left and right of zero."""
    return {
        Better.HIGHER: ("← worse", "better →"), Better.LOWER: ("← better", "worse →"), Better.NEITHER: ("← lower", "higher →"),
    }[entry_of(metric).better]  # fmt: skip


def limits(table: pd.DataFrame) -> tuple[float, float]:
    """Range of the axis: all intervals with a margin, and room on both sides of zero for what is better and worse."""
    values = table[["difference", "low", "high"]].to_numpy(float).ravel()
    values = np.append(values[np.isfinite(values)], 0.0)
    reach = float(values.max() - values.min()) or 0.1
    return min(float(values.min()) - 0.06 * reach, -0.3 * reach), max(float(values.max()) + 0.06 * reach, 0.3 * reach)


def axis_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round places on the axis with a real minus sign."""
    places = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [(float(p), f"{p:g}".replace("-", MINUS) if abs(p) > 1e-12 else "0") for p in places if low <= p <= high]


def column_titles(table: pd.DataFrame) -> list[str]:
    """Titles of the text columns; empty that of the runs where each side is one, and that of shares where there are none."""
    used = {"runs": (table["planned"] > 1).any(), "better, worse": table["better"].notna().any()}
    return [title if used.get(title, True) else "" for _, title in COLUMNS]


def beside(row: Any) -> tuple[str, ...]:
    """The texts of the columns beside a line."""
    runs = f"{row['cells']}/{row['planned']}" if row["planned"] > 1 else ""
    if row["note"]:
        return (row["note"], "", "", "", runs)
    shares = f"{100 * row['better']:.0f}, {100 * row['worse']:.0f} %" if np.isfinite(row["better"]) else ""
    return delta_text(row), p_text(row["p_holm"]), shares, str(int(row["n"])), runs


def forest_figure(
    table: pd.DataFrame, *, metric: str, of: str, subtitle: str = "", name: str = "light", against: str = "baseline"
) -> hv.Overlay:
    """Forest plot of the lines of `forest_rows`. Filled: p (Holm) below 0.05 and an interval without 0.

    Args:
        table: columns as of `forest_rows`.
        metric: says which side is better.
        of: region, or 'marker:class'.
        subtitle: cohort, split.
        name: 'light' or 'dark'.
        against: what was subtracted.
    """
    look = theme(name)
    low, high = limits(table)
    per_pixel = (high - low) / _PLOT
    y = np.arange(len(table))[::-1].astype(float)
    rows = table.assign(y=y, value=table["difference"], text=[delta_text(r) for _, r in table.iterrows()])
    known = rows[rows["difference"].notna()]
    blank = hv.Rectangles([(high, -1.0, high + (30 + _TEXT) * per_pixel, len(table) + 1.0)])  # no grid behind the numbers
    blank = blank.opts(color=look.panel, line_color=look.panel, backend="bokeh")
    parts: list[Any] = [blank, reference_line([(0.0, -0.9), (0.0, len(table) - 0.35)], name)]
    shade, top = look.colours[0], len(table) - 0.05
    whiskers = [(r["low"], r["y"], r["high"], r["y"]) for _, r in known.iterrows() if np.isfinite(r["low"])]
    parts.append(hv.Segments(whiskers).opts(color=shade, line_width=3, backend="bokeh"))
    for sure in (True, False):
        chosen = known[[clear(row) == sure for _, row in known.iterrows()]]
        points = hv.Points(chosen[["value", "y", "label", "text", "n"]], ["value", "y"], ["label", "text", "n"])
        parts.append(points.opts(
            fill_color=shade if sure else look.panel, line_color=shade, line_width=2.5, size=12, tools=["hover"], backend="bokeh",
            hover_tooltips=[("", "@label"), ("difference", "@text"), ("n", "@n")],
        ))  # fmt: skip
    places = [high + (24 + offset) * per_pixel for offset, _ in COLUMNS]
    texts = [(x, place, text) for place, (_, r) in zip(y, table.iterrows(), strict=True)
             for x, text in zip(places, beside(r), strict=True) if text]  # fmt: skip
    heads = [(x, top, title) for x, title in zip(places, column_titles(table), strict=True) if title]
    sides = [(x, top, text) for x, text in zip((-6 * per_pixel, 6 * per_pixel), direction(metric), strict=True)]
    for words, tone, align in ((texts, look.text, "left"), (heads, look.muted, "left"),
                               (sides[:1], look.muted, "right"), (sides[1:], look.muted, "left")):  # fmt: skip
        parts.append(hv.Labels(words, ["value", "y"], "said").opts(
            text_color=tone, text_align=align, text_font_size="13px", backend="bokeh",
        ))  # fmt: skip
    return finish(
        hv.Overlay(parts), title=f"{outcome_title(metric, of)}: difference to {against}", subtitle=subtitle, name=name,
        width=_PLOT + _TEXT + 24, height=max(96, 34 * len(table) + 50), legend=None, xlabel="", ylabel="",
        xlim=(low, high + (24 + _TEXT) * per_pixel), xticks=axis_ticks(low, high), ylim=(-0.8, len(table) + 0.35),
        yticks=[(place, str(label)) for place, label in zip(y, table["label"], strict=True)],
        fontsize={"title": 15, "labels": "13px", "xticks": "13px", "yticks": "14px"}, toolbar=None,
    )  # fmt: skip
