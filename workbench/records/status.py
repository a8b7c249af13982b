"""Where a run stands: `status.json` (`RunFolder` writes it), its states, and whether its processes are still there."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Required,  # pydantic asks for these before Python 3.12
)

import psutil
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from workbench.errors import RunError, WorkbenchError
from workbench.files import open_regular, read_json

STATUS_FILE, HEARTBEAT_FILE = "status.json", "heartbeat"

STALE_AFTER = 60.0
"""Seconds without a heartbeat after which a running run counts as interrupted."""

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "queued": ("running", "failed", "cancelled", "interrupted"),
    "running": ("completed", "failed", "cancelled", "interrupted"),
    "completed": (),
    "failed": ("queued", "running"),
    "cancelled": ("queued", "running"),
    "interrupted": ("queued", "running", "failed", "cancelled"),
}
"""State -> states that may follow it. A state may always be written again, to add information; a completed run is immutable."""


_LARGEST = 4 * 2**20
_Pid = Annotated[int, Field(ge=0, lt=2**31)]


def _moment(text: str) -> str:
    """A time with its zone, or nothing: without one it could be read in two ways."""
    if text and datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without a zone")
    return text


_Moment = Annotated[str, AfterValidator(_moment)]


class _Worker(TypedDict, total=False):
    """Who has queued a run and has it started."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    host: str
    pid: _Pid | None
    pid_created: float | None
    pid_scope: str
    heartbeat: str


class _Status(TypedDict, total=False):
    """What is known of `status.json`; anything else stays as it is, so that older code reads newer runs."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    state: Required[str]
    since: _Moment
    created: _Moment
    started: _Moment
    finished: _Moment
    host: str | None
    device: str | None
    error: str | None
    attempts: Annotated[int, Field(ge=0, lt=2**31)]
    pid: _Pid | None
    pid_created: float | None
    pid_scope: str
    pgid: _Pid | None
    kernel_pid: _Pid | None
    kernel_pid_created: float | None
    notes: list[str] | None
    budget: dict[str, Any] | None
    failure: dict[str, Any] | None
    worker: _Worker | None
    slurm: dict[str, Any] | None


def _known_state(status: _Status) -> _Status:
    if status["state"] not in TRANSITIONS:
        raise ValueError(f"'{status['state'][:40]}' is no state of a run")
    return status


_SCHEMA: TypeAdapter[_Status] = TypeAdapter(Annotated[_Status, AfterValidator(_known_state)])


def now() -> str:
    """The time, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_status(folder: Path) -> dict[str, Any]:
    """Read and check `status.json`.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        status = read_json(folder / STATUS_FILE, most=_LARGEST)
    except WorkbenchError as error:
        raise RunError(str(error)) from error
    try:
        return dict(_SCHEMA.validate_python(status))
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the document'}: {e['msg'].lower()}" for e in error.errors()[:5])
        raise RunError(f"{folder / STATUS_FILE} does not hold a run's status: {found}") from error


@functools.cache
def pid_scope() -> str:
    """Within what a process number means one process: this start of the machine, and this PID namespace (container).

    Noted beside every process number that is kept. Empty outside Linux, where the time at which a process was started is one by
    the calendar and says as much.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def is_here(document: dict[str, Any]) -> bool:
    """Whether the process numbers in a document (`host`, `pid_scope`) can be looked up by this process.

    Not on another host, and not of another start or in another PID namespace of a host of this name: a machine that was started
    again looks just like a second container or machine of the same name, whose processes may live. In all these cases only the
    heartbeat tells, so that after a restart a run is free once it has been silent for `STALE_AFTER` seconds. A document of an
    older version, without `pid_scope`, counts as noted here.
    """
    return document.get("host") == socket.gethostname() and document.get("pid_scope", pid_scope()) == pid_scope()


def process_created(pid: int) -> float | None:
    """When a process was started, to tell it from a later one of its number; None where there is none of this number.

    On Linux in seconds since the machine's start, which stays the same when the clock is set; elsewhere since the epoch.
    """
    try:
        return _created(psutil.Process(pid))
    except psutil.Error:
        return None


def _created(process: psutil.Process) -> float:
    created = float(process.create_time())
    # Linux knows ticks since boot; psutil adds the time of boot, which is worked out from the clock as it is set now
    return created - psutil.boot_time() if sys.platform == "linux" else created


def is_alive(pid: int | None, created: float | None) -> bool:
    """Whether the process of this number, started then (see `process_created`), lives on this machine (a zombie does not)."""
    if not pid:
        return False
    try:
        process = psutil.Process(pid)
        same = created is None or abs(_created(process) - created) < 2.0
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def effective_state(folder: Path, status: dict[str, Any], stale_after: float = STALE_AFTER) -> str:
    """The state a reader should believe: 'interrupted' for a running run whose driver died or that has been silent too long."""
    state = str(status["state"])
    if state != "running":
        return state
    if is_here(status) and status.get("pid") and not is_alive(status.get("pid"), status.get("pid_created")):
        return "interrupted"
    return state if _beats(folder / HEARTBEAT_FILE, folder / STATUS_FILE, since=time.time() - stale_after) else "interrupted"


def is_held(folder: Path, status: dict[str, Any], stale_after: float = STALE_AFTER) -> bool:
    """Whether a process other than this one is running the run, or has queued it and is about to have it started.

    Where its number means something (`is_here`) the process itself is asked, whatever the clock says; else only the heartbeat is
    seen, by the clock of the disk that both share.
    """
    if is_mine(status):
        return False
    if status["state"] == "queued":
        worker = status.get("worker") or {}
        if not is_here(worker):
            heartbeat = Path(folder.parents[1], worker.get("heartbeat", ""))
            return bool(worker) and _beats(heartbeat, since=_disk_time(folder) - stale_after)
        return worker.get("pid") != os.getpid() and is_alive(worker.get("pid"), worker.get("pid_created"))
    if status["state"] != "running" or _is_earlier_start(status):
        return False
    if is_here(status) and status.get("pid"):
        return is_alive(status.get("pid"), status.get("pid_created"))
    return _beats(folder / HEARTBEAT_FILE, folder / STATUS_FILE, since=_disk_time(folder) - stale_after)


def slurm_job() -> dict[str, Any] | None:
    """The SLURM job that this process belongs to: its number as `squeue` shows it, and how often SLURM has restarted it.

    None outside SLURM. A task of an array is `<array>_<index>`: its own number alone is not what `scontrol requeue` shows.
    """
    job, array = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_ARRAY_JOB_ID", "")
    if not job:
        return None
    name = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}" if array else job
    return {"job": name, "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0)}


def _is_earlier_start(status: dict[str, Any]) -> bool:
    """Whether the run belonged to an earlier start of this very SLURM job: SLURM restarts a job only when that one is dead."""
    ours, theirs = slurm_job(), status.get("slurm")
    return bool(ours and theirs and ours["job"] == theirs.get("job") and ours["restarts"] > theirs.get("restarts", 0))


def _beats(*files: Path, since: float) -> bool:
    """Whether one of some files was written since then, in seconds since the epoch."""
    for path in files:
        with (
            contextlib.suppress(OSError, ValueError),
            open_regular(path) as handle,
        ):  # opened: a network file system may remember an old time
            if os.fstat(handle.fileno()).st_mtime >= since:
                return True
    return False


def _disk_time(folder: Path) -> float:
    """The time by the clock that stamps the files in a folder, which for a shared disk is neither ours nor the other host's."""
    probe = folder / f".{uuid.uuid4().hex[:12]}.probe"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def is_mine(status: dict[str, Any]) -> bool:
    """Whether this very process is the run's driver."""
    return is_here(status) and status.get("pid") == os.getpid()
