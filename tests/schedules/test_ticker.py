"""Schedules at work: started once however many look, told apart from what did not change, written down and told."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import RunError
from workbench.records.run_folder import RunFolder
from workbench.records.status import is_alive
from workbench.records.sweep_plan import SweepPlan, write_plan
from workbench.schedules import check, notification, occurrences, ticker
from workbench.schedules.occurrences import read_history
from workbench.schedules.schedule import Notification, path_of, write_schedule
from workbench.schedules.ticker import Ticker, anything_due
from workbench.schedules.unwatched import known_history

START = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
SPEC = {"method": "unet", "parameters": {}, "cohort": {"name": "demo", "fingerprint": "f"}}


def later(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


class Clock:
    """A clock that stands still until it is put forward, or back."""

    def __init__(self, minutes: float = 0) -> None:
        self.now = later(minutes)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder whose schedules do what `work.sh` says instead of a training, and count in `done`."""
    folder = tmp_path / "runs"
    folder.mkdir()
    script = tmp_path / "work.sh"
    script.write_text("mkdir -p runs/$2; echo $1 $2 >> done")
    monkeypatch.setattr(check, "fingerprint", lambda schedule, _: {"code": (tmp_path / "code").read_text()})
    monkeypatch.setattr(check, "command_of", lambda schedule, _, experiment: ["/bin/sh", str(script), schedule.name, experiment])
    (tmp_path / "code").write_text("1")
    return folder


def add(runs: Path, name: str = "n", every: str = "60m", **values: Any) -> None:
    given = {"zone": "UTC", "created": START, "since": START, "sweep": "../s.yaml", "every": every, "name": name}
    write_schedule(runs, check.Schedule.model_validate({**given, **values}))


def done(runs: Path) -> list[str]:
    path = runs.parent / "done"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def tick(runs: Path, minutes: float, told: list | None = None) -> bool:
    return Ticker(runs, (told if told is not None else []).append, Clock(minutes)).run(poll=0.01)


def outcomes(runs: Path, name: str = "n") -> list[str]:
    return [record["outcome"] for record in read_history(runs, name)]


# -- ticking -----------------------------------------------------------------------------------------------------------


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


def leave(runs: Path, **facts: Any) -> None:
    """A claim whose scheduler was killed; with `facts`, after it had started what is due."""
    own = occurrences.claim(runs, "n", datetime(2026, 11, 21, 13, tzinfo=UTC))
    assert own is not None
    own.noted(pid=2**22 + 1, **facts)


def make_run(folder: Path, state: str, **spec: Any) -> None:
    run = RunFolder.create(folder.parent, SPEC | {"run": folder.name, "experiment": folder.parent.name} | spec)
    run.claim()
    run.set_status(state, finished="2999-01-01T00:00:00+00:00")  # after whatever it is held against


def test_a_killed_scheduler_is_noticed_by_the_next(runs: Path) -> None:
    add(runs)
    leave(runs)
    assert not tick(runs, 62)
    (record,) = read_history(runs, "n")
    assert record["outcome"] == "failed"
    assert "was killed before this was started" in record["why"]
    assert done(runs) == []
    assert tick(runs, 121)
    assert outcomes(runs) == ["failed", "completed"]


@pytest.mark.parametrize(
    ("states", "facts", "why"),
    [
        (["completed"], {"method": "unet"}, ""),
        (["completed", "failed"], {"method": "unet"}, "1 of 2 runs completed, x/1 is failed"),
        ([], {"method": "unet"}, "it left no run"),
        (["completed"], {"method": "mts_unet"}, "it left no run"),
        (["completed"], {"method": "unet", "at": "3000-01-01T00:00:00+00:00"}, "it left no run"),
        (["completed", "completed"], {"method": "unet", "all_folds": True}, "the folds are not pooled"),
        (["completed", "pooled"], {"method": "unet", "all_folds": True}, ""),
        (["completed", "completed"], {"method": ""}, ""),
        (["completed"], {"method": ""}, "1 of 2 runs completed, x/1 is missing"),
        (["completed", "interrupted"], {"method": ""}, "1 of 2 runs completed, x/1 is interrupted"),
    ],
)
def test_what_nobody_saw_end_is_known_from_its_runs(runs: Path, states: list[str], facts: dict[str, Any], why: str) -> None:
    add(runs)
    leave(runs, experiment="x", fingerprint={"code": "1"}, **facts)
    for number, state in enumerate(states):
        pooled = {"derived": {"kind": "pooled", "parents": ["0"]}} if state == "pooled" else {}
        make_run(runs / "x" / str(number), "completed" if pooled else state, **pooled)
    if not facts["method"]:
        cells = [
            {"run": f"x/{n}", "method": "unet", "condition": "baseline", "fold": n, "seed": 0, "parameters": {}} for n in (0, 1)
        ]
        cohort = {"name": "c", "path": "../c", "fingerprint": "f"}
        write_plan(runs, SweepPlan(name="s-x", file="../s.yaml", experiment="x", cohort=cohort, cells=cells))
        others = [cell | {"run": f"y/{cell['fold']}"} for cell in cells]
        write_plan(runs, SweepPlan(name="s-y", file="../s.yaml", experiment="y", cohort=cohort, cells=others))
        (runs / ".sweeps" / "damaged.json").write_text("{")
    seen, _ = known_history(runs, "n")
    assert read_history(runs, "n") == [], "who only asks writes nothing"
    assert tick(runs, 62) is not bool(why)
    (record,) = read_history(runs, "n")
    assert [record] == [{**seen[0], "ended": record["ended"]}]
    assert record["outcome"] == ("failed" if why else "completed")
    assert why in record["why"]
    assert why or record["ended"].startswith("2999")
    (runs.parent / "done").unlink(missing_ok=True)
    tick(runs, 121)
    assert done(runs) == (["n x"] if why else []), "resumed where it was left, or nothing to be done"


def test_a_run_that_outlived_its_scheduler_and_its_command_is_waited_for(runs: Path) -> None:
    add(runs)
    leave(runs, experiment="x", method="unet")
    make_run(runs / "x" / "0", "running")
    assert [claim.scheduled.hour for claim in known_history(runs, "n")[1]] == [13]
    assert tick(runs, 62)
    assert read_history(runs, "n") == []
    RunFolder.open(runs / "x" / "0").set_status("completed")
    assert tick(runs, 63)
    assert outcomes(runs) == ["completed"]


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


# -- telling -----------------------------------------------------------------------------------------------------------


def test_a_command_gets_json_on_failure_only(runs: Path) -> None:
    out = runs.parent / "told.json"
    add(runs, notify=Notification(command=f"sh -c 'cat > {out}'").model_dump())
    tick(runs, 61)
    assert not out.exists()
    (runs.parent / "work.sh").write_text("exit 7")
    (runs.parent / "code").write_text("2")
    tick(runs, 121)
    record = json.loads(out.read_text())
    assert (record["schedule"], record["outcome"], record["exit_code"]) == ("n", "failed", 7)
    assert read_history(runs, "n")[-1]["notification"] == "sent"


def test_a_hook_does_not_hold_the_lock_and_ends_in_time(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification, "COMMAND_SECONDS", 5.0)
    folder, free = runs / ".schedules", runs.parent / "free"
    lock = f"import fcntl; fcntl.flock(open('{folder}/.lock'), fcntl.LOCK_EX | fcntl.LOCK_NB); open('{free}', 'w')"
    hook = Notification(command=shlex.join([sys.executable, "-c", lock]), when="always")
    add(runs, catch_up="skip", notify=hook.model_dump())
    tick(runs, 90)
    (record,) = read_history(runs, "n")
    assert (record["outcome"], record["notification"]) == ("missed", "sent")
    assert free.exists()
    monkeypatch.setattr(notification, "COMMAND_SECONDS", 0.2)
    left = runs.parent / "left"
    add(runs, "slow", notify=Notification(command=f"sh -c 'sleep 600 & echo $! > {left}; wait'", when="always").model_dump())
    begun = time.monotonic()
    assert tick(runs, 61)
    while is_alive(int(left.read_text()), None) and time.monotonic() - begun < 60:
        time.sleep(0.02)
    assert time.monotonic() - begun < 60, "it goes with all that it started"
    (record,) = read_history(runs, "slow")
    assert record["outcome"] == "completed"
    assert "did not end within 0.2 s" in record["notification"]
    add(runs, "daemon", notify=Notification(command="sh -c 'sleep 2 &'", when="always").model_dump())
    tick(runs, 61)
    assert read_history(runs, "daemon")[0]["notification"] == "sent", "what it leaves running is not waited for"


@pytest.mark.parametrize("command", ["no-such-program-here", "sh -c 'echo broken >&2; exit 4'", "unbalanced '"])
def test_a_hook_that_fails_is_written_down_and_breaks_nothing(runs: Path, command: str) -> None:
    add(runs, notify=Notification(command=command, when="always").model_dump())
    assert tick(runs, 61)
    (record,) = read_history(runs, "n")
    assert record["outcome"] == "completed"
    assert record["notification"].startswith("command failed")


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(302 if self.path == "/moved" else 204)
        if self.path == "/moved":
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Hook)
    server.received = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_is_told_the_outcome_and_nothing_of_the_log(runs: Path, hook: HTTPServer) -> None:
    (runs.parent / "work.sh").write_text("echo 'error: case 0815 of Mrs Miller is empty'; exit 1")
    add(runs, notify=Notification(webhook=f"http://127.0.0.1:{hook.server_port}/hook").model_dump())
    tick(runs, 61)
    ((path, told),) = hook.received  # type: ignore[attr-defined]
    assert path == "/hook"
    assert (told["schedule"], told["outcome"], told["exit_code"]) == ("n", "failed", 1)
    assert "Miller" not in json.dumps(told)
    assert "Miller" in read_history(runs, "n")[0]["why"]


def test_a_webhook_that_points_elsewhere_is_not_followed(runs: Path, hook: HTTPServer) -> None:
    add(runs, notify=Notification(webhook=f"http://127.0.0.1:{hook.server_port}/moved", when="always").model_dump())
    assert tick(runs, 61)
    assert [path for path, _ in hook.received] == ["/moved"]  # type: ignore[attr-defined]
    answer = read_history(runs, "n")[0]["notification"]
    assert "not followed" in answer
    assert str(hook.server_port) not in answer


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/hook", "http://127.0.0.1:port/hook"])
def test_a_webhook_that_is_down(runs: Path, address: str) -> None:
    add(runs, notify=Notification(webhook=address, when="always").model_dump())
    assert tick(runs, 61)
    assert "webhook failed" in read_history(runs, "n")[0]["notification"]
