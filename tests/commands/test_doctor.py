"""`workbench doctor`: what this machine lacks is a warning with a way out, and it never stops before all is looked at."""

from __future__ import annotations

import json
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.commands import doctor

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("gib", "state"), [(4.9, "warning"), (5.1, "ok")])
def test_a_disk_that_is_nearly_full(gib: float, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(0, 0, gib * 2**30))
    found = doctor._disk()
    assert found["state"] == state
    assert bool(found["remedy"]) is (state == "warning")


@pytest.mark.parametrize(("gib", "state"), [(7, "warning"), (16, "ok")])
def test_little_memory(gib: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(total=gib * 2**30))
    found = doctor._memory()
    assert found["state"] == state
    assert found["found"].startswith(f"{gib} GiB")


def test_a_library_that_is_not_there_is_an_error_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "monai":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    found = {finding["what"]: finding["state"] for finding in doctor._libraries()}
    assert found.pop("monai") == "error"
    assert len(found) == 6
    assert set(found.values()) == {"ok"}


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warning", 0), ("error", 1)])
def test_the_command_fails_on_errors_only(state: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [{"state": state, "what": "disk", "found": "1.0 GiB", "remedy": "free some space"}]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == code
    assert json.loads(done.stdout) == findings
    assert "free some space" in CliRunner().invoke(app, ["doctor"]).stdout
