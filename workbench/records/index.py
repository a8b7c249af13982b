"""All runs under one folder, as rows. Derived and disposable: always read from the run folders themselves.

A folder that cannot be read becomes a row that says why; it never hides the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.records.contents import check_contents
from workbench.records.pretrained import PRETRAINED_FILE, PretrainedRecord, read_pretrained_record
from workbench.records.spec import SPEC_FILE, read_spec, run_name
from workbench.records.status import HEARTBEAT_FILE, STALE_AFTER, STATUS_FILE, effective_state, read_status
from workbench.text import visible

UNREADABLE = "unreadable"
_LOOKED_AT = ("", SPEC_FILE, STATUS_FILE, PRETRAINED_FILE, HEARTBEAT_FILE)


@dataclass(frozen=True)
class RunRow:
    """One run as a list shows it."""

    run: str
    """Path relative to the runs folder, `<experiment>/<run id>`: what names the run in links and on the command line."""
    experiment: str
    state: str
    """A state of the run folder, or 'unreadable'."""
    reason: str = ""
    """Why it is unreadable, failed or interrupted; empty otherwise."""
    method: str = ""
    cohort: str = ""
    phantom: bool = False
    fingerprint: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    started: str = ""
    finished: str = ""
    host: str = ""
    device: str = ""
    budget: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    """What people call it: the title of imported predictions, else the method; pooled folds say so."""
    derived: dict[str, Any] = field(default_factory=dict)
    """What it was made from, where it was not trained: kind ('pooled', 'imported', 'extended'), parents ..."""
    notes: tuple[str, ...] = ()
    """What belongs beside its results: what was left out, what was only declared."""
    pretrained: PretrainedRecord = field(default_factory=PretrainedRecord)
    """The weights it started from, and whether its test is clean of them."""

    @property
    def readable(self) -> bool:
        """Whether the run folder could be read."""
        return self.state != UNREADABLE

    @property
    def seconds(self) -> float | None:
        """Seconds from start to end, or until now for a run in progress; None where it has not started."""
        try:
            started = datetime.fromisoformat(self.started)
            ended = datetime.now(UTC) if self.state == "running" else datetime.fromisoformat(self.finished)
            return max(0.0, (ended - started).total_seconds())
        except (ValueError, TypeError, OverflowError):  # none yet; or of a row that was not read from a status
            return None

    @property
    def title(self) -> str:
        """Short name for legends: method (or title) and run id."""
        return f"{self.name or self.method or '?'} · {Path(self.run).name[:6]}"


KnownRows = dict[str, tuple[Any, RunRow]]
"""Run -> what its files looked like when they were read last, and the row."""


def list_runs(runs: str | Path, stale_after: float = STALE_AFTER, known: KnownRows | None = None) -> list[RunRow]:
    """Every run folder under `runs`, newest first; unreadable ones last.

    Args:
        runs: folder of experiments, each holding run folders; it need not exist.
        stale_after: seconds of silence after which a running run counts as interrupted.
        known: rows of an earlier list, brought up to date here: a run that has ended is read again only where its files changed.
    """
    root = Path(runs)
    if known is None:
        return _in_order([read_row(root, relative, stale_after) for relative in _run_folders(root)])
    before = dict(known)
    known.clear()
    rows = []
    for relative in _run_folders(root):
        stamp = tuple(_stamp(root / relative / name) for name in _LOOKED_AT)
        row = before[relative][1] if before.get(relative, (None,))[0] == stamp else read_row(root, relative, stale_after)
        rows.append(row)
        if row.state not in ("running", "queued", UNREADABLE):  # the clock changes these; what makes one unreadable may lie deep
            known[relative] = (stamp, row)
    return _in_order(rows)


def _in_order(rows: list[RunRow]) -> list[RunRow]:
    """Newest first, unreadable ones last."""
    rows.sort(key=lambda row: row.run)
    rows.sort(key=lambda row: row.started or row.created, reverse=True)
    rows.sort(key=lambda row: not row.readable)
    return rows


def read_row(root: Path, relative: str, stale_after: float = STALE_AFTER) -> RunRow:
    """The row of one run folder, whatever state the folder is in."""
    shown = visible(relative)
    experiment = shown.split("/")[0]
    if shown != relative or "\n" in relative or "\t" in relative:
        return RunRow(shown, experiment, UNREADABLE, "the folder's name holds what cannot be seen or written: rename it")
    folder = root / relative
    try:
        spec = read_spec(folder)
        status = read_status(folder)
        check_contents(folder)
        state = effective_state(folder, status, stale_after)
    except (RunError, OSError) as error:
        return RunRow(relative, experiment, UNREADABLE, visible(str(error)))
    reason = visible(str(status.get("error") or ""))
    if state == "interrupted" and not reason:
        reason = "its process is gone or silent; run it again to resume"
    budget = status.get("budget")
    return RunRow(
        relative,
        experiment,
        state,
        reason,
        method=spec["method"],
        name=run_name(spec),
        derived=spec.get("derived") or {},
        cohort=visible(spec["cohort"]["name"]),
        phantom=spec["cohort"]["phantom"],
        fingerprint=spec["cohort"]["fingerprint"],
        parameters=spec["parameters"],
        created=status.get("created", ""),
        started=status.get("started", ""),
        finished=status.get("finished", ""),
        host=visible(status.get("host") or ""),
        device=visible(status.get("device") or ""),
        budget=budget or {},
        notes=tuple(map(visible, status.get("notes") or ())),
        pretrained=read_pretrained_record(folder),
    )


def _run_folders(root: Path) -> Iterator[str]:
    for experiment in _folders(root):
        if (root / experiment / SPEC_FILE).exists():  # a run folder copied here without its experiment
            yield experiment
            continue
        try:
            os.scandir(root / experiment).close()
        except OSError:
            yield experiment  # read_row finds out and says why
            continue
        for name in _folders(root / experiment):
            yield f"{experiment}/{name}"


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.lstat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino


def _folders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder (dangling links included, since they hide a run)."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not e.name.startswith(".") and (e.is_dir() or _dangling(e)))
    except OSError:
        return []


def _dangling(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()
