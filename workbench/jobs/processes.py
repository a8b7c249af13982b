"""Runs as processes: started as the command line in a session of their own, watched, and cancelled with all their children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.text import Text

from workbench.errors import RunError
from workbench.jobs.slurm import cancel_job, jobs_in_queue, slurm_job_of
from workbench.records.run_folder import RunFolder
from workbench.records.status import is_alive, is_here, process_created

RUN_VARIABLE = "WORKBENCH_RUN_FOLDER"
"""Environment variable that names the run folder: in the kernel and in every process that descends from it."""
QUEUED_VARIABLE = "WORKBENCH_QUEUED"
"""Environment variable, set by who queued a run: `workbench run` then leaves a run alone that was cancelled meanwhile."""

LINES = 20
"""Last lines of traceback and log that are kept in `status.json`; all of them are in `notebook.ipynb` and `run.log`."""
OUT_OF_MEMORY = "probably out of memory; a smaller batch_size or patch, or fewer workers, takes less"

_ENDED = ("completed", "failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class StartedRun:
    """A run's process just after its start."""

    pid: int
    pgid: int
    created: float | None
    log: Path

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # where it is our child: take its exit status, so that no zombie stays
        return is_alive(self.pid, self.created)


def run_command(method: str, cohort: str | Path, parameters: Mapping[str, Any], runs: str | Path) -> list[str]:
    """The command line that makes this run, as a list of arguments."""
    command = [sys.executable, "-m", "workbench.cli", "run", method, "--cohort", str(cohort), "--runs", str(runs)]
    for name, value in parameters.items():
        command += ["-p", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return command


def start(
    command: list[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    keep: tuple[int, ...] = (),
    folder: Path | None = None,
) -> StartedRun:
    """Start a command in its own session, its output appended to `log`; it inherits the open files `keep`.

    Args:
        folder: working folder; default: that of this process.

    Raises:
        RunError: it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=keep,
                cwd=folder,
                env={**os.environ, **(environment or {})},
            )
    except OSError as error:
        raise RunError(f"{command[0]} cannot be started: {error}") from error
    process.returncode = 0  # it is meant to outlive us: no warning when the handle goes
    return StartedRun(process.pid, process.pid, process_created(process.pid), log)


def alive(run: RunFolder) -> bool:
    """Whether the driver or the kernel of a run lives; for a run that is not here (`is_here`), whether its heartbeat is fresh."""
    status = run.status
    if not is_here(status):
        return run.effective_state() == "running"
    return any(is_alive(status.get(key), status.get(f"{key}_created")) for key in ("pid", "kernel_pid"))


def processes_of(run: RunFolder, *, driver: bool = True) -> list[psutil.Process]:
    """The processes of a run on this machine: driver, kernel, all their descendants, and whatever carries the run's name in its
    environment, such as a data loading process whose parent was killed. Never this process itself.

    Args:
        run: the run.
        driver: False leaves the driver out.
    """
    status = run.status
    found: dict[int, psutil.Process] = {}
    if is_here(status):
        for key in ("kernel_pid", "pid"):
            pid = status.get(key)
            if is_alive(pid, status.get(f"{key}_created")) and (driver or key != "pid"):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    found |= {child.pid: child for child in [process, *process.children(recursive=True)]}
    name = str(run.folder.resolve())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_VARIABLE) == name:
                found[process.pid] = process
    for own in (os.getpid(), *(parent.pid for parent in psutil.Process().parents()), *([] if driver else [status.get("pid")])):
        found.pop(own, None)
    return list(found.values())


def kill_processes(run: RunFolder, *, driver: bool = True, patience: float = 2.0) -> None:
    """End all processes of a run by SIGKILL, in whatever group or session they are, and wait until they are gone.

    Args:
        run: the run.
        driver: False spares the driver.
        patience: seconds to wait; a process may also be started while others are being ended.
    """
    deadline = time.monotonic() + patience
    while left := [process for process in processes_of(run, driver=driver) if _running(process)]:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.05)  # not psutil's wait: it would take the exit status away from whoever started the process
        if time.monotonic() > deadline:
            return


def _running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def cancel(run: RunFolder, *, grace: float = 8.0, kill_after: float = 0.5) -> str:
    """Cancel a run: ask it to stop and save, then end all its processes; it takes at most ten seconds.

    The request lets the kernel save a checkpoint at its next step; its driver ends it after some seconds. What still lives after
    `grace` seconds gets SIGTERM, and `kill_after` seconds later SIGKILL. Elsewhere (`is_here`) only the request is made. A queued
    run is cancelled at once; so is one that was interrupted and would be resumed by SLURM, whose job leaves the queue.

    Returns:
        The state afterwards; 'running' where the run is elsewhere and has not answered yet.

    Raises:
        RunError: the run is already at an end.
    """
    job = slurm_job_of(run.status)
    if run.cancel_queued():
        _leave_slurm(job)
        return run.state
    state = run.effective_state()
    if state == "interrupted" and not alive(run) and _waits_in_slurm(job):
        run.set_status("cancelled")
        _leave_slurm(job)
        return run.state
    orphaned = state == "interrupted" and alive(run)  # the kernel outlived its driver
    if state != "running" and not orphaned:
        raise RunError(f"{run.folder} is {state}: there is nothing to cancel")
    run.request_cancel()
    _wait(lambda: run.state in _ENDED and not alive(run), grace)
    if not is_here(run.status):
        return run.state
    if alive(run):
        _signal_groups(run.status, signal.SIGTERM)
        _wait(lambda: not alive(run), kill_after)
    kill_processes(run)
    if run.state not in _ENDED:  # the driver was killed before it could say so: nobody else writes now
        run.set_status("cancelled", error="cancelled: the process did not stop in time and was ended")
    return run.state


def _waits_in_slurm(job: str) -> bool:
    try:
        return bool(job and jobs_in_queue({job}))
    except RunError:  # not to be asked from here: it may
        return True


def _leave_slurm(job: str) -> None:
    if job:
        with contextlib.suppress(RunError):  # not to be asked from here: the job will find its run cancelled, and end
            cancel_job(job)


def _signal_groups(status: Mapping[str, Any], number: signal.Signals) -> None:
    """Send a signal to the process groups of kernel and driver; never to our own, never to a stranger with a reused number."""
    for key in ("kernel_pid", "pid"):
        pid = status.get(key)
        if pid and pid != os.getpid() and is_alive(pid, status.get(f"{key}_created")):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                group = os.getpgid(pid)
                if group == os.getpgrp():
                    os.kill(pid, number)
                else:
                    os.killpg(group, number)


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)


def how_it_ended(exit_code: int) -> str:
    """'was killed by SIGKILL: ...' or 'ended with exit code 3'.

    Args:
        exit_code: as `subprocess.Popen.returncode`: negative for a signal.
    """
    if exit_code >= 0:
        return f"ended by itself with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    why = {
        "SIGKILL": f": {OUT_OF_MEMORY}; or somebody killed it",
        "SIGTERM": ": somebody, or the machine's shutdown, ended it",
        "SIGSEGV": ": a fault in a compiled library",
        "SIGBUS": ": probably /dev/shm or the disk of a mapped file is full; workers=0 needs no shared memory",
        "SIGABRT": ": a compiled library gave up; the log says more",
    }
    return f"was killed by {name}{why.get(name, '')}"


def last_lines(path: Path, lines: int = LINES) -> list[str]:
    """The last lines of a text file, without colours and empty lines; none where it cannot be read."""
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - 16_384))
            text = handle.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line[:300] for line in Text.from_ansi(text.replace("\r", "\n")).plain.splitlines() if line.strip()][-lines:]
