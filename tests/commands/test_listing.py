"""`workbench runs` and `workbench runs prune`: one bad run hides nothing, and nothing goes by a slip of the pen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import workbench

from workbench.files import write_json
from workbench.records.run_folder import RunFolder


def test_an_unreadable_run_does_not_hide_the_others(tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "default"
    for name in ("good", "garbage"):
        spec = {"schema_version": 1, "run": name, "method": "unet", "experiment": "default", "parameters": {},
                "cohort": {"name": "tiny", "phantom": True}}  # fmt: skip
        write_json(runs / name / "spec.json", spec)
        write_json(
            runs / name / "status.json",
            {"state": "queued", "created": "2026-01-01T00:00:00+00:00", "since": "2026-01-01T00:00:00+00:00"},
        )
    (runs / "garbage" / "spec.json").write_text("{ not json")
    done = workbench("runs", "--runs", tmp_path / "runs", "--json")
    rows = {Path(row["run"]).name: row["status"] for row in json.loads(done.stdout)}
    assert rows == {"good": "queued", "garbage": "unreadable"}
    assert done.returncode == 0


def test_a_number_without_interval_is_listed(tmp_path: Path) -> None:
    """One subject gives a mean but no interval."""
    run = tmp_path / "runs" / "default" / "one"
    spec = {"schema_version": 1, "run": "one", "method": "unet", "experiment": "default", "parameters": {},
            "cohort": {"name": "tiny", "phantom": True}}  # fmt: skip
    moment = "2026-01-01T00:00:00+00:00"
    write_json(run / "spec.json", spec)
    write_json(run / "status.json", {"state": "completed", "created": moment, "since": moment})
    nothing = {"value": None, "low": None, "high": None, "n": 1}
    numbers = {"dice WT": nothing | {"value": 0.5}, "auc idh": nothing}
    write_json(run / "headline.json", numbers)
    done = workbench("runs", "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "dice WT 0.500 (no interval, n 1), auc idh not estimable (n 1)" in done.stdout


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for state in ("completed", "failed", "cancelled"):
        spec = {"run": state, "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
        run = RunFolder.create(tmp_path / "e", spec)
        run.claim()
        run.set_status(state)
    return tmp_path


def command(runs: Path, *options: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    parts = [sys.executable, "-m", "workbench.cli", "runs", "prune", "--runs", str(runs), *options]
    return subprocess.run(parts, input=answer, capture_output=True, text=True, timeout=120)


def test_the_command_shows_asks_and_obeys(runs: Path) -> None:
    shown = command(runs, "--state", "failed", "--dry-run", "--json")
    assert shown.returncode == 0
    assert [entry["run"] for entry in json.loads(shown.stdout)["runs"]] == ["e/failed"]
    refused = command(runs, "--state", "failed", answer="n\n")
    assert refused.returncode == 1
    assert "e/failed" in refused.stderr
    assert (runs / "e" / "failed").is_dir()
    done = command(runs, "--state", "failed", answer="y\n")
    assert done.returncode == 0
    assert "removed" in done.stdout
    assert not (runs / "e" / "failed").exists()


def test_a_slip_of_the_pen_removes_nothing_and_is_said(runs: Path) -> None:
    assert command(runs, "--state", "failed", "--keep-last", "-5", "--yes").returncode == 2
    nowhere = command(runs / "typo", "--state", "failed", "--yes")
    assert nowhere.returncode == 1
    assert "there is no runs folder" in nowhere.stderr
    alone = command(runs, "--state", "failed", "--json")  # nobody answers
    assert alone.returncode == 1
    assert "--yes" in alone.stderr
    assert json.loads(alone.stdout)["removed"] is False
    assert (runs / "e" / "failed").is_dir()
