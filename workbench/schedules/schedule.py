"""Schedules: what is to be done when, one small JSON document each, under `runs/.schedules/<name>.json`.

Paths in a document are relative to the runs folder, so that it can be moved or reached under another name from another machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from workbench.errors import ParameterError, RunError, WorkbenchError
from workbench.files import read_json, write_json
from workbench.schedules.timing import Timing, parse_interval

SCHEMA_VERSION = 1
FOLDER = ".schedules"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Notification(BaseModel):
    """Whom to tell when a scheduled run has ended; nobody by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str = Field("", description="command line that gets the record as JSON on standard input")
    webhook: str = Field("", description="address that gets the record as JSON by POST")
    when: Literal["failure", "always"] = "failure"


class Schedule(BaseModel):
    """One schedule. Either `sweep` or `method`, either `cron` or `every`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    name: str
    sweep: str = Field("", description="sweep file, relative to the runs folder")
    method: str = Field("", description="method of a single run")
    cohort: str = Field("", description="cohort of a single run, relative to the runs folder")
    parameters: dict[str, str] = Field(default_factory=dict, description="parameters of a single run, as text")
    arguments: tuple[str, ...] = Field((), description="further arguments of `workbench sweep` or `workbench run`")
    folder: str = Field("..", description="working folder, relative to the runs folder: paths in the parameters start there")
    cron: str = ""
    every: str = ""
    zone: str = Field(description="IANA name of the time zone whose clock `cron` means")
    catch_up: Literal["skip", "one", "all"] = Field("one", description="what becomes of missed times")
    grace: str = Field("10m", description="how late a time may be before it counts as missed")
    skip_unchanged: bool = Field(
        True, description="skip where cohort, code, parameters and notebooks are those of the last success"
    )
    timeout: float = Field(0.0, ge=0, description="minutes after which it is stopped; 0: none")
    paused: bool = False
    created: AwareDatetime
    since: AwareDatetime = Field(description="nothing before this moment is due: when it was made or resumed")
    notify: Notification = Notification()

    @property
    def timing(self) -> Timing:
        """When it is due."""
        return Timing(self.cron, self.every, self.zone, self.created.replace(second=0, microsecond=0))

    @property
    def what(self) -> str:
        """What it does, in words."""
        if self.sweep:
            return f"sweep {self.sweep}"
        return " ".join(["run", self.method, *(f"{name}={value}" for name, value in self.parameters.items())])

    @property
    def when(self) -> str:
        """When it does it, in words."""
        return f"{self.cron} ({self.zone})" if self.cron else f"every {self.every}"


@dataclass(frozen=True)
class ScheduleRow:
    """A document as a list shows it: the schedule, or why it cannot be read."""

    name: str
    schedule: Schedule | None
    problem: str = ""


def check_name(name: str) -> None:
    """Check the name of a schedule, which becomes part of file names and of an experiment's name.

    Raises:
        ParameterError: it cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise ParameterError(
            f"schedule name {name!r}: letters, digits, '.', '_' and '-' only, beginning with a letter or digit, at most 64"
        )


def check_new(runs: str | Path, name: str, *, replace: bool = False) -> None:
    """Check that a name is free, also on file systems that do not tell capital letters.

    Raises:
        ParameterError: it is not, or cannot be a name.
    """
    check_name(name)
    taken = [path.stem for path in schedules_folder(runs).glob("[!.]*.json") if path.stem.lower() == name.lower()]
    if taken and not (replace and taken == [name]):
        way = "give another name" if taken != [name] else "give another name, or --replace it"
        raise ParameterError(f"there is a schedule '{taken[0]}' already: {way}")


def check_schedule(schedule: Schedule) -> None:
    """Check what the types of a schedule's fields do not say.

    Raises:
        ParameterError: the message names the field.
    """
    check_name(schedule.name)
    if bool(schedule.sweep) == bool(schedule.method):
        raise ParameterError(f"schedule {schedule.name}: give a sweep file or a method to run, one of the two")
    if schedule.sweep and (schedule.cohort or set(schedule.parameters) - {"experiment"}):
        raise ParameterError(f"schedule {schedule.name}: a sweep file names its own cohort and parameters")
    _ = schedule.timing
    parse_interval(schedule.grace)
    if schedule.notify.webhook and not re.match(r"https?://[^/\s]+", schedule.notify.webhook):
        raise ParameterError(f"schedule {schedule.name}: the webhook '{schedule.notify.webhook}' is no http or https address")


def schedules_folder(runs: str | Path) -> Path:
    """Where the schedules of a runs folder lie."""
    return Path(runs) / FOLDER


def path_of(runs: str | Path, name: str) -> Path:
    """The document of a schedule."""
    return schedules_folder(runs) / f"{name}.json"


def read_schedule(runs: str | Path, name: str) -> Schedule:
    """Read one schedule.

    Raises:
        ParameterError: there is none of this name; the message lists those there are.
        RunError: its document is damaged; the message names it and says what is wrong.
    """
    check_name(name)
    path = path_of(runs, name)
    if not path.exists():
        there = ", ".join(row.name for row in list_schedules(runs)) or "none"
        raise ParameterError(f"there is no schedule '{name}' under {runs}; there are: {there}")
    try:
        document = read_json(path)
        version = document.get("schema_version", SCHEMA_VERSION) if isinstance(document, dict) else SCHEMA_VERSION
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise RunError(f"{path} is of schema {version}, newer than this workbench reads ({SCHEMA_VERSION})")
        schedule = Schedule.model_validate(document)
        if schedule.name != name:
            raise RunError(f"{path} holds the schedule '{schedule.name}': the file and the name in it must be the same")
        check_schedule(schedule)
        return schedule
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors())
        raise RunError(f"{path} does not describe a schedule: {reason}; mend the file, or remove it and add it again") from error
    except ParameterError as error:
        raise RunError(f"{path} does not describe a schedule: {error}") from error
    except RunError:
        raise
    except WorkbenchError as error:
        raise RunError(f"{error}; mend the file, or remove it and add it again") from error


def list_schedules(runs: str | Path) -> list[ScheduleRow]:
    """All schedules by name; a damaged one is a row that says why, and hides nothing."""
    rows = []
    for path in sorted(schedules_folder(runs).glob("[!.]*.json")):  # a dot: a document being written
        try:
            rows.append(ScheduleRow(path.stem, read_schedule(runs, path.stem)))
        except WorkbenchError as error:
            rows.append(ScheduleRow(path.stem, None, str(error)))
    return rows


def write_schedule(runs: str | Path, schedule: Schedule, *, replace: bool = False) -> Path:
    """Write a schedule's document.

    Raises:
        ParameterError: it is no good, or there is one of this name already.
        RunError: the folder cannot be written.
    """
    check_schedule(schedule)
    check_new(runs, schedule.name, replace=replace)
    path = path_of(runs, schedule.name)
    document: dict[str, Any] = schedule.model_dump(mode="json")
    try:
        write_json(path, document)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def pause(runs: str | Path, name: str) -> Schedule:
    """Stop a schedule from being due; what is running goes on."""
    return _change(runs, read_schedule(runs, name), paused=True)


def resume(runs: str | Path, name: str, now: datetime | None = None) -> Schedule:
    """Let a paused schedule be due again; the times of the pause are not caught up on."""
    schedule = read_schedule(runs, name)
    if not schedule.paused:
        return schedule
    return _change(runs, schedule, paused=False, since=(now or datetime.now(UTC)).astimezone(UTC))


def _change(runs: str | Path, schedule: Schedule, **values: Any) -> Schedule:
    changed = schedule.model_copy(update=values)
    write_schedule(runs, changed, replace=True)
    return changed


def remove(runs: str | Path, name: str) -> None:
    """Remove a schedule, damaged or not; its history stays.

    Raises:
        ParameterError: there is none of this name.
        RunError: it cannot be removed.
    """
    check_name(name)
    if not path_of(runs, name).exists():
        read_schedule(runs, name)  # says what there is
    try:
        path_of(runs, name).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path_of(runs, name)} cannot be removed: {error.strerror or error}") from error


def grace_of(schedule: Schedule) -> timedelta:
    """How late a time may be before it counts as missed."""
    return parse_interval(schedule.grace)
