"""What became of each time a schedule was due: history, claims, the lock, and what is due now.

Nothing is done twice. Who looks for due times holds a lock; and since some network file systems know no locks, each time is also
claimed by linking a file that is there or not, whole, for every machine at once. A claim stays when its time is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.files import write_json
from workbench.records.status import is_alive, is_here, pid_scope, process_created
from workbench.schedules.schedule import Schedule, grace_of, schedules_folder

OUTCOMES = ("completed", "failed", "skipped-unchanged", "still-running", "missed")

MOST_CAUGHT_UP = 100
"""Missed times that the catch-up policy 'all' makes up for at most; older ones are recorded as missed."""

SILENT_AFTER = 600.0
"""Seconds after which a claim of another machine that nobody touches counts as abandoned."""

_TAIL = 1 << 19
_KEPT_CLAIMS = 200
"""Fewer than the records that `read_history` reads at least: a claim without a record counts as never ended."""


def stamp(moment: datetime) -> str:
    """A moment as part of a file name: 20261121T0130Z."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%MZ")


# -- what is due -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Due:
    """What is to be done about a schedule now.

    Attributes:
        run: times to be run, oldest first.
        missed: times that nobody looked at when they were due and that are not run, oldest first.
    """

    run: tuple[datetime, ...] = ()
    missed: tuple[datetime, ...] = ()


def due(schedule: Schedule, taken: Collection[datetime], now: datetime) -> Due:
    """What is due: a pure function of the schedule, of the times already dealt with, and of now.

    Nothing that was dealt with is due again, also when the clock was turned back; times after `now` that were dealt with, by a
    clock that was ahead, do not hold up those before them.

    Args:
        taken: scheduled times that are claimed or in the history.
        now: the time, aware.
    """
    if schedule.paused:
        return Due()
    since = max([schedule.since, *(moment for moment in taken if moment <= now)])
    times = schedule.timing.between(since, now)
    if schedule.catch_up == "all":
        return Due(tuple(times[-MOST_CAUGHT_UP:]), tuple(times[:-MOST_CAUGHT_UP]))
    chosen = times if schedule.catch_up == "one" else [moment for moment in times if now - moment <= grace_of(schedule)]
    return Due(tuple(chosen[-1:]), tuple(moment for moment in times if moment not in chosen[-1:]))


# -- history -----------------------------------------------------------------------------------------------------------


def history_path(runs: str | Path, name: str) -> Path:
    """The history of a schedule: JSON lines, appended to."""
    return schedules_folder(runs) / f"{name}.history.jsonl"


def append_history(runs: str | Path, name: str, record: dict[str, Any]) -> None:
    """Append one line; `scheduled` names the time it is about, and a later line about the same time adds to it.

    Raises:
        RunError: it cannot be written.
    """
    line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
    try:
        with history_path(runs, name).open("ab+") as handle:
            if handle.seek(0, os.SEEK_END) > 0:  # half a line of a killed process must not swallow this one
                handle.seek(-1, os.SEEK_END)
                line = line if handle.read(1) == b"\n" else "\n" + line
            handle.write(line.encode() + b"\n")
    except OSError as error:
        raise RunError(f"{history_path(runs, name)} cannot be written: {error.strerror or error}") from error


def read_history(runs: str | Path, name: str, *, all_of_it: bool = False) -> list[dict[str, Any]]:
    """What became of each scheduled time, oldest first, as dictionaries; see `append_history`.

    Keys: scheduled, started, ended (ISO 8601, UTC), outcome (one of `OUTCOMES`), why, exit_code, log (relative to the runs
    folder), host, missed (how many missed times it stands for), fingerprint, experiment, notification.

    Args:
        all_of_it: also what lies further back than about a thousand records. Torn lines are left out.
    """
    try:
        with history_path(runs, name).open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(0 if all_of_it else max(0, size - _TAIL))
            lines = handle.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    records: dict[datetime, dict[str, Any]] = {}
    for line in lines:
        try:
            record = json.loads(line)
            moment = _moment(record["scheduled"])
        except (ValueError, KeyError, TypeError):
            continue
        records[moment] = records.get(moment, {}) | record
    return [records[moment] for moment in sorted(records)]


def last_with(records: Sequence[dict[str, Any]], outcomes: Sequence[str], since: datetime) -> dict[str, Any] | None:
    """The latest record of one of these outcomes, not before `since`."""
    fitting = [record for record in records if record.get("outcome") in outcomes and _moment(record["scheduled"]) >= since]
    return fitting[-1] if fitting else None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment.astimezone(UTC)


# -- lock and claims ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(runs: str | Path) -> Iterator[None]:
    """Hold the lock of all schedules: for looking and claiming, never while something runs.

    Raises:
        RunError: the folder cannot be written.
    """
    folder = schedules_folder(runs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a")
    except OSError as error:
        raise RunError(f"schedules need a folder to write to, and {folder} is none: {error.strerror or error}") from error
    with handle:
        with contextlib.suppress(OSError):  # no locks on this file system: claims hold all the same
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Claim:
    """One scheduled time of one schedule, taken by one process."""

    path: Path
    scheduled: datetime
    document: dict[str, Any]

    def noted(self, **facts: Any) -> Claim:
        """Add to the document: what is done, the process that does it (`job_pid`), whoever watches that now (`watcher`)."""
        if facts.get("job_pid"):
            facts["job_created"] = process_created(facts["job_pid"])
        document = self.document | facts
        write_json(self.path, document)
        return Claim(self.path, self.scheduled, document)

    def touch(self) -> None:
        """Say that somebody watches."""
        with contextlib.suppress(OSError):
            self.path.touch()

    @property
    def alive(self) -> bool:
        """Whether the process that watches it or the one that does the work is there; elsewhere, whether somebody touches it."""
        if is_here(self.document):
            return self._lives("") or self._lives("job_")
        probe = self.path.parent / f".{uuid.uuid4().hex[:12]}.probe"  # the file system's clock, not ours
        try:
            probe.touch()
            return probe.stat().st_mtime - self.path.stat().st_mtime < SILENT_AFTER
        except OSError:
            return True
        finally:
            probe.unlink(missing_ok=True)

    @property
    def facts(self) -> dict[str, Any]:
        """What it says of the work, for the history."""
        told = ("started", "missed", "fingerprint", "experiment", "log")
        return {key: value for key, value in self.document.items() if key in told}

    @property
    def orphaned(self) -> bool:
        """Whether the work goes on here, and whoever watched it is gone."""
        return is_here(self.document) and self._lives("job_") and not self._lives("")

    def _lives(self, key: str) -> bool:
        return is_alive(self.document.get(f"{key}pid"), self.document.get(f"{key}created"))


def watcher() -> dict[str, Any]:
    """This process, as a claim names who watches."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid_scope": pid_scope(), "pid": pid, "created": process_created(pid)}


def claim(runs: str | Path, name: str, scheduled: datetime) -> Claim | None:
    """Take a scheduled time; None where somebody else has it.

    Raises:
        RunError: the folder cannot be written.
    """
    folder = _claims(runs, name)
    path = folder / f"{stamp(scheduled)}.json"
    document = {
        "scheduled": scheduled.astimezone(UTC).isoformat(), "at": datetime.now(UTC).isoformat(timespec="seconds"), **watcher(),
    }  # fmt: skip
    temporary = folder / f".{uuid.uuid4().hex[:12]}.claim"
    try:
        write_json(temporary, document)
        try:
            os.link(temporary, path)
        except OSError:  # it is there, or this file system has no links: then this makes it, or finds it there
            with path.open("x", encoding="utf-8") as handle:
                json.dump(document, handle)
    except FileExistsError:
        return None
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Claim(path, scheduled, document)


def read_claims(runs: str | Path, name: str) -> list[Claim]:
    """All claims of a schedule, oldest first. One that cannot be read is there all the same."""
    found = []
    for path in sorted(_claims(runs, name).glob("[0-9]*.json")):
        try:
            scheduled = datetime.strptime(path.stem, "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
        except ValueError:
            continue
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            document = {}
        found.append(Claim(path, scheduled, document if _sound(document) else {}))
    return found


def _sound(document: Any) -> bool:
    """Whether the document of a claim has what `claim` and `noted` write."""
    if not isinstance(document, dict):
        return False
    texts = [document.get(key, "") for key in ("host", "at", "experiment", "log", "method")]
    numbers = [document.get(key) or 0 for key in ("pid", "created", "job_pid", "job_created")]
    return all(isinstance(text, str) for text in texts) and all(isinstance(n, int | float) and n >= 0 for n in numbers)


def prune_claims(claims: Sequence[Claim], working: Collection[Claim]) -> None:
    """Remove claims of old that are not at work any more: what became of them stands in the history, if far back."""
    for old in claims[:-_KEPT_CLAIMS]:
        if old not in working:
            old.path.unlink(missing_ok=True)


def _claims(runs: str | Path, name: str) -> Path:
    return schedules_folder(runs) / ".claims" / name
