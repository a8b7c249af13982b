"""Run folders: the spec, the state machine, the heartbeat, events that survive a kill."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from asked_run import make_spec

from workbench.errors import RunError, RunHeldError
from workbench.records.run_folder import RunFolder


def test_create_is_idempotent_and_leaves_nothing_else(run: RunFolder) -> None:
    run.claim()
    again = RunFolder.create(run.folder.parent, make_spec())
    assert again.state == "running"  # opened, not made anew
    assert [p.name for p in run.folder.parent.iterdir()] == ["abc123"]


def test_another_run_under_the_same_name_is_refused(run: RunFolder) -> None:
    with pytest.raises(RunError, match="parameters differ"):
        RunFolder.create(run.folder.parent, make_spec(parameters={"seed": 1}))


def test_cohort_path_is_relative_to_the_run(run: RunFolder, tmp_path: Path) -> None:
    assert run.cohort_path == tmp_path.resolve() / "cohorts" / "demo"
    moved = tmp_path / "elsewhere" / "demo" / "abc123"
    moved.parent.mkdir(parents=True)
    run.folder.rename(moved)
    assert RunFolder.open(moved).cohort_path == tmp_path.resolve() / "cohorts" / "demo"


def test_a_completed_run_is_immutable(run: RunFolder) -> None:
    run.claim()
    run.set_status("completed")
    with pytest.raises(RunError, match="immutable"):
        run.claim()


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
    words = {key: ["a"] for key in ("case", "subject", "split", "region", "metric")}
    pd.DataFrame({**words, "value": [0.5]}).to_parquet(run.path("metrics.parquet"))
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
