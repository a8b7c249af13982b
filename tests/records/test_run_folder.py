"""Run folders: the spec, the state machine, the heartbeat, events that survive a kill."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from workbench.errors import RunError, RunHeldError
from workbench.files import write_json
from workbench.jobs.processes import alive, processes_of
from workbench.records.run_folder import RunFolder, run_id
from workbench.records.status import TRANSITIONS, effective_state, is_alive, is_held, pid_scope, process_created


def make_spec(**changes: object) -> dict:
    spec = {
        "run": "abc123",
        "method": "unet",
        "experiment": "demo",
        "parameters": {"seed": 0, "size": "demo"},
        "cohort": {"name": "demo", "path": "../../../cohorts/demo", "fingerprint": "f", "phantom": True},
    }
    return spec | changes


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs" / "demo", make_spec())


def test_id_depends_on_parameters_and_cohort_only() -> None:
    assert run_id({"a": 1, "b": 2}, "f") == run_id({"b": 2, "a": 1}, "f")
    assert len({run_id({"a": 1}, "f"), run_id({"a": 2}, "f"), run_id({"a": 1}, "g")}) == 3


def test_create_is_idempotent_and_leaves_nothing_else(run: RunFolder) -> None:
    run.claim()
    again = RunFolder.create(run.folder.parent, make_spec())
    assert again.state == "running"  # opened, not made anew
    assert [p.name for p in run.folder.parent.iterdir()] == ["abc123"]


def test_another_run_under_the_same_name_is_refused(run: RunFolder) -> None:
    with pytest.raises(RunError, match="parameters differ"):
        RunFolder.create(run.folder.parent, make_spec(parameters={"seed": 1}))


@pytest.mark.parametrize("name", ["../escape", "a/b", ".hidden", ""])
def test_a_run_name_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="run"):
        RunFolder.create(tmp_path, make_spec(run=name))
    assert list(tmp_path.iterdir()) == []


def test_cohort_path_is_relative_to_the_run(run: RunFolder, tmp_path: Path) -> None:
    assert run.cohort_path == tmp_path.resolve() / "cohorts" / "demo"
    moved = tmp_path / "elsewhere" / "demo" / "abc123"
    moved.parent.mkdir(parents=True)
    run.folder.rename(moved)
    assert RunFolder.open(moved).cohort_path == tmp_path.resolve() / "cohorts" / "demo"


@pytest.mark.parametrize(("content", "reason"), [("{", "JSON"), ("[]", "does not describe"), ('{"run": "x"}', "method")])
def test_a_damaged_spec_says_what_is_wrong(run: RunFolder, content: str, reason: str) -> None:
    (run.folder / "spec.json").write_text(content)
    with pytest.raises(RunError, match=reason):
        RunFolder.open(run.folder)


def test_a_run_named_as_in_the_list_is_pointed_at(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder.parents[2])
    with pytest.raises(RunError, match=r"run folder demo/abc123 is not there; did you mean runs/demo/abc123\?"):
        RunFolder.open("demo/abc123")


def test_newer_schema_is_refused(run: RunFolder) -> None:
    spec = json.loads((run.folder / "spec.json").read_text())
    (run.folder / "spec.json").write_text(json.dumps(spec | {"schema_version": 99}))
    with pytest.raises(RunError, match="newer"):
        RunFolder.open(run.folder)


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


def test_a_completed_run_is_immutable(run: RunFolder) -> None:
    run.claim()
    run.set_status("completed")
    with pytest.raises(RunError, match="immutable"):
        run.claim()


def test_unknown_state(run: RunFolder) -> None:
    with pytest.raises(RunError, match="no state 'done'"):
        run.set_status("done")


def test_claim_refuses_a_second_live_process(run: RunFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        run.claim()
        run.set_status("running", pid=other.pid)
        with pytest.raises(RunHeldError, match=f"process {other.pid}"):
            run.claim()
        other.communicate(b"\n")
    assert run.effective_state() == "interrupted"  # at once: its process is gone
    run.claim(device="cuda")  # and another may resume it
    assert run.status["pid"] == os.getpid()
    assert run.status["device"] == "cuda"


def test_what_was_cancelled_in_the_queue_is_not_claimed_for_it(run: RunFolder) -> None:
    assert run.cancel_queued()
    with pytest.raises(RunError, match="was cancelled while it was queued"):
        run.claim(as_queued=True)
    assert run.state == "cancelled"
    run.claim()
    assert run.state == "running", "whoever asks for it by name gets it"


def test_claim_forgets_the_past(run: RunFolder) -> None:
    run.claim()
    run.request_cancel()
    run.set_status("failed", error="it broke")
    run.claim()
    assert not run.should_stop()
    assert "error" not in run.status
    assert "finished" not in run.status


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


def test_beating_touches_the_heartbeat(run: RunFolder) -> None:
    with run.beating(interval=0.05):
        first = (run.folder / "heartbeat").stat().st_mtime_ns
        run._beat = 0.0  # a second has passed
        time.sleep(0.3)
    assert (run.folder / "heartbeat").stat().st_mtime_ns > first


def test_last_event_counts_and_nan_is_kept(run: RunFolder) -> None:
    run.scalar("loss", 2.0, 0)
    run.scalar("loss", math.nan, 1)
    run.scalar("dice", 0.5, 1)
    run.scalar("loss", 1.0, 0)  # after a resume
    events = run.events()
    assert events["name"].tolist() == ["loss", "loss", "dice"]
    assert events["step"].tolist() == [0, 1, 1]
    assert events.loc[0, "value"] == 1.0
    assert math.isnan(events.loc[1, "value"])


def test_a_torn_line_costs_itself_only(run: RunFolder) -> None:
    run.scalar("loss", 2.0, 0)
    with (run.folder / "events.jsonl").open("a") as handle:
        handle.write('{"name": "loss", "step": 1, "val')  # killed while writing
    run.scalar("loss", 0.5, 2)
    assert run.events()[["step", "value"]].values.tolist() == [[0, 2.0], [2, 0.5]]


def test_no_events_and_no_tables(run: RunFolder) -> None:
    assert run.events().empty
    assert run.metrics() is None
    assert run.markers() is None


def test_tables(run: RunFolder) -> None:
    pd.DataFrame({"case": ["a"], "value": [0.5]}).to_parquet(run.path("metrics.parquet"))
    table = run.metrics()
    assert table is not None
    assert table["value"].tolist() == [0.5]
    run.path("markers.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(RunError, match=r"markers\.parquet"):
        run.markers()


def test_cancel_request_is_seen(run: RunFolder) -> None:
    assert not run.should_stop()
    RunFolder.open(run.folder).request_cancel()
    assert run.should_stop()


def test_checkpoint_stem(run: RunFolder) -> None:
    assert run.checkpoint("last") == run.folder / "checkpoints" / "last"
    assert (run.folder / "checkpoints").is_dir()


def test_a_pause_is_a_stop_that_waits_and_a_cancellation_outweighs_it(run: RunFolder) -> None:
    assert not run.is_paused()
    run.request_pause()
    assert run.should_stop()
    assert run.is_paused()
    run.request_cancel()
    assert run.should_stop()
    assert not run.is_paused()
    run.request_pause()
    assert not run.is_paused(), "a pause does not undo a cancellation"


def test_a_restarted_slurm_job_takes_over_from_its_earlier_start(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_JOB_ID", "15"), ("SLURM_ARRAY_JOB_ID", "12"), ("SLURM_ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(name, value)
    run.claim()
    assert run.status["slurm"] == {"job": "12_3", "restarts": 0}
    run.set_status("running", host="another-node")  # it beat a moment ago, on a node that is gone now
    run.heartbeat()
    with pytest.raises(RunError, match="another-node"):  # the same start: perhaps a second process of this job
        run.claim()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run.claim()
    assert run.status["slurm"] == {"job": "12_3", "restarts": 1}
    run.set_status("running", host="another-node")
    run.heartbeat()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with pytest.raises(RunError, match="another-node"):  # another job
        run.claim()
