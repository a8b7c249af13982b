"""What the dashboard's server is started with."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from command_line import workbench

from workbench.commands import serving
from workbench.errors import WorkbenchError
from workbench.records.users import add_user, read_users


def test_a_file_of_the_users_called_app_is_not_taken_for_the_dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    class Server:
        def __init__(self, command: list[str], env: dict[str, str]) -> None:
            self.python, self.env = command[: command.index("-m")], env

        def wait(self) -> int:
            code = [*self.python, "-c", "import app; print(app.__path__[0])"]
            found.append(
                subprocess.run(code, env=self.env, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout.strip()
            )
            return 0

    monkeypatch.setenv("WORKBENCH_USERS", str(tmp_path / "nobody"))
    (tmp_path / "app.py").write_text("")
    monkeypatch.setattr(serving, "subprocess", SimpleNamespace(Popen=Server))
    serving.serve_app(port=0, runs=tmp_path / "runs")
    assert found == [str(serving.app_folder())]


@pytest.mark.slow
def test_the_server_ends_with_the_command_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workbench.cli", "app", "--port", "0", "--runs", str(tmp_path)]
    servers: list[psutil.Process] = []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "The dashboard is at" in process.stderr.readline()
        deadline = time.monotonic() + 20
        while not (servers := psutil.Process(process.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(servers) == 1
        process.terminate()
        assert process.wait(20) == 0
        assert not servers[0].is_running()
    finally:
        process.kill()
        for server in servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                server.kill()


def test_a_port_in_use_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = workbench("app", "--port", port)
    assert done.returncode == 1
    assert f"--port {port + 1}" in done.stderr


class Started:
    """What the server was started with, instead of a server."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.command, self.env = command, env
        STARTED.append(self)

    def wait(self) -> int:
        return 0


STARTED: list[Started] = []


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Started]:
    """Function: `serve_app` with these options; what it would have started."""
    monkeypatch.setenv("WORKBENCH_USERS", str(tmp_path / "users.json"))
    monkeypatch.setattr(serving, "subprocess", SimpleNamespace(Popen=Started))
    monkeypatch.setattr(serving.signal, "signal", lambda *_: None)

    def serve(**options: Any) -> Started:
        serving.serve_app(port=0, runs=tmp_path / "runs", **options)
        return STARTED.pop()

    return serve


@pytest.mark.parametrize(
    "options", [{"address": "0.0.0.0"}, {"address": "::"}, {"origins": ["lab.example:5006"]}, {"address": "10.0.0.1"}]
)
def test_open_to_others_without_users_is_refused_with_the_commands(
    start: Callable[..., Started], options: dict[str, Any]
) -> None:
    with pytest.raises(WorkbenchError) as refused:
        start(**options)
    assert "workbench app --add-user NAME" in str(refused.value)
    assert "--origin" in str(refused.value)


@pytest.mark.parametrize(
    "origin", ["", "*", "https://lab.example", "lab.example/app", "lab.example:x", "--address=0.0.0.0 ", "[fd00::1]:1"]
)
def test_an_origin_that_is_none(start: Callable[..., Started], origin: str) -> None:
    with pytest.raises(WorkbenchError, match="is no origin"):
        start(origins=[origin])


def test_passwords_in_the_clear_are_refused(start: Callable[..., Started], tmp_path: Path) -> None:
    add_user(tmp_path / "users.json", "ada", "correct horse")
    with pytest.raises(WorkbenchError, match="in the clear"):
        start(address="0.0.0.0", origins=["lab.example:5006"])
    with pytest.raises(WorkbenchError, match="no origin"):
        start(address="0.0.0.0", plain=True)
    found = start(address="0.0.0.0", origins=["lab.example:5006"], plain=True)
    assert found.env["WORKBENCH_PLAIN_HTTP"] == "1"


def test_with_users_everybody_logs_in_and_no_secret_stands_in_the_command(start: Callable[..., Started], tmp_path: Path) -> None:
    add_user(tmp_path / "users.json", "ada", "correct horse")
    found = start(address="0.0.0.0", origins=["lab.example:5006"], certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
    assert found.command[found.command.index("--auth-module") + 1].endswith("login.py")
    assert found.command[found.command.index("--ssl-certfile") + 1] == str(tmp_path / "c.pem")
    assert found.command[found.command.index("--allow-websocket-origin") + 1] == "lab.example:5006"
    assert len(found.env["BOKEH_COOKIE_SECRET"]) == 64
    assert found.env["BOKEH_COOKIE_SECRET"] not in " ".join(found.command)


def test_without_users_this_machine_asks_nobody(start: Callable[..., Started]) -> None:
    found = start()
    assert found.command[found.command.index("--address") + 1] == "127.0.0.1"
    assert not {"--auth-module", "--allow-websocket-origin"} & set(found.command)


def test_add_user_asks_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_USERS", str(tmp_path / "users.json"))
    answers = iter(["correct horse", "correct horsf", "correct horse", "correct horse"])
    monkeypatch.setattr(serving.getpass, "getpass", lambda _: next(answers))
    with pytest.raises(WorkbenchError, match="differ"):
        serving.ask_for_user("ada")
    assert not (tmp_path / "users.json").exists()
    serving.ask_for_user("ada")
    assert list(read_users(tmp_path / "users.json")) == ["ada"]


def panel_serve(tmp_path: Path, *options: str) -> tuple[subprocess.Popen[bytes], Path, int]:
    """`panel serve` in this repository, its log, and its port; it answers, or has ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "panel", "serve", *options, "--port", str(port)], cwd=serving.app_folder().parent,
            stdout=output, stderr=output, env=os.environ | {"WORKBENCH_RUNS": str(tmp_path)}, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    return process, log, port


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--num-procs", "2"), ("--dev",)], ids=["plain", "two processes", "dev"])
def test_panel_serve_listens_to_this_machine_only(tmp_path: Path, options: tuple[str, ...]) -> None:
    process, log, port = panel_serve(tmp_path, "app", *options)
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        listening = {each.laddr for one in family for each in one.net_connections() if each.status == psutil.CONN_LISTEN}
        assert {address.ip for address in listening if address.port == port} == {"127.0.0.1"}, log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [("--address", "0.0.0.0"), ("--address", "::"), ("--address", "0.0.0.0", "--basic-auth", "secret", "--cookie-secret", "s"),
     ("--allow-websocket-origin", "*"), ("--address", "0.0.0.0", "--num-procs", "2")],
    ids=["0.0.0.0", "::", "plain password", "any origin", "two processes"],
)  # fmt: skip
def test_panel_serve_open_to_others_ends_and_says_how_it_goes(tmp_path: Path, options: tuple[str, ...]) -> None:
    process, log, _ = panel_serve(tmp_path, "app", *options)
    try:
        assert process.wait(20) == 1, log.read_text()
    finally:
        process.kill()
    assert "was not started" in log.read_text()
    assert "workbench app --add-user NAME" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_the_page_s_file_served_without_its_folder_shows_nothing(tmp_path: Path) -> None:
    process, log, port = panel_serve(tmp_path, "app/main.py")
    try:
        page = urlopen(f"http://localhost:{port}/main", timeout=60).read().decode()
        assert "wb-frame" not in page
        assert "has no door" in log.read_text()
    finally:
        process.kill()
        process.wait()
