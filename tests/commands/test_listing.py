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
    """One subject gives a mean but no interval, and an older version's numbers are of all cases."""
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
    assert "1 of these runs wrote their numbers down with an older version" in done.stderr
    wide = {"low": 0.3, "high": 0.7, "n": 9, "n_subjects": 8}
    write_json(run / "headline.json", {
        "dice ET": wide | {"value": 0.5}, "hd95 ET": wide | {"value": 3.25, "high": 9.5, "n_subjects": 40},
        "found ET": wide | {"value": 8 / 9}, "false ET": wide | {"value": 0.0, "n": 2, "n_subjects": 2},
    })  # fmt: skip
    done = workbench("runs", "--runs", tmp_path / "runs")
    assert "dice ET 0.500 (0.300 to 0.700, rough, n 9), hd95 ET median 3.250 (0.300 to 9.500, n 9)" in done.stdout
    assert "found ET 8 of 9, false ET 0 of 2" in done.stdout
    assert "older version" not in done.stderr


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
