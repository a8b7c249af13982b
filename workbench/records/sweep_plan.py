"""What a sweep is made of, on disk: `runs/.sweeps/<name>.json` lists its runs; what became of them stands in the run folders."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.errors import RunError, WorkbenchError
from workbench.files import read_json, write_json
from workbench.records.index import RunRow, read_row
from workbench.records.spec import SPEC_FILE
from workbench.records.status import pid_scope, process_created

SWEEPS_FOLDER = ".sweeps"
BASELINE = "baseline"
MISSING = "missing"
"""State of a cell that has no run folder yet."""
PLAN_VERSION = 1


class PlannedCohort(BaseModel):
    """The cohort of a sweep, as it was when the plan was made."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    path: str = Field(description="relative to the runs folder")
    fingerprint: str
    phantom: bool = False


class PlannedRun(BaseModel):
    """One cell of a sweep."""

    model_config = ConfigDict(frozen=True, extra="allow")

    run: str = Field(description="<experiment>/<run id>")
    method: str
    condition: str = Field(description="'baseline' or the switch of an ablation; else the crossed parameters as text")
    factors: dict[str, Any] = Field({}, description="crossed parameters of this cell, without fold and seed")
    fold: int
    seed: int
    parameters: dict[str, Any] = Field(description="as given to `workbench run`, without cohort and runs")


class SweepPlan(BaseModel):
    """All runs of a sweep."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: int = PLAN_VERSION
    name: str
    file: str = Field(description="the sweep file, relative to the runs folder")
    given: str = Field("", description="options of the command line that changed what the file asks for")
    experiment: str
    cohort: PlannedCohort
    ablation: bool = False
    baseline: str = BASELINE
    all_folds: bool = Field(False, description="every fold of the cohort is run: the folds of a condition can be pooled")
    pooled: tuple[str, ...] = Field((), description="runs that pool the folds of a condition, once they are made")
    cells: tuple[PlannedRun, ...]


def plan_path(runs: str | Path, name: str) -> Path:
    """Where the plan of a sweep lies."""
    return Path(runs) / SWEEPS_FOLDER / f"{name}.json"


def write_plan(runs: str | Path, plan: SweepPlan) -> None:
    """Write a plan; where the same plan is there already nothing is touched.

    Raises:
        RunError: another sweep file has this name.
    """
    path = plan_path(runs, plan.name)
    there: SweepPlan | None = None
    if path.is_file():
        with suppress(RunError):  # a damaged plan is written anew
            there = read_plan(runs, plan.name)
    if there is not None and there.file != plan.file:
        raise RunError(
            f"a sweep named '{plan.name}' was made from {there.file} (relative to {runs}): give this one another `name:`"
        )
    if there is not None and {cell.run for cell in there.cells} == {cell.run for cell in plan.cells}:
        plan = plan.model_copy(update={"pooled": plan.pooled or there.pooled})
    if there != plan:
        write_json(path, plan.model_dump(mode="json"))


def read_plan(runs: str | Path, name: str) -> SweepPlan:
    """Read the plan of a sweep.

    Raises:
        RunError: there is none, or it is damaged or of a newer schema.
    """
    path = plan_path(runs, name)
    if not path.is_file():
        known = ", ".join(list_plans(runs)) or "none"
        raise RunError(f"there is no sweep '{name}' under {runs} (there are: {known}); `workbench sweep FILE` makes one")
    try:
        plan = SweepPlan.model_validate(read_json(path))
    except (WorkbenchError, ValidationError) as error:
        raise RunError(f"{path} is not the plan of a sweep: remove it and run `workbench sweep` again ({error})") from error
    if plan.schema_version > PLAN_VERSION:
        raise RunError(f"{path} is of schema {plan.schema_version}, newer than this workbench reads ({PLAN_VERSION})")
    return plan


def list_plans(runs: str | Path) -> list[str]:
    """Names of the sweeps under a runs folder, newest first."""
    found = [path for path in (Path(runs) / SWEEPS_FOLDER).glob("*.json") if not path.name.startswith(".")]
    return [path.stem for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def cell_row(runs: str | Path, cell: PlannedRun) -> RunRow:
    """The run of a cell as a list shows it; state 'missing' where it has no folder yet."""
    if not (Path(runs) / cell.run / SPEC_FILE).is_file():
        return RunRow(cell.run, cell.run.split("/")[0], MISSING, method=cell.method)
    return read_row(Path(runs), cell.run)


@contextmanager
def working(runs: str | Path, sweep: str, executor: str, beat: float = 10.0) -> Iterator[dict[str, Any]]:
    """Be a worker of a sweep for as long as the block lasts; gives what a queued run says about who queued it.

    A file under `.sweeps/workers` is touched every `beat` seconds, so that workers on other hosts can see that this one lives.
    """
    host, pid = socket.gethostname(), os.getpid()
    heartbeat = Path(SWEEPS_FOLDER) / "workers" / f"{host}-{pid}-{uuid.uuid4().hex[:8]}"
    path = Path(runs) / heartbeat
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    done = threading.Event()

    def keep_beating() -> None:
        while not done.wait(beat):
            with suppress(OSError):
                path.touch()

    thread = threading.Thread(target=keep_beating, name="sweep-heartbeat", daemon=True)
    thread.start()
    try:
        yield {
            "host": host, "pid_scope": pid_scope(), "pid": pid, "pid_created": process_created(pid), "sweep": sweep,
            "executor": executor, "heartbeat": heartbeat.as_posix(),
        }  # fmt: skip
    finally:
        done.set()
        thread.join(timeout=1.0)
        path.unlink(missing_ok=True)
