"""Who is told how a scheduled run ended, and that a hook which fails breaks nothing."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from schedules_at_work import add, tick

from workbench.records.status import is_alive
from workbench.schedules import notification
from workbench.schedules.occurrences import read_history
from workbench.schedules.schedule import Notification


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
