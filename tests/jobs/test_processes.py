"""Starting and cancelling: real processes, with children in a group of their own, that do not want to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.files import write_json
from workbench.jobs.processes import StartedRun, _signal_groups, alive, cancel, run_command, start
from workbench.records.run_folder import RunFolder
from workbench.records.status import is_alive, process_created

DRIVER = """
import signal, subprocess, sys, time
from workbench.records.run_folder import RunFolder
run = RunFolder.open(sys.argv[1])
stubborn = sys.argv[2] == "stubborn"
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
run.claim(device="cpu")
kernel = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
run.set_status("running", kernel_pid=kernel.pid)
print("ready", flush=True)
while stubborn or not run.should_stop():
    time.sleep(0.05)
kernel.kill()
kernel.wait()
run.set_status("cancelled")
"""


def launch(run: RunFolder, kind: str) -> StartedRun:
    started = start([sys.executable, "-c", DRIVER, str(run.folder), kind], run.path("run.log"))
    deadline = time.monotonic() + 30
    while "kernel_pid" not in run.status:
        assert time.monotonic() < deadline, run.path("run.log").read_text()
        time.sleep(0.05)
    return started


def test_a_listening_run_stops_by_itself(run: RunFolder) -> None:
    started = launch(run, "listening")
    assert started.alive
    assert alive(run)
    assert run.status["pid"] == started.pid == run.status["pgid"]  # its own session
    assert cancel(run, grace=20) == "cancelled"
    assert "error" not in run.status
    assert not alive(run)
    assert not started.alive
    assert "ready" in run.path("run.log").read_text()


def test_a_stubborn_run_is_ended_with_its_kernel(run: RunFolder) -> None:
    started = launch(run, "stubborn")
    kernel = run.status["kernel_pid"]
    assert cancel(run, grace=0.2, kill_after=0.5) == "cancelled"
    assert not started.alive
    assert not is_alive(kernel, run.status["kernel_pid_created"])
    assert "did not stop in time" in run.status["error"]


def test_a_stranger_with_the_same_number_is_spared(run: RunFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as stranger:
        created = process_created(stranger.pid)
        status = {"state": "running", "host": socket.gethostname(), "pid": stranger.pid, "pid_created": 1.0}
        write_json(run.folder / "status.json", status)
        _signal_groups(status, signal.SIGKILL)
        with pytest.raises(RunError, match="interrupted: there is nothing to cancel"):
            cancel(run, grace=0.1)
        assert is_alive(stranger.pid, created)
        stranger.communicate(b"\n")


def test_a_kernel_that_outlived_its_driver_is_ended(run: RunFolder) -> None:
    started = launch(run, "stubborn")
    os.kill(started.pid, signal.SIGKILL)
    kernel, created = run.status["kernel_pid"], run.status["kernel_pid_created"]
    assert is_alive(kernel, created)
    assert cancel(run, grace=0.2, kill_after=2) == "cancelled"
    assert not is_alive(kernel, created)


def test_a_queued_run_is_cancelled_at_once(run: RunFolder) -> None:
    assert cancel(run) == "cancelled"


def test_a_finished_run_cannot_be_cancelled(run: RunFolder) -> None:
    run.claim()
    run.set_status("completed")
    with pytest.raises(RunError, match="completed: there is nothing to cancel"):
        cancel(run)


def test_command_keeps_types() -> None:
    command = run_command("unet", "c", {"epochs": 3, "size": "demo", "fast": True, "rate": 1e-3}, "runs")
    assert command[1:4] == ["-m", "workbench.cli", "run"]
    assert [command[i + 1] for i, word in enumerate(command) if word == "-p"] == [
        "epochs=3",
        "size=demo",
        "fast=true",
        "rate=0.001",
    ]


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be started"):
        start(["/no/such/program"], tmp_path / "log")
