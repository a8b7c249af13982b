"""What the dashboard's server is started with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.experiments import serving


def test_a_file_of_the_users_called_app_is_not_taken_for_the_dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    class Server:
        def __init__(self, command: list[str], env: dict[str, str]) -> None:
            self.python, self.env = command[: command.index("-m")], env

        def wait(self) -> int:
            code = [*self.python, "-c", "import app; print(app.__path__[0])"]
            found.append(subprocess.run(code, env=self.env, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout.strip())
            return 0

    (tmp_path / "app.py").write_text("")
    monkeypatch.setattr(serving, "subprocess", SimpleNamespace(Popen=Server))
    serving.serve_app(port=0, runs=tmp_path / "runs")
    assert found == [str(serving.app_folder())]
