"""Every two of the compared runs on the same subjects: a forest plot of their differences, and which pairs are refused."""

from __future__ import annotations

from typing import Any

from app.store import Store
from workbench.contracts import MARKER_TASK
from workbench.errors import WorkbenchError
from workbench.evaluation.ablation import Cell, Deltas
from workbench.evaluation.metrics import metric as entry_of
from workbench.evaluation.pairwise import pairwise_deltas
from workbench.records.index import RunRow
from workbench.records.run_folder import MARKERS_FILE, METRICS_FILE
from workbench.views.figures.forest import forest_figure, forest_rows

MOST = 6
"""Runs whose pairs are drawn: 15 lines."""


def pair_figure(store: Store, rows: list[RunRow], judged: str, split: str, *, subtitle: str, name: str) -> tuple[Any, list[str]]:
    """Forest plot of one outcome of all pairs, None where there is none; and what belongs beside it.

    Args:
        store: where tables are read from.
        rows: the compared runs, in their order.
        judged: 'dice:WT', 'auc:idh:mutant' ...
        split: test, validation or external.
        subtitle: cohort and split.
        name: 'light' or 'dark'.
    """
    if len(rows) < 2:
        return None, []
    if len(rows) > MOST:
        return None, [f"Differences of pairs are drawn for {MOST} runs at most."]
    metric, _, of = judged.partition(":")
    file = MARKERS_FILE if entry_of(metric).task == MARKER_TASK else METRICS_FILE
    stamps = tuple((row.run, store.stamp(row.run, file)) for row in rows)
    try:
        deltas = store.cached(("pairs", stamps, judged, split), stamps, lambda: _deltas(store, rows, judged, split))
    except (WorkbenchError, OSError) as error:
        return None, [f"No paired differences: {error}"]
    refused = [f"Not paired: {line}" for line in deltas.refused]
    if not len(deltas.table):
        return None, refused
    figure = forest_figure(
        forest_rows(deltas, "", metric, of), metric=metric, of=of, name=name, against=deltas.reference,
        subtitle=f"{subtitle}; p (Holm) over all pairs ({deltas.family}); filled: p < 0.05 and 0 outside the interval",
    )  # fmt: skip
    return figure, refused


def _deltas(store: Store, rows: list[RunRow], judged: str, split: str) -> Deltas:
    metric, _, of = judged.partition(":")
    marker = entry_of(metric).task == MARKER_TASK
    cells = []
    for row in rows:
        table = store.markers(row.run) if marker else store.metrics(row.run)
        if table is not None:
            keep = (
                (table["marker"].astype(str) + ":" + table["class"].astype(str) == of) if marker else table["region"] == of
            )  # fmt: skip
            table = table[keep]
        samples = row.budget.get("samples")
        spent = float(samples) if isinstance(samples, int | float) else None
        metrics, markers = (None, table) if marker else (table, None)
        cells.append(Cell("", row.title, 0, 0, row.run, metrics, markers, row.fingerprint, spent, row.pretrained.caution))
    return pairwise_deltas(cells, split=split, outcomes=[metric])
