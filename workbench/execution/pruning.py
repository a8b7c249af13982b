"""Removing runs, or parts of them, by policy: first a plan that people read, then its execution, never without being asked.

What is in use stays: queued and running runs, runs whose processes still live, the parents of derived runs, masks that other
runs measure, whatever is no run folder, and everything behind a symbolic link. Beside whole runs goes what a killed
`workbench verify` left, and old logs of schedules. A run is renamed to a hidden name before its files go, so that a half-removed
one is never listed; what a killed removal left behind is taken up by the next one. Each removal leaves a line in `.pruned.jsonl`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from workbench.errors import ParameterError, RunError
from workbench.files import value_digest
from workbench.jobs.processes import alive
from workbench.records.index import RunRow, list_runs
from workbench.records.provenance import forget
from workbench.records.run_folder import RunFolder
from workbench.records.status import now
from workbench.schedules.schedule import FOLDER as SCHEDULES
from workbench.schedules.unwatched import known_history

LOG_NAME = ".pruned.jsonl"
TRASH = ".pruned-"
"""How the name of a run folder begins while its files are being removed."""
VERIFY = ".verify-"
"""How the name of a folder begins in which `workbench verify` makes a run again; it goes with the command, unless that is killed.
"""
UNTOUCHED = timedelta(hours=1)
"""A folder of `workbench verify` is in use for as long after anything in it was written: a run in it has a heartbeat."""
What = Literal["all", "checkpoints", "predictions", "maps"]
ENDED = ("completed", "failed", "cancelled", "interrupted")
UNFINISHED = ("failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Policy:
    """Which runs, and what of them. Conditions add up: a run has to meet all that are given.

    Raises:
        ParameterError: it says nothing, or something that does not exist.
    """

    states: tuple[str, ...] = ()
    """Among `ENDED`; none named: the unfinished ones for whole runs, the completed ones for parts and with `keep_last`."""
    older_than: timedelta | None = None
    """Ended at least this long ago."""
    keep_last: int | None = None
    """All but the newest so many of those runs of one method that have the same cohort and parameters, seed and fold included,
    in whatever experiment."""
    what: What = "all"
    """checkpoints: of a completed run only what resuming or extending needs, its best weights stay; else all of them."""
    experiment: str = ""
    parents: bool = False
    """Also runs from which others are derived, or whose masks others measure."""

    def __post_init__(self) -> None:
        if not (self.states or self.older_than or self.keep_last is not None):
            raise ParameterError(
                "which runs? Give at least one of --state, --older-than and --keep-last, e.g. `workbench runs prune --state "
                "failed`"
            )
        if wrong := [state for state in self.states if state not in ENDED]:
            raise ParameterError(f"--state {wrong[0]}: no run of that state is removed; there are {', '.join(ENDED)}")
        if self.what not in get_args(What):
            raise ParameterError(f"--what {self.what}: there are {', '.join(get_args(What))}")
        if self.keep_last is not None and self.keep_last < 0:
            raise ParameterError(f"--keep-last {self.keep_last}: must be 0 or more")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The states, with the default filled in."""
        if self.states:
            return self.states
        return UNFINISHED if self.what == "all" and self.keep_last is None else ("completed",)


@dataclass(frozen=True)
class Removal:
    """One entry of the plan."""

    run: str
    """Path relative to the runs folder."""
    state: str
    title: str
    paths: tuple[Path, ...]
    bytes: int
    ended: str


@dataclass(frozen=True)
class Litter:
    """What is no run and nobody needs any more."""

    name: str
    """Path relative to the runs folder."""
    title: str
    paths: tuple[Path, ...]
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What would go, and what matches but stays."""

    runs: Path
    what: What
    removals: tuple[Removal, ...]
    kept: tuple[tuple[str, str], ...]
    """(run, why it stays) of those that the policy would take."""
    leftovers: tuple[Path, ...]
    """What an earlier removal that was killed left behind."""
    litter: tuple[Litter, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes that would be free."""
        known = [removal.bytes for removal in self.removals] + [one.bytes for one in self.litter]
        return sum(known) + sum(size_of(path) for path in self.leftovers)

    @property
    def empty(self) -> bool:
        """Whether nothing would go."""
        return not (self.removals or self.leftovers or self.litter)


def plan_pruning(runs: str | Path, policy: Policy, moment: datetime | None = None) -> Plan:
    """What a policy would remove; nothing is changed.

    Args:
        runs: the runs folder.
        policy: see `Policy`.
        moment: the time that ages are counted from; default: now.
    """
    root, moment = Path(runs), moment or datetime.now(UTC)
    rows = [row for row in list_runs(root) if row.readable]  # newest first
    parents = {f"{row.experiment}/{name}": row.title for row in rows for name in row.derived.get("parents", ())}
    masks = {str(run): row.title for row in rows if (run := row.parameters.get("mask_run"))}  # whose predictions another measures
    removals, kept = [], []
    seen: dict[str, int] = {}
    for row in rows:
        if (policy.experiment and row.experiment != policy.experiment) or row.state not in policy.chosen:
            continue
        if policy.older_than and (_ended(row) is None or moment - (_ended(row) or moment) < policy.older_than):
            continue
        if policy.keep_last is not None:
            group = value_digest([row.name, row.cohort, row.fingerprint, row.parameters])
            seen[group] = seen.get(group, 0) + 1
            if seen[group] <= policy.keep_last:
                continue
        reason = _why_kept(root, row)
        if not reason and not policy.parents and policy.what in ("all", "checkpoints") and row.run in parents:
            reason = f"{parents[row.run]} is derived from it (--parents takes it too)"
        if not reason and not policy.parents and policy.what in ("all", "predictions") and row.run in masks:
            reason = f"{masks[row.run]} measures its masks (--parents takes it too)"
        if reason:
            kept.append((row.run, reason))
        elif paths := tuple(_paths(root / row.run, row.state, policy.what)):
            removals.append(
                Removal(
                    row.run, row.state, row.title, paths, sum(map(size_of, paths)), row.finished or row.started or row.created
                )
            )
    whole = policy.what == "all" and not policy.experiment
    litter = tuple(_litter(root, policy.older_than, moment)) if whole else ()
    return Plan(root, policy.what, tuple(removals), tuple(kept), tuple(_leftovers(root)), litter)


def prune(plan: Plan, why: str) -> tuple[int, list[tuple[str, str]]]:
    """Carry out a plan. Each run is looked at once more, under its lock: one that was taken up meanwhile stays.

    Args:
        plan: of `plan_pruning`.
        why: the policy in words, for the log.

    Returns:
        (bytes removed, [(run, why it stayed)]).
    """
    freed, stayed = sum(size_of(path) for path in plan.leftovers), []
    for path in plan.leftovers:
        with contextlib.suppress(OSError):
            _delete(path)
    for one in plan.litter:
        try:
            for path in one.paths:
                _delete(path)
            _note(plan, {"path": one.name, "what": one.title, "files": len(one.paths), "bytes": one.bytes, "why": why})
            freed += one.bytes
        except OSError as error:
            stayed.append((one.name, str(error)))
    for removal in plan.removals:
        try:
            _remove(plan, removal, why)
            freed += removal.bytes
        except (RunError, OSError) as error:
            stayed.append((removal.run, str(error)))
    return freed, stayed


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count as nothing."""
    if path.is_symlink():
        return 0
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(size_of(Path(entry.path)) for entry in os.scandir(path))


def _remove(plan: Plan, removal: Removal, why: str) -> None:
    folder = plan.runs / removal.run
    run = RunFolder.open(folder)
    with run.locked():
        if run.effective_state() != removal.state or _lives(run):
            raise RunError(f"is {run.effective_state()} now")
        line = {"run": removal.run, "what": plan.what, "state": removal.state, "bytes": removal.bytes,
                "method": run.spec["method"], "parameters": run.spec["parameters"], "why": why}  # fmt: skip
        trash = [path.with_name(f"{TRASH}{path.name}-{uuid.uuid4().hex[:8]}") for path in removal.paths]
        for path, hidden in zip(removal.paths, trash, strict=True):
            path.rename(hidden)
    if run.folder not in removal.paths:
        forget(run.folder, *removal.paths, reason="runs prune")  # its other files stay on record
    _note(plan, line)
    for hidden in trash:
        _delete(hidden)


def _note(plan: Plan, line: dict[str, Any]) -> None:
    with (plan.runs / LOG_NAME).open("a", encoding="utf-8") as log:
        log.write(json.dumps({"time": now(), **line}, ensure_ascii=False) + "\n")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _why_kept(root: Path, row: RunRow) -> str:
    folder = root / row.run
    if any(path.is_symlink() for path in (folder, *list(folder.parents)[: row.run.count("/")])):
        return "it is a symbolic link"
    return "its processes still live" if _lives(RunFolder.open(folder)) else ""


def _lives(run: RunFolder) -> bool:
    """Whether processes may still write: a run that has said how it ended has none, though JupyterLab may still be open on it."""
    return run.state == "running" and alive(run)


def _paths(folder: Path, state: str, what: What) -> Iterator[Path]:
    """What goes of one run."""
    if what == "all":
        yield folder
    elif what == "checkpoints" and state == "completed":
        yield from sorted((folder / what).glob("last.*"))
    elif (folder / what).is_dir() and not (folder / what).is_symlink():
        yield folder / what


def _leftovers(root: Path) -> list[Path]:
    found = [path for pattern in ("*", "*/*", "*/*/checkpoints") for path in sorted(root.glob(f"{pattern}/{TRASH}*"))]
    return [path for path in found if not any(part.is_symlink() for part in (path, *path.parents) if part.is_relative_to(root))]


def _litter(root: Path, older_than: timedelta | None, moment: datetime) -> Iterator[Litter]:
    before = (moment - max(older_than or UNTOUCHED, UNTOUCHED)).timestamp()
    for folder in sorted(root.glob(f"{VERIFY}*")):
        if not folder.is_symlink() and _written(folder) < before:
            yield Litter(folder.name, "rerun of a `workbench verify` that was killed", (folder,), size_of(folder))
    if older_than is None:  # a log is not worth less because a run has failed: only its age counts
        return
    working = [claim for name in (root / SCHEDULES / ".claims").glob("*") for claim in known_history(root, name.name)[1]]
    written = {Path(claim.facts.get("log", "")).name for claim in working}
    logs = [path for path in sorted((root / SCHEDULES / ".logs").glob("*.log")) if path.lstat().st_mtime < before]
    logs = [path for path in logs if path.name not in written and not (working and path.name.startswith("tick-"))]
    if logs:
        title = f"{len(logs)} log{'s' * (len(logs) != 1)} of schedules"
        yield Litter(f"{SCHEDULES}/.logs", title, tuple(logs), sum(map(size_of, logs)))


def _written(folder: Path) -> float:
    """When anything in a folder was last written; infinite where a file vanishes meanwhile: it is in use."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return math.inf


def _ended(row: RunRow) -> datetime | None:
    for moment in (row.finished, row.started, row.created):
        try:
            found = datetime.fromisoformat(moment)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _long(age: timedelta) -> str:
    hours = age / timedelta(hours=1)
    return f"{60 * hours:g} min" if hours < 2 else f"{hours:g} h" if hours < 48 else f"{hours / 24:g} days"


def describe(policy: Policy) -> str:
    """The policy in words."""
    parts: Sequence[Any] = [
        "/".join(policy.chosen),
        f"older than {_long(policy.older_than)}" if policy.older_than else "",
        f"all but the newest {policy.keep_last} of the same method, cohort and parameters"
        if policy.keep_last is not None
        else "",
        f"experiment {policy.experiment}" if policy.experiment else "",
    ]
    return ", ".join(part for part in parts if part)
