"""The cells of a sweep as they stand now: planned, running, finished, failed; and their tables, for what compares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.evaluation.ablation import Cell
from workbench.files import read_json
from workbench.records.index import RunRow
from workbench.records.run_folder import MARKERS_FILE, METRICS_FILE, read_table
from workbench.records.sweep_plan import MISSING, PlannedRun, SweepPlan, cell_row

STATES = ("completed", "running", "queued", "interrupted", "cancelled", "failed", "unreadable", "missing")
"""States of a cell in the order in which they are counted."""
ALL = "all conditions"
"""The one block of a sweep that is no ablation."""
_PROGRESS_FILE = "progress.json"

ReadTable = Callable[[str, str], pd.DataFrame | None]
"""(run, file name) -> table, None where there is none."""


@dataclass(frozen=True)
class SweepCell:
    """One planned run and its run folder as it stands."""

    planned: PlannedRun
    row: RunRow
    block: str
    """What is held fixed: the method of an ablation, with the values of further crossed parameters."""
    arm: str
    """The condition that is compared."""
    progress: str = ""
    """Of a running cell: 'training 38 %'."""

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return self.row.state


def sweep_cells(
    runs: str | Path, plan: SweepPlan, row_of: Callable[[PlannedRun], RunRow | None] | None = None
) -> list[SweepCell]:
    """Every cell of a plan, in its order.

    Args:
        runs: the runs folder.
        plan: of the sweep.
        row_of: the run of a cell, None where it has no folder; default: `sweeps.cell_row`.
    """
    methods = {cell.method for cell in plan.cells}
    conditions = {cell.condition for cell in plan.cells}
    found = []
    for planned in plan.cells:
        row = row_of(planned) if row_of else cell_row(runs, planned)
        row = row or RunRow(planned.run, planned.run.split("/")[0], MISSING, method=planned.method)
        if plan.ablation:
            factors = ", ".join(f"{name}={value}" for name, value in planned.factors.items())
            block, arm = ", ".join(filter(None, (planned.method, factors))), planned.condition
        else:
            parts = (planned.method if len(methods) > 1 or not planned.condition else "",
                     planned.condition if len(conditions) > 1 else "")  # fmt: skip
            block, arm = ALL, ", ".join(filter(None, parts)) or planned.method
        found.append(SweepCell(planned, row, block, arm, _progress(Path(runs) / planned.run) if row.state == "running" else ""))
    return found


def counts(cells: Sequence[SweepCell]) -> dict[str, int]:
    """State -> number of cells, of the states that occur, in the order of `STATES`."""
    found = Counter(cell.state for cell in cells)
    return {state: found[state] for state in (*STATES, *sorted(set(found) - set(STATES))) if found[state]}


def comparable(runs: str | Path, cells: Sequence[SweepCell], read: ReadTable | None = None) -> tuple[list[Cell], list[str]]:
    """The cells with the tables of those that are completed, for `evaluation.ablation`; and which tables cannot be read.

    Args:
        runs: the runs folder.
        cells: of `sweep_cells`.
        read: reads a table of a run, e.g. from a cache; default: from disk.
    """
    read = read or (lambda run, name: read_table(Path(runs) / run / name))
    found, problems = [], []
    for cell in cells:
        metrics = markers = None
        if cell.state == "completed":
            try:
                metrics, markers = read(cell.planned.run, METRICS_FILE), read(cell.planned.run, MARKERS_FILE)
            except (WorkbenchError, OSError) as error:
                problems.append(f"{cell.planned.run}: {error}")
                metrics = markers = None
        samples = cell.row.budget.get("samples")
        found.append(
            Cell(
                cell.block, cell.arm, cell.planned.fold, cell.planned.seed, cell.planned.run, metrics, markers,
                cell.row.fingerprint, float(samples) if isinstance(samples, int | float) else None, cell.row.pretrained.caution,
            )
        )  # fmt: skip
    return found, problems


def _progress(folder: Path) -> str:
    """What a running run says it does; empty where it says nothing yet."""
    try:
        said = read_json(folder / _PROGRESS_FILE)
        activity, done, total = str(said["activity"]), float(said["done"]), float(said["total"])
    except (WorkbenchError, OSError, KeyError, TypeError, ValueError):
        return ""
    return f"{activity} {done / total:.0%}".replace("%", " %") if total > 0 else activity
