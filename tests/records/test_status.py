"""Where a run stands: its states, and whether its processes are still there, whatever the clock says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workbench.errors import RunError
from workbench.files import write_json
from workbench.jobs.processes import alive, processes_of
from workbench.records.run_folder import RunFolder
from workbench.records.status import TRANSITIONS, effective_state, is_alive, is_held, pid_scope, process_created


@pytest.mark.parametrize("before", list(TRANSITIONS))
@pytest.mark.parametrize("after", list(TRANSITIONS))
def test_state_machine(run: RunFolder, before: str, after: str) -> None:
    path = {"queued": [], "running": ["running"], "completed": ["running", "completed"]}.get(before, ["running", before])
    for state in path:
        run.set_status(state)
    if after == before or after in TRANSITIONS[before]:
        run.set_status(after, device="cpu")
        assert run.state == after
        assert run.status["device"] == "cpu"
    else:
        with pytest.raises(RunError, match=f"is {before}"):
            run.set_status(after)
        assert run.state == before


def test_unknown_state(run: RunFolder) -> None:
    with pytest.raises(RunError, match="no state 'done'"):
        run.set_status("done")


def test_a_reused_process_number_is_not_mistaken() -> None:
    assert is_alive(os.getpid(), process_created(os.getpid()))
    assert not is_alive(os.getpid(), 1.0)
    assert not is_alive(None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the start of a process is one by the calendar")
@pytest.mark.parametrize("state", ["running", "queued"])
def test_a_number_means_nothing_after_a_restart_or_in_another_container(run: RunFolder, state: str) -> None:
    boot, _, namespace = pid_scope().partition("/")
    assert len(boot) == 36
    assert int(namespace) == Path("/proc/self/ns/pid").stat().st_ino
    run.claim()
    assert run.status["pid_scope"] == pid_scope()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as driver:
        beats = {"running": run.folder / "heartbeat", "queued": run.folder.parents[1] / "worker"}[state]
        theirs = {"host": socket.gethostname(), "pid": driver.pid, "pid_created": process_created(driver.pid)}
        theirs["heartbeat"] = "worker"
        for scope in (f"{'0' * 36}/{namespace}", f"{boot}/1"):
            for mine in (False, True):  # as often as not in containers: the very number that this process has
                document = theirs | {"pid_scope": scope} | ({"pid": os.getpid()} if mine else {})
                write_json(run.folder / "status.json", {"state": state, "worker": document} | document)
                beats.touch()
                assert is_held(run.folder, run.status), "it may be a living one of the same name"
                assert effective_state(run.folder, run.status) == state
                for file in (beats, run.folder / "status.json"):
                    os.utime(file, (1e9, 1e9))
                assert not is_held(run.folder, run.status), "silent: its process is gone, whatever has its number now"
                assert alive(run) is False
                assert driver.pid not in [process.pid for process in processes_of(run)]
        write_json(run.folder / "status.json", {"state": state, "worker": theirs} | theirs)
        os.utime(run.folder / "status.json", (1e9, 1e9))
        assert is_held(run.folder, run.status), "of an older version, which noted no more than this"
        driver.communicate(b"\n")
    assert not is_held(run.folder, run.status)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the start of a process is on record as it was")
def test_a_clock_that_is_set_makes_no_process_another_one(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.claim()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as driver:
        run.set_status("running", pid=driver.pid)
        booted = psutil.boot_time()
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 3600.0)  # Linux works it out from the clock
        assert is_held(run.folder, run.status)
        assert run.effective_state() == "running"
        driver.communicate(b"\n")


def test_silence_means_interrupted(run: RunFolder) -> None:
    run.claim()
    run.heartbeat()
    old = time.time() - 120
    os.utime(run.folder / "status.json", (old, old))
    assert run.effective_state() == "running"
    os.utime(run.folder / "heartbeat", (old, old))
    assert run.effective_state() == "interrupted"
    assert run.effective_state(stale_after=300) == "running"
    assert run.state == "running"  # reading changes nothing


def test_another_host_counts_by_heartbeat_only(run: RunFolder) -> None:
    status = {"state": "running", "host": "another-host", "pid": 1, "pid_created": 1.0}
    assert effective_state(run.folder, status) == "running"


@pytest.mark.parametrize("state", ["running", "queued"])
def test_what_another_host_has_is_not_taken_by_a_clock_that_is_ahead(
    run: RunFolder, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = {"host": "another-host", "pid": 1, "heartbeat": "worker"}
    status = {"state": state, "host": "another-host", "pid": 1, "worker": worker}
    heartbeat = run.folder / "heartbeat" if state == "running" else run.folder.parents[1] / "worker"
    heartbeat.touch()
    present = time.time()
    monkeypatch.setattr(time, "time", lambda: present + 3600.0)
    assert is_held(run.folder, status)
    for file in (heartbeat, run.folder / "status.json"):
        os.utime(file, (present - 120, present - 120))
    assert not is_held(run.folder, status)
    assert not list(run.folder.glob(".*.probe"))
