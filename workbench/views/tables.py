"""Tables that people read: runs, and numbers that always carry their interval and their n."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from workbench.cohort.table import cohort_title
from workbench.contracts import MARKER_TASK, MARKER_TITLES, PRETRAINING, SEGMENTATION
from workbench.evaluation.intervals import Interval
from workbench.evaluation.metrics import Place, metric_title, shown_in
from workbench.records.index import RunRow
from workbench.text import visible
from workbench.views.estimates import estimate_text, share_text
from workbench.views.markup import Html
from workbench.views.theme import STATE_SIGNS, state_colour

_JUDGED = {
    SEGMENTATION: ("WT", "lesion", "TC", "ET"),
    MARKER_TASK: ("idh", "codel", "tert", "mgmt", "grade 4"),
    PRETRAINING: ("brain",),
}
"""Of what a list of runs has room for a metric, in this order."""

_MARKER_SHORT = {"idh": "IDH", "codel": "1p/19q", "tert": "TERT", "mgmt": "MGMT", "grade": "grade"}


def duration_text(seconds: float | None) -> str:
    """'6 min 31 s'; empty for None."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def budget_text(budget: Mapping[str, Any]) -> list[str]:
    """What a run spent, one phrase each: optimiser steps, samples, operations."""
    found = []
    for key, title in (("steps", "steps"), ("samples", "samples")):
        if isinstance(budget.get(key), int | float):
            found.append(f"{budget[key]:,.0f} {title}")
    if isinstance(budget.get("flops"), int | float) and budget["flops"]:
        found.append(f"{budget['flops']:.1e} FLOPs")
    return found


def time_text(moment: str) -> str:
    """'21 Nov 2026, 02:11' in local time from ISO 8601; the text itself where it is no time."""
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):  # at the edges of the calendar there is no local time
        return moment


def headline_title(key: str) -> str:
    """Column title of a headline: 'dice WT' -> 'Dice WT', 'auc codel' -> 'AUC 1p/19q'."""
    metric, _, what = key.partition(" ")
    marker, _, name = what.partition(" ")
    return f"{metric_title(metric)} {f'{_MARKER_SHORT.get(marker, marker)} {name}'.strip()}"


def runs_table(
    rows: Sequence[RunRow], headlines: Mapping[str, Mapping[str, Interval] | None], *, name: str = "light", columns: int = 5
) -> pd.DataFrame:
    """The list of runs as HTML cells of one or two lines, indexed by run.

    Args:
        rows: from `records.index.list_runs`.
        headlines: run -> its headline numbers (`evaluation.summaries.headline`); None: not computed yet; absent: has none.
        name: 'light' or 'dark', for the colours of the states.
        columns: how many headline columns there is room for.

    Returns:
        Index run; columns Status, Run, Cohort, Started, Budget and a column per headline. Every cell is `Html`.
    """
    found = {key for numbers in headlines.values() if numbers for key in numbers}
    wanted = [f"{name} {of}" for task, judged in _JUDGED.items() for name in shown_in(Place.RUN_LIST, task) for of in judged]
    shown = [key for key in wanted if key in found][:columns]
    records = []
    for row in rows:
        numbers = headlines.get(row.run, {})
        record = {
            "Status": state_cell(row, name),
            "Run": two_lines(row.name or row.method or "unknown method", row.run) + caution_cell(row),
            "Cohort": two_lines(cohort_title(row.cohort, row.phantom), row.device) if row.readable else Html(""),
            "Started": two_lines(time_text(row.started), duration_text(row.seconds)),
            "Budget": two_lines(*[*budget_text(row.budget), "", ""][:2]),
        }
        for key in shown:
            record[headline_title(key)] = Html("…") if numbers is None else _headline_cell(key, numbers)
        records.append(record)
    titles = ["Status", "Run", "Cohort", "Started", "Budget", *map(headline_title, shown)]
    return pd.DataFrame(records, index=pd.Index([row.run for row in rows], name="run"), columns=titles, dtype=object)


def two_lines(first: str, second: str = "") -> Html:
    """A cell with a line and a smaller one below it."""
    if not first and not second:
        return Html("")
    return Html("<div>{}</div><small>{}</small>").format(first, second)


def caution_cell(row: RunRow) -> Html:
    """A line that marks a run whose pretrained weights had, or may have, seen its test subjects; the sentence as tooltip."""
    if not row.pretrained.mark:
        return Html("")
    return Html('<small title="{}" style="font-weight:600">{}</small>').format(row.pretrained.caution, row.pretrained.mark)


def cautions(rows: Iterable[RunRow]) -> list[str]:
    """A sentence for each run whose test is not known to be clean of the weights it started from, and what else a run has to say:
    cases that are missing, predictions that were made elsewhere."""
    return [f"{row.title}: {note}" for row in rows for note in (row.pretrained.caution, *row.notes) if note]


def state_cell(row: RunRow, name: str) -> Html:
    """A run's state: sign, word and colour; the reason as second line and tooltip."""
    sign = STATE_SIGNS.get(row.state, "")
    return Html('<div style="color:{};font-weight:600">{} {}</div><small title="{reason}">{reason}</small>').format(
        state_colour(row.state, name), sign, row.state, reason=row.reason
    )


def _headline_cell(key: str, numbers: Mapping[str, Interval]) -> Html:
    interval = numbers.get(key)
    if interval is None:
        return Html("")
    if not interval.estimable:
        return two_lines("not estimable", f"n = {interval.n}") + _detection_line(key, numbers)
    bounds = "no interval" if interval.reason else f"{interval.low:.2f}–{interval.high:.2f}"
    value = f"{interval.value:.2f}" + " (rough)" * interval.rough  # in the first line: the second has no room in narrow columns
    return two_lines(value, f"{bounds}, n = {interval.n}") + _detection_line(key, numbers)


def _detection_line(key: str, numbers: Mapping[str, Interval]) -> Html:
    """Below a Dice: in how many cases the region was found, and in how many it was invented, where either is worth a word."""
    metric, _, region = key.partition(" ")
    found, false = (numbers.get(f"{name} {region}") for name in ("found", "false"))
    texts = [
        f"{word} {share_text(share.value, share.n)}"
        for word, share, good in (("found", found, 1.0), ("false in", false, 0.0))
        if metric == "dice" and share is not None and share.value != good
    ]
    return two_lines("", ", ".join(texts)) if texts else Html("")


def found_text(table: pd.DataFrame) -> str:
    """In how many cases regions were missed or invented, of a table of `evaluation.detection`; empty where none was.

    'ET found in 57 of 60, falsely in 1 of 3; TC found in 58 of 60'.
    """
    parts = []
    for row in table.to_dict("records"):
        missed = row["n_found"] < row["n_with"]
        words = [f"found in {row['n_found']} of {row['n_with']}"] * missed
        words += [f"falsely {'found ' * (not missed)}in {row['n_false']} of {row['n_without']} without"] * (row["n_false"] > 0)
        parts += [f"{row['region']} {', '.join(words)}"] * bool(words)
    return "; ".join(parts)


def marker_title(marker: str, name: str) -> str:
    """'IDH mutation', 'WHO grade: 4 against the rest'."""
    title = MARKER_TITLES.get(marker, visible(marker))
    return f"{title}: grade {name} against the rest" if marker == "grade" else title


def marker_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Marker metrics of several runs beside each other.

    Args:
        tables: run title -> what `evaluation.markers.marker_metrics` gives.

    Returns:
        One row per metric, one column per run; every number with its interval, the counts in the first row.
    """
    columns = {}
    for title, table in tables.items():
        first = table.iloc[0]
        positive, total = int(first["n_positive"]), int(first["n"])
        cells = {"Cases": f"n = {total}: {positive} positive, {total - positive} negative"}
        for row in table.to_dict("records"):
            people = row.get("n_subjects")
            number = (
                estimate_text(row["value"], row["low"], row["high"], subjects=people) if row["estimable"] else "not estimable"
            )
            if not row["estimable"] and (reason := str(row.get("remark") or "")):
                number = f"not estimable: {reason.removeprefix('not estimable: ')}"
            cells[metric_title(str(row["metric"]))] = number
        columns[title] = cells
    return pd.DataFrame(columns).rename_axis("Metric").reset_index()


def calibration_text(table: pd.DataFrame) -> str:
    """'slope 0.81 (0.52 to 1.10), intercept 0.05 (-0.30 to 0.40)' of what `markers.marker_metrics` gives, or why not."""
    parts = []
    for name in ("slope", "intercept"):
        row = table[table["metric"] == f"calibration_{name}"].iloc[0]
        known = row["estimable"]
        parts.append(f"{name} {estimate_text(row['value'], row['low'], row['high'])}" if known else f"{name} {row['remark']}")
    return ", ".join(parts)


def too_few_text(n_positive: int, n_negative: int) -> str:
    """What stands in place of a number where a class has fewer than `evaluation.intervals.MIN_PER_CLASS` subjects."""
    return f"not estimable: n+ = {n_positive}, n− = {n_negative}"
