"""What the dashboard's server is started with."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from command_line import workbench

from workbench.commands import serving


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
