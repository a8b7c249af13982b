"""Schedules at work: started once however many look, told apart from what did not change, written down."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from schedules_at_work import Clock, add, done, later, make_run, outcomes, tick

from workbench.errors import RunError
from workbench.schedules import check, occurrences, ticker
from workbench.schedules.occurrences import read_history
from workbench.schedules.schedule import path_of
from workbench.schedules.ticker import Ticker, anything_due


def test_what_is_due_runs_once_and_is_written_down(runs: Path) -> None:
    add(runs)
    assert tick(runs, 59)
    assert done(runs) == []
    told: list[dict[str, Any]] = []
    assert anything_due(runs, later(61)) == ["n"]
    assert tick(runs, 61, told)
    assert tick(runs, 62)
    assert anything_due(runs, later(62)) == []
    assert done(runs) == ["n n-20261121T1300Z"]
    (record,) = read_history(runs, "n")
    assert record["outcome"] == "completed"
    assert record["scheduled"] == "2026-11-21T13:00:00+00:00"
    assert record["exit_code"] == 0
    assert (runs / record["log"]).is_file()
    assert told == [{"schedule": "n", **record}]


def test_unchanged_is_skipped_until_something_changes(runs: Path) -> None:
    add(runs)
    tick(runs, 61)
    tick(runs, 121)
    (runs.parent / "code").write_text("2")
    tick(runs, 181)
    assert outcomes(runs) == ["completed", "skipped-unchanged", "completed"]
    assert done(runs) == ["n n-20261121T1300Z", "n n-20261121T1500Z"]


def test_what_was_removed_by_hand_is_made_again(runs: Path) -> None:
    add(runs)
    tick(runs, 61)
    shutil.rmtree(runs / "n-20261121T1300Z")
    tick(runs, 121)
    assert outcomes(runs) == ["completed", "completed"]


def test_always_means_always(runs: Path) -> None:
    add(runs, skip_unchanged=False)
    tick(runs, 61)
    tick(runs, 121)
    assert len(done(runs)) == 2


def test_a_failure_is_told_and_taken_up_again_where_it_was(runs: Path) -> None:
    (runs.parent / "work.sh").write_text("echo 'error: no space left' >&2; echo warm words; exit 3")
    add(runs)
    assert not tick(runs, 61)
    (record,) = read_history(runs, "n")
    assert (record["outcome"], record["exit_code"], record["why"]) == ("failed", 3, "no space left")
    (runs.parent / "work.sh").write_text("mkdir -p runs/$2; echo $1 $2 >> done")
    assert tick(runs, 121)
    assert done(runs) == ["n n-20261121T1300Z"], "the experiment of the failure, which resumes"
    (runs.parent / "code").write_text("2")
    assert tick(runs, 181)
    assert done(runs)[-1] == "n n-20261121T1500Z"


def test_one_bad_schedule_does_not_hold_up_the_others(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        add(runs, name)
    path_of(runs, "a").write_text("{")
    good = check.fingerprint

    def gone(schedule: Any, folder: Path) -> dict[str, str]:
        if schedule.name == "b":
            raise ZeroDivisionError("a bug")
        return good(schedule, folder)

    monkeypatch.setattr(check, "fingerprint", gone)
    told: list[dict[str, Any]] = []
    assert not tick(runs, 61, told)
    assert "a.json" in next(record["problem"] for record in told if record["schedule"] == "a")
    assert read_history(runs, "b")[0]["why"] == "ZeroDivisionError: a bug"
    assert outcomes(runs, "c") == ["completed"]
    assert tick(runs, 62, told), "a damaged document is told of once, not every minute"
    assert len(told) == 3
    path_of(runs, "a").write_text("}")
    os.utime(path_of(runs, "a"), (1e9, 1e9))
    assert not tick(runs, 62, told)
    path_of(runs, "a").unlink()
    add(runs, "a")
    assert tick(runs, 63)
    assert "nobody watched" not in str(read_history(runs, "a"))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("skip", ["missed"]), ("one", ["completed"]), ("all", ["completed", "completed", "completed"])],
)
def test_catch_up_after_the_machine_was_off(runs: Path, policy: str, expected: list[str]) -> None:
    add(runs, catch_up=policy, skip_unchanged=False)
    ticker = Ticker(runs, clock=Clock(3 * 60 + 30))
    ticker.run(poll=0.01, look_every=0.05)
    for _ in range(3):  # whoever looks next goes on with the rest
        ticker.run(poll=0.01)
    assert outcomes(runs) == expected
    assert len(done(runs)) == expected.count("completed")
    if policy != "all":
        assert read_history(runs, "n")[-1]["missed"] == (3 if policy == "skip" else 2)


def test_the_clock_jumps(runs: Path) -> None:
    add(runs, skip_unchanged=False)
    clock = Clock(61)
    ticker = Ticker(runs, clock=clock)
    for minutes in (61, 5, 30, 61, 62, 20):  # back and forth over the same hour
        clock.now = later(minutes)
        ticker.run(poll=0.01)
    assert len(done(runs)) == 1
    clock.now = later(60 * 24 * 365 * 3)
    ticker.run(poll=0.01)
    assert len(done(runs)) == 2
    clock.now = later(121)  # put right: what comes is due
    ticker.run(poll=0.01)
    assert [record["scheduled"][:4] for record in read_history(runs, "n")] == ["2026", "2026", "2029"]


def test_still_running_is_skipped_with_the_reason(runs: Path) -> None:
    (runs.parent / "work.sh").write_text("echo x >> done; while [ ! -e stop ]; do sleep 0.05; done")
    add(runs)
    first = Ticker(runs, clock=Clock(61))
    first.look()
    assert tick(runs, 121), "another process, an hour later"
    assert first.busy
    (runs.parent / "stop").touch()
    assert first.run(poll=0.01)
    records = read_history(runs, "n")
    assert [record["outcome"] for record in records] == ["completed", "still-running"]
    assert "2026-11-21T13:00" in records[1]["why"]
    assert done(runs) == ["x"]


def look_and_wait(runs: Path, minutes: float) -> None:
    Ticker(runs, clock=Clock(minutes)).look()
    time.sleep(60)


def test_the_work_of_a_killed_scheduler_goes_on_and_the_next_one_watches_it(runs: Path) -> None:
    make_run(runs.parent / "made" / "0", "completed")
    (runs.parent / "work.sh").write_text(
        "echo x >> done; while [ ! -e stop ]; do sleep 0.05; done; mkdir -p runs/$2; cp -r made/0 runs/$2/0; exit 5"
    )
    add(runs, sweep="", method="unet", skip_unchanged=False)
    killed = multiprocessing.get_context("fork").Process(target=look_and_wait, args=(runs, 61))
    killed.start()
    while not (claims := occurrences.read_claims(runs, "n")) or "job_pid" not in claims[0].document:
        time.sleep(0.02)
    killed.kill()
    killed.join()
    next_one = Ticker(runs, clock=Clock(122))
    next_one.look()
    assert next_one.busy
    assert outcomes(runs) == ["still-running"], "the time that came meanwhile is let pass"
    third = Ticker(runs, clock=Clock(123))
    third.look()
    assert not third.busy, "it has somebody who watches"
    (runs.parent / "stop").touch()
    assert next_one.run(poll=0.01), "the run completed: nobody's child has no exit status"
    assert outcomes(runs) == ["completed", "still-running"]
    assert done(runs) == ["x"]


def test_too_long_is_stopped(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker, "STOP_GRACE", 0.3)
    (runs.parent / "work.sh").write_text("trap '' TERM; echo x >> done; sleep 60 & wait; sleep 60")
    add(runs, timeout=0.005)
    assert not tick(runs, 61)
    (record,) = read_history(runs, "n")
    assert "did not end within 0.005 minutes" in record["why"]
    assert record["exit_code"] == -signal.SIGKILL


def test_stopping_asks_what_is_at_work_to_end(runs: Path) -> None:
    (runs.parent / "work.sh").write_text("trap 'echo saved >> done; exit 1' TERM; echo x >> ready; while :; do sleep 0.05; done")
    add(runs)
    ticker = Ticker(runs, clock=Clock(61))
    ticker.look()
    while not (runs.parent / "ready").exists():
        time.sleep(0.02)
    ticker.stop()
    assert not ticker.run(poll=0.01)
    assert done(runs) == ["saved"]
    assert "the scheduler was stopped" in read_history(runs, "n")[0]["why"]


def test_a_folder_that_cannot_be_written_runs_nothing(runs: Path) -> None:
    add(runs)
    (runs / ".schedules" / ".claims").write_text("in the way")
    assert not tick(runs, 61)
    assert done(runs) == []
    told: list[dict[str, Any]] = []
    blocked = Ticker(runs.parent / "code", told.append, Clock(61))
    blocked.guarded_look()
    blocked.guarded_look()
    assert len(told) == 1, "said once"
    with pytest.raises(RunError, match="need a folder to write to"):
        blocked.look()


def compete(runs: Path, barrier: Any) -> None:
    ticker = Ticker(runs, clock=Clock(61))
    barrier.wait()
    ticker.run(poll=0.01)


@pytest.mark.parametrize("locks", [True, False])
def test_many_ticks_at_one_moment_run_each_thing_once(runs: Path, monkeypatch: pytest.MonkeyPatch, locks: bool) -> None:
    if not locks:  # a file system without locks

        def refuse(*_: object) -> None:
            raise OSError("no locks here")

        monkeypatch.setattr("fcntl.flock", refuse)
    for name in ("a", "b", "c"):
        add(runs, name)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(6)
    workers = [context.Process(target=compete, args=(runs, barrier)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(done(runs)) == [f"{name} {name}-20261121T1300Z" for name in "abc"]
    assert [outcomes(runs, name) for name in "abc"] == [["completed"]] * 3
