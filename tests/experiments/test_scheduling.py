"""Schedules at work: checked when added, started once however many look, told apart from what did not change."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from workbench.cli import app
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError, WorkbenchError
from workbench.experiments import scheduling, ticking
from workbench.experiments.scheduling import command_of, experiment_name, fingerprint, make_schedule
from workbench.experiments.ticking import Ticker, anything_due
from workbench.records import occurrences, processes
from workbench.records.occurrences import read_history
from workbench.records.processes import start
from workbench.records.schedules import Notification, path_of, read_schedule, write_schedule
from workbench.records.units import UNIT, crontab_line, service_unit, timer_unit

START = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
TINY = {
    "size": "demo", "spacing": "4", "epochs": "1", "steps_per_epoch": "2", "validate_every": "1", "resamples": "100", "maps": "0",
    "threads": "1", "subsets": "none", "width": "4", "levels": "3", "patch": "32",
}  # fmt: skip


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
    monkeypatch.setattr(scheduling, "fingerprint", lambda schedule, _: {"code": (tmp_path / "code").read_text()})
    monkeypatch.setattr(
        scheduling, "command_of", lambda schedule, _, experiment: ["/bin/sh", str(script), schedule.name, experiment]
    )
    (tmp_path / "code").write_text("1")
    return folder


def add(runs: Path, name: str = "n", every: str = "60m", **values: Any) -> None:
    given = {"zone": "UTC", "created": START, "since": START, "sweep": "../s.yaml", "every": every, "name": name}
    write_schedule(runs, scheduling.Schedule.model_validate({**given, **values}))


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
    good = scheduling.fingerprint

    def gone(schedule: Any, folder: Path) -> dict[str, str]:
        if schedule.name == "b":
            raise ZeroDivisionError("a bug")
        return good(schedule, folder)

    monkeypatch.setattr(scheduling, "fingerprint", gone)
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


def test_a_killed_scheduler_is_noticed_by_the_next(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(runs)
    own = occurrences.claim(runs, "n", datetime(2026, 11, 21, 13, tzinfo=UTC))
    assert own is not None
    own.path.write_text(json.dumps(own.document | {"pid": 2**22 + 1}))
    assert not tick(runs, 62)
    (record,) = read_history(runs, "n")
    assert record["outcome"] == "failed"
    assert "was killed" in record["why"]
    assert done(runs) == []
    assert tick(runs, 121)
    assert outcomes(runs) == ["failed", "completed"]


def test_too_long_is_stopped(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticking, "STOP_GRACE", 0.3)
    (runs.parent / "work.sh").write_text("trap '' TERM; echo x >> done; sleep 60 & wait; sleep 60")
    add(runs, timeout=0.005)
    begun = time.monotonic()
    assert not tick(runs, 61)
    assert time.monotonic() - begun < 20
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


def test_a_webhook_that_is_down(runs: Path) -> None:
    add(runs, notify=Notification(webhook="http://127.0.0.1:9/hook", when="always").model_dump())
    assert tick(runs, 61)
    assert "webhook failed" in read_history(runs, "n")[0]["notification"]


# -- adding ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cli(*words: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["schedule", *map(str, words)], catch_exceptions=True)
    if isinstance(found.exception, WorkbenchError):  # as `main` says it
        return 1, f"error: {found.exception}"
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


def test_a_run_is_described_by_relative_paths_and_started_as_the_command_line_does(tiny_cohort: Cohort, home: Path) -> None:
    asked = make_schedule("n", runs="runs", method="unet", cohort=tiny_cohort.folder, parameters=TINY, every="6h", zone="UTC")
    assert str(home) not in asked.model_dump_json()
    command = command_of(asked, home / "runs", experiment_name(asked, START))
    assert command[:5] == [sys.executable, "-m", "workbench.cli", "run", "unet"]
    assert command[command.index("--cohort") + 1] == str(tiny_cohort.folder)
    assert command[command.index("--runs") + 1] == str(home / "runs")
    assert "experiment=n-20261121T1200Z" in command
    named = asked.model_copy(update={"parameters": {"experiment": "mine-{stamp}"}})
    assert experiment_name(named, START) == "mine-20261121T1200Z"


def test_the_fingerprint_follows_what_the_result_follows_from(tiny_cohort: Cohort, home: Path, monkeypatch) -> None:
    cohort = home / "cohort"
    shutil.copytree(tiny_cohort.folder, cohort)
    monkeypatch.setattr(scheduling, "read_code_version", lambda: "1")
    asked = make_schedule("n", runs="runs", method="unet", cohort=cohort, parameters=TINY, every="6h", zone="UTC")
    first = fingerprint(asked, "runs")
    assert first == fingerprint(asked, "runs")
    monkeypatch.chdir("/")
    assert fingerprint(asked, home / "runs") == first, "from wherever it is asked"
    more = asked.model_copy(update={"parameters": {**TINY, "epochs": "2"}})
    assert {key for key, value in fingerprint(more, home / "runs").items() if value != first[key]} == {"parameters"}
    other = asked.model_copy(update={"parameters": {**TINY, "experiment": "x"}, "paused": True, "every": "1d"})
    assert fingerprint(other, home / "runs") == first
    image = next(cohort.rglob("*t1c.nii.gz"))
    shutil.copy(next(cohort.rglob("*-t2.nii.gz")), image)
    assert {key for key, value in fingerprint(asked, home / "runs").items() if value != first[key]} == {"cohort"}
    monkeypatch.setattr(scheduling, "read_code_version", lambda: "2")
    assert fingerprint(asked, home / "runs")["code"] == "2"


def write_sweep(path: Path, cohort: Path, **values: object) -> Path:
    content = {"experiment": "nightly", "cohort": str(cohort), "methods": ["unet"], "parameters": {"size": "demo"}, **values}
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_sweep_is_checked_fingerprinted_and_started_with_an_experiment_of_its_own(tiny_cohort: Cohort, home: Path) -> None:
    file = write_sweep(home / "s.yaml", tiny_cohort.folder)
    asked = make_schedule("n", runs="runs", sweep="s.yaml", every="6h", zone="UTC")
    first = fingerprint(asked, "runs")
    command = command_of(asked, "runs", experiment_name(asked, START))
    assert command[3:5] == ["sweep", str(file)]
    assert command[-2:] == ["--experiment", "n-20261121T1200Z"]
    code, text = cli("add", "m", "--sweep", "s.yaml", "--every", "6h", "--zone", "UTC", "--", "--slots", "2")
    assert code == 0, text
    assert command_of(read_schedule("runs", "m"), "runs", "x")[-2:] == ["--slots", "2"]
    write_sweep(file, tiny_cohort.folder, seeds=[0, 1])
    changed = fingerprint(asked, "runs")
    assert {key for key in first if first[key] != changed[key]} == {"sweep"}
    write_sweep(file, tiny_cohort.folder, parameters={"sise": "demo"})
    with pytest.raises(ParameterError, match="sise"):
        make_schedule("n", runs="runs", sweep="s.yaml", every="6h", zone="UTC")


def test_a_renamed_sweep_file_is_named_and_the_schedule_stays(tiny_cohort: Cohort, home: Path) -> None:
    file = write_sweep(home / "s.yaml", tiny_cohort.folder)
    runs = home / "runs"
    code, text = cli("add", "n", "--sweep", "s.yaml", "--every", "1h", "--zone", "UTC", "--runs", runs)
    assert code == 0, text
    file.rename(home / "t.yaml")
    ticker = Ticker(runs, clock=lambda: datetime.now(UTC) + timedelta(hours=1, minutes=1))
    assert not ticker.run(poll=0.01)
    (record,) = read_history(runs, "n")
    assert record["outcome"] == "failed"
    assert "s.yaml" in record["why"]
    assert "--replace" in record["why"]
    assert read_schedule(runs, "n").sweep == "../s.yaml"
    code, text = cli("add", "m", "--sweep", "s.yaml", "--every", "1h", "--zone", "UTC", "--runs", runs)
    assert code == 1
    assert "s.yaml" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--every", "1h"], "one of the two"),
        (["--run", "unet"], "one of the two"),
        (["--run", "unet", "--every", "0h"], "'0h'"),
        (["--run", "unet", "--cron", "30 25 * * *"], "0 to 23"),
        (["--run", "unet", "--every", "1h", "--zone", "Europe/Berln"], "Europe/Berlin"),
        (["--run", "unit", "--every", "1h"], "unit"),
        (["--run", "unet", "--every", "1h", "-p", "epocs=3"], "did you mean 'epochs'"),
        (["--run", "unet", "--every", "1h", "-p", "epochs=three"], "epochs"),
        (["--run", "unet", "--every", "1h", "-p", "fold=9"], "fold"),
        (["--run", "unet", "--every", "1h", "-p", "runs=x"], "option of its own"),
        (["--run", "unet", "--every", "1h", "--experiment", "a b"], "experiment"),
        (["--run", "unet", "--every", "1h", "--catch-up", "some"], "skip, one, all"),
        (["--run", "unet", "--every", "1h", "--notify-when", "never"], "failure, always"),
        (["--run", "unet", "--every", "1h", "--notify-webhook", "ftp://x"], "no http"),
        (["--run", "unet", "--every", "1h", "--timeout", "-1"], "timeout"),
        (["--sweep", "s.yaml", "--every", "1h", "-p", "epochs=3"], "belong to --run"),
        (["--sweep", "s.yaml", "--every", "1h"], "s.yaml"),
        (["--sweep", "s.yaml", "--every", "1h", "--", "--executer", "slurm"], "--executer"),
        (["--sweep", "s.yaml", "--every", "1h", "--", "--dry-run"], "cannot be passed on"),
        (["--sweep", "s.yaml", "--every", "1h", "stray"], "stray"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_stored(
    tiny_cohort: Cohort, home: Path, words: list[str], expected: str
) -> None:
    cohort = ["--cohort", str(tiny_cohort.folder)] if "--run" in words else []
    code, text = cli("add", "n", *words, *cohort)
    assert code != 0
    assert expected in text
    assert not (home / "runs").exists()


def test_from_the_command_line(tiny_cohort: Cohort, home: Path) -> None:
    assert cli("list")[0] == 0
    given = ["--run", "unet", "--cohort", tiny_cohort.folder, "-p", "size=demo"]
    code, text = cli("add", "n", *given, "--cron", "30 2 * * *", "--zone", "Europe/Berlin")
    assert code == 0, text
    assert "02:30 CE" in text
    code, text = cli("add", "n", *given, "--every", "1h")
    assert "already" in text
    (row,) = json.loads(cli("list", "--json")[1])
    assert row["state"] == "waiting"
    assert row["paused"] is False
    assert row["next_in_zone"][11:16] == "02:30"
    assert datetime.fromisoformat(row["next"]) > datetime.now(UTC)
    assert row["last"] is None
    assert cli("pause", "n")[0] == 0
    assert json.loads(cli("list", "--json")[1])[0]["state"] == "paused"
    assert cli("resume", "n")[0] == 0
    path_of("runs", "broken").write_text("{")
    listed = cli("list")[1].splitlines()
    assert listed[0].split()[:4] == ["name", "what", "when", "next"]
    assert "broken.json" in listed[1]
    assert listed[2].startswith("n ")
    shown = json.loads(cli("show", "n", "--json")[1])
    assert len(shown["times"]) == 5
    assert "run unet" in cli("show", "n")[1]
    assert json.loads(cli("history", "n", "--json")[1]) == []
    assert cli("remove", "broken")[0] == 0
    assert cli("remove", "n")[0] == 0
    assert "there are: none" in cli("remove", "n")[1]
    assert json.loads(cli("list", "--json")[1]) == []


def test_detached_only_where_something_is_due(tiny_cohort: Cohort, home: Path) -> None:
    write_sweep(home / "s.yaml", tiny_cohort.folder)
    code, text = cli("add", "n", "--sweep", "s.yaml", "--every", "1h", "--zone", "UTC")
    assert code == 0, text
    started: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "start", lambda words, log: started.append(words) or start(["/bin/true"], log))
        assert json.loads(cli("tick", "--detach", "--json")[1])["due"] == []
        assert started == []
        due_soon(home / "runs", "n")
        assert json.loads(cli("tick", "--detach", "--json")[1])["due"] == ["n"]
    assert started == [[sys.executable, "-m", "workbench.cli", "schedule", "tick", "--runs", str(home / "runs")]]


def test_a_list_is_quick_and_loads_nothing_heavy(home: Path) -> None:
    code = (
        "import sys; from workbench.cli import app; sys.argv = ['w', 'schedule', 'list', '--json']\n"
        "try: app()\nexcept SystemExit: pass\nprint({'torch', 'monai', 'pandas', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["[]", "set()"]


# -- units -------------------------------------------------------------------------------------------------------------


def test_units_name_everything_absolutely(tmp_path: Path) -> None:
    odd = tmp_path / "a b%c" / "runs"
    line, service = crontab_line(odd), service_unit(odd)
    assert line.startswith(f"* * * * * {sys.executable} -m workbench.cli schedule tick --runs ")
    assert r"\%c" in line
    assert f'"{tmp_path}/a b%%c/runs"' in service
    assert f"WorkingDirectory={tmp_path}/a b%%c\n" in service


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    for folder in (tmp_path / "plain", tmp_path / "a b%c"):
        folder.mkdir()
        (folder / "runs").mkdir()
        (tmp_path / f"{UNIT}.service").write_text(service_unit(folder / "runs"))
        (tmp_path / f"{UNIT}.timer").write_text(timer_unit())
        files = [str(tmp_path / f"{UNIT}.{kind}") for kind in ("service", "timer")]
        found = subprocess.run([tool, "verify", *files], capture_output=True, text=True, timeout=60)
        if "Failed to initialize" in found.stderr or "not been booted" in found.stderr:
            pytest.skip(f"systemd-analyze cannot work here: {found.stderr.strip()}")
        assert found.returncode == 0, found.stderr
        assert UNIT not in found.stderr, found.stderr


# -- processes of their own --------------------------------------------------------------------------------------------


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "workbench.cli", "schedule", *map(str, words)]


def due_soon(runs: Path, name: str) -> None:
    """Put a schedule's beginning back, so that one time has just been due."""
    asked = read_schedule(runs, name)
    back = datetime.now(UTC) - timedelta(hours=1, minutes=1)
    write_schedule(runs, asked.model_copy(update={"created": back, "since": back}), replace=True)


@pytest.mark.slow
@pytest.mark.notebook
def test_a_run_through_tick_then_unchanged_then_changed(tiny_cohort: Cohort, home: Path, monkeypatch) -> None:
    cohort, runs = home / "cohort", home / "runs"
    shutil.copytree(tiny_cohort.folder, cohort)
    parameters = [word for name, value in TINY.items() for word in ("-p", f"{name}={value}")]
    code, text = cli("add", "n", "--run", "unet", "--cohort", cohort, *parameters, "--every", "1h", "--runs", runs)
    assert code == 0, text

    monkeypatch.setattr(scheduling, "read_code_version", lambda: "1")  # whoever edits the checkout meanwhile

    def after(hours: float) -> dict[str, Any]:
        told: list[dict[str, Any]] = []
        assert Ticker(runs, told.append, lambda: datetime.now(UTC) + timedelta(hours=hours)).run(look_every=600), told
        return told[-1]

    first = after(1)
    assert first["outcome"] == "completed"
    (spec,) = runs.glob("*/*/spec.json")
    assert json.loads((spec.parent / "status.json").read_text())["state"] == "completed"
    assert spec.parent.parent.name == first["experiment"]
    assert after(2)["outcome"] == "skipped-unchanged"
    shutil.copy(next(cohort.rglob("*-t2.nii.gz")), next(cohort.rglob("*t1c.nii.gz")))
    again = after(3)
    assert again["outcome"] == "completed"
    assert again["experiment"] != first["experiment"]
    assert len(list(runs.glob("*/*/spec.json"))) == 2


@pytest.mark.slow
def test_serve_starts_what_is_due_and_ends_on_a_signal(home: Path, tiny_cohort: Cohort) -> None:
    runs = home / "runs"
    write_sweep(home / "s.yaml", tiny_cohort.folder)
    serving = subprocess.Popen(
        command("serve", "--runs", runs, "--look-every", 1), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        time.sleep(2)
        code, text = cli("add", "late", "--sweep", "s.yaml", "--every", "1h", "--zone", "UTC", "--runs", runs)
        assert code == 0, text
        (home / "s.yaml").rename(home / "t.yaml")  # due, and a failure that needs no training
        due_soon(runs, "late")
        begun = time.monotonic()
        while not read_history(runs, "late") and time.monotonic() - begun < 30:
            time.sleep(0.2)
        assert outcomes(runs, "late") == ["failed"]
        time.sleep(1.5)
        assert outcomes(runs, "late") == ["failed"], "once"
    finally:
        serving.send_signal(signal.SIGTERM)
        said, _ = serving.communicate(timeout=30)
    assert serving.returncode == 0, said
    assert "s.yaml" in said
    assert said.strip().endswith("stopped")
