"""Runs as processes: started as the command line in a session of their own, watched, and cancelled with all their children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.records.run_folder import RunFolder
from workbench.records.status import is_alive, now, process_created

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


def start_run(
    method: str,
    *,
    cohort: str | Path,
    parameters: Mapping[str, Any] | None = None,
    runs: str | Path,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> StartedRun:
    """Start `workbench run` as a process in its own session, so that it outlives whoever started it.

    Args:
        log: file that takes what it prints; default `<runs>/.logs/<time>-<method>.log` (what happens before there is a run
            folder has to be somewhere; the run folder itself holds `run.log`).
        environment: further environment variables.
    """
    if log is None:
        log = Path(runs) / ".logs" / f"{now().replace(':', '')}-{method}-{os.getpid()}.log"
    return start(run_command(method, cohort, parameters or {}, runs), log, environment)


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
    """Whether the driver or the kernel of a run lives here; for a run of another host, whether its heartbeat is fresh."""
    status = run.status
    if status.get("host") != socket.gethostname():
        return run.effective_state() == "running"
    return any(is_alive(status.get(key), status.get(f"{key}_created")) for key in ("pid", "kernel_pid"))


def cancel(run: RunFolder, *, grace: float = 30.0, kill_after: float = 5.0) -> str:
    """Cancel a run: ask it to stop and save, then end its process groups.

    The cancel file lets the kernel save a checkpoint at its next step. What still lives after `grace` seconds gets SIGTERM,
    and `kill_after` seconds later SIGKILL. On another host only the request can be made.

    Returns:
        The state afterwards; 'running' where the run is on another host and has not answered yet.

    Raises:
        RunError: the run is already at an end.
    """
    state = run.effective_state()
    orphaned = state == "interrupted" and alive(run)  # the kernel outlived its driver
    if state not in ("queued", "running") and not orphaned:
        raise RunError(f"{run.folder} is {state}: there is nothing to cancel")
    run.request_cancel()
    if state == "queued" and not run.status.get("pid"):
        run.set_status("cancelled")
        return run.state
    _wait(lambda: run.state in _ENDED and not alive(run), grace)
    if run.status.get("host") != socket.gethostname():
        return run.state
    for number, patience in ((signal.SIGTERM, kill_after), (signal.SIGKILL, kill_after)):
        if not alive(run):
            break
        _signal_groups(run.status, number)
        _wait(lambda: not alive(run), patience)
    if run.state not in _ENDED:  # the driver was killed before it could say so: nobody else writes now
        run.set_status("cancelled", error="cancelled: the process did not stop in time and was ended")
    return run.state


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
