"""Results side by side: every case of every run, means with intervals, and differences between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from workbench.evaluation.metrics import metric_title
from workbench.seeding import stream
from workbench.views.theme import colour, finish, places, reference_line, shape, theme


def metric_distribution(
    cases: Mapping[str, pd.DataFrame],
    summaries: Mapping[str, pd.DataFrame],
    *,
    metric: str,
    regions: Sequence[str],
    subtitle: str = "",
    name: str = "light",
    width: int = 560,
    height: int = 320,
    order: Sequence[str] = (),
) -> hv.Overlay:
    """One metric per region: a point for each case, and the number that leads with its interval, runs beside each other.

    Args:
        cases: run title -> rows of metrics.parquet with columns case, region, value, of this metric and one split.
        summaries: run title -> columns region, value, low, high, n, statistic (bounds may be NaN: unknown).
        metric: for the axis.
        regions: in the order of the axis.
        subtitle: cohort, split.
        name: 'light' or 'dark'.
        width: of the inner frame, pixels.
        height: of the inner frame, pixels.
        order: titles of all compared runs, for the colours; default: those shown.
    """
    parts: list[Any] = []
    statistic = next((table["statistic"].iloc[0] for table in summaries.values() if len(table)), "mean")
    count, place_of = max(1, len(cases)), places(cases, order)
    look = theme(name)
    means = []
    for index, (title, rows) in enumerate(cases.items()):
        offset = (index - (count - 1) / 2) * 0.8 / count
        place = {region: number + offset for number, region in enumerate(regions)}
        rows = rows[rows["region"].isin(regions)]
        spread = stream(0, "jitter", title).uniform(-0.28, 0.28, len(rows)) / count
        points = pd.DataFrame(
            {"x": rows["region"].map(place).to_numpy(float) + spread, "value": rows["value"], "case": rows["case"], "run": title}
        )
        parts.append(
            hv.Scatter(points, "x", ["value", "case", "run"], label=title).opts(
                color=colour(place_of[title], name),
                alpha=0.45,
                size=4,
                marker=shape(place_of[title]),
                tools=["hover"],
                backend="bokeh",
            )
        )
        table = summaries[title]
        table = table[table["region"].isin(regions) & table["value"].notna()]
        down, up = table["value"] - table["low"], table["high"] - table["value"]
        means.append(table.assign(x=table["region"].map(place), run=title, down=down.fillna(0), up=up.fillna(0)))
    for index, table in zip(place_of.values(), means, strict=True):
        parts.append(
            hv.ErrorBars(table, "x", ["value", "down", "up"]).opts(
                line_color=look.text, line_width=2, lower_head=None, upper_head=None, backend="bokeh"
            )
        )
        parts.append(
            hv.Scatter(table, "x", ["value", "region", "low", "high", "n", "run"]).opts(
                color=colour(index, name), line_color=look.text, line_width=1.5, marker=shape(index), size=11, tools=["hover"],
                backend="bokeh",
            )
        )  # fmt: skip
    return finish(
        hv.Overlay(parts),
        title=f"{metric_title(metric)} per region: cases, and {statistic} where present",
        subtitle=subtitle,
        name=name,
        width=width,
        height=height,
        xlabel="region",
        ylabel=metric_title(metric),
        xlim=(-0.5, len(regions) - 0.5),
        xticks=[(number, region) for number, region in enumerate(regions)],
    )


def forest(
    table: pd.DataFrame,
    *,
    title: str,
    xlabel: str,
    subtitle: str = "",
    reference: float | None = None,
    xlim: tuple[float, float] | None = None,
    name: str = "light",
    width: int = 420,
    order: Sequence[str] = (),
) -> hv.Overlay:
    """Estimates with intervals as horizontal whiskers, one line each, the number written beside it.

    Args:
        table: columns label, value, low, high, n; optionally series (run title: colour and shape), rough and note. A row whose
            value is NaN is shown as 'not estimable'.
        title: what is shown.
        xlabel: of the estimates, with unit.
        subtitle: cohort, split.
        reference: place of a dotted line, e.g. 0 for no difference, 0.5 for chance.
        xlim: range of the axis.
        name: 'light' or 'dark'.
        width: of the inner frame, pixels.
        order: titles of all compared runs, for the colours; default: those shown.
    """
    look = theme(name)
    table = table.reset_index(drop=True)
    series = list(dict.fromkeys(table["series"])) if "series" in table else [""]
    y = np.arange(len(table))[::-1].astype(float)
    low, high = xlim or _span(table, reference)
    text_x = high + 0.03 * (high - low)
    parts: list[Any] = []
    if reference is not None:
        parts.append(reference_line([(reference, -0.7), (reference, len(table) - 0.3)], name))
    for key, index in places(series, order).items():
        chosen = (table["series"] == key).to_numpy() if "series" in table else np.ones(len(table), bool)
        rows = table[chosen].assign(y=y[chosen])
        known = rows[rows["value"].notna()]
        whiskers = [(r["low"], r["y"], r["high"], r["y"]) for _, r in known.iterrows() if np.isfinite(r["low"])]
        parts.append(hv.Segments(whiskers).opts(color=colour(index, name), line_width=2.5, backend="bokeh"))
        points = rows[["value", "y", "label", "low", "high", "n"]]  # also those without a value, for the legend
        parts.append(
            hv.Points(points, ["value", "y"], ["label", "low", "high", "n"], label=str(key)).opts(
                color=colour(index, name), line_color=look.text, marker=shape(index), size=10, tools=["hover"], backend="bokeh"
            )
        )
    is_first = table["label"].ne(table["label"].shift())  # a label shared by several rows stands once
    texts = [(text_x, place, _beside(row)) for place, (_, row) in zip(y, table.iterrows(), strict=True)]
    parts.append(
        hv.Labels(texts, ["value", "y"], "text").opts(
            text_color=look.text, text_align="left", text_font_size="12px", backend="bokeh"
        )
    )
    return finish(
        hv.Overlay(parts),
        title=title,
        subtitle=subtitle,
        name=name,
        width=width,
        height=max(90, 30 * len(table) + 24),
        legend="bottom" if len(series) > 1 else None,
        xlabel=xlabel,
        ylabel="",
        xlim=(low, high + 0.85 * (high - low)),
        xticks=[float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high],
        ylim=(-0.7, len(table) - 0.3),
        yticks=[(place, str(label)) for place, label, first in zip(y, table["label"], is_first, strict=True) if first],
    )


def _span(table: pd.DataFrame, reference: float | None) -> tuple[float, float]:
    values = table[["value", "low", "high"]].to_numpy(float).ravel()
    values = np.append(values[np.isfinite(values)], [] if reference is None else [reference])
    if values.size == 0:
        return 0.0, 1.0
    margin = 0.06 * (values.max() - values.min()) or 0.1
    return float(values.min() - margin), float(values.max() + margin)


def _beside(row: pd.Series) -> str:
    if not np.isfinite(row["value"]):
        return str(row.get("note") or f"not estimable, n = {int(row['n'])}")
    text = f"{row['value']:.2f}"
    if np.isfinite(row["low"]):
        text += f" ({row['low']:.2f} to {row['high']:.2f}{', rough' if row.get('rough') else ''})"
    note = row.get("note")
    return f"{text}, n = {int(row['n'])}" + (f", {note}" if isinstance(note, str) and note else "")
