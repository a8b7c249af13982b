"""Units of systemd and the line of a crontab."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.schedules.units import UNIT, crontab_line, service_unit, timer_unit


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
