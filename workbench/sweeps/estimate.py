"""What a sweep will take, judged by the finished runs of the same methods and size; nothing is guessed where there are none."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.records.index import RunRow, list_runs
from workbench.records.sweep_plan import PlannedRun
from workbench.setup.parameters import ExperimentParameters


@dataclass(frozen=True)
class Estimate:
    """Of the runs that are still to be made."""

    runs: int
    seconds: float | None
    """Wall time of one run after the other; None where no run can be judged."""
    bytes: int | None
    judged: int
    """How many of the runs have finished ones to go by; the others count as the mean of these."""
    free: int
    """Free bytes where the runs lie."""
    unjudged: tuple[str, ...]
    """Methods (and sizes) without a finished run to go by."""


def estimate(runs: Path, cells: Sequence[PlannedRun], free: int) -> Estimate:
    """Judge planned runs by finished ones: median time per optimiser step and median folder size.

    Args:
        runs: folder of all runs.
        cells: the runs still to be made.
        free: free bytes where the runs lie.
    """
    finished: dict[tuple[str, str], list[RunRow]] = {}
    for row in list_runs(runs):
        if row.state == "completed" and row.seconds and not row.derived:  # pooling and importing take no time
            finished.setdefault((row.method, str(row.parameters.get("size", ""))), []).append(row)
    seconds, sizes, unjudged = [], [], set()
    measured: dict[tuple[str, str], int] = {}
    for cell in cells:
        values = {name: value for name, value in cell.parameters.items() if name not in ("cohort", "runs")}
        parameters = ExperimentParameters.build(cell.method, values).resolve()
        kind = (cell.method, parameters.size)
        rows = finished.get(kind, [])
        if not rows:
            unjudged.add(" ".join(kind))
            continue
        if kind not in measured:
            measured[kind] = int(statistics.median(_folder_size(runs / row.run) for row in rows))
        sizes.append(measured[kind])
        seconds.append(statistics.median(_scaled(row, parameters) for row in rows))
    judged = len(seconds)
    factor = len(cells) / judged if judged else 0.0
    return Estimate(
        runs=len(cells),
        seconds=sum(seconds) * factor if judged else None,
        bytes=int(sum(sizes) * factor) if judged else None,
        judged=judged,
        free=free,
        unjudged=tuple(sorted(unjudged)),
    )


def _scaled(row: RunRow, parameters: ExperimentParameters) -> float:
    """Seconds of a finished run, its training scaled by the number of steps where both are known."""
    whole = row.seconds or 0.0
    training, steps = float(row.budget.get("seconds") or 0.0), int(row.budget.get("steps") or 0)
    asked = parameters.epochs * parameters.steps_per_epoch if parameters.epochs > 0 and parameters.steps_per_epoch > 0 else 0
    if not (training and steps and asked):
        return whole
    return max(whole - training, 0.0) + training * asked / steps


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
