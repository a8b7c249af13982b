"""`workbench schedule`: what is wrong is said before anything is stored, and processes of their own do the work."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from schedule_command import TINY, cli, write_sweep

from workbench.cohort.table import Cohort
from workbench.jobs import processes
from workbench.jobs.processes import start
from workbench.schedules import check
from workbench.schedules.occurrences import append_history, read_history
from workbench.schedules.schedule import path_of, read_schedule, write_schedule
from workbench.schedules.ticker import Ticker


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
        (["--sweep", "s.yaml", "--every", "1h", "--", "--executer", "slurm"], "does not take --executer slurm"),
        (["--sweep", "s.yaml", "--every", "1h", "--", "--executor", "slurmm"], "'slurm'"),
        (["--sweep", "s.yaml", "--every", "1h", "--experiment", "a/{stamp}"], "experiment 'a/"),
        (["--sweep", "s.yaml", "--every", "1h", "--experiment", "{time}"], "experiment '{time}' can only have"),
        (["--run", "unet", "--every", "1h", "--notify-command", "no-such-program --to me"], "'no-such-program' is no program"),
        (["--run", "unet", "--every", "1h", "--notify-command", "mail 'me"], "No closing quotation"),
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
    append_history("runs", "n", {"scheduled": row["next"], "notification": "sent"})  # the line with the outcome was torn
    assert cli("list")[0] == 0
    shown = cli("show", "n")[1]
    assert "run unet" in shown
    assert "timeout: none" in shown
    assert [line["notification"] for line in json.loads(cli("history", "n", "--json")[1])] == ["sent"]
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

    monkeypatch.setattr(check, "read_code_version", lambda: "1")  # whoever edits the checkout meanwhile

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
        assert [record["outcome"] for record in read_history(runs, "late")] == ["failed"]
        time.sleep(1.5)
        assert [record["outcome"] for record in read_history(runs, "late")] == ["failed"], "once"
    finally:
        serving.send_signal(signal.SIGTERM)
        said, _ = serving.communicate(timeout=30)
    assert serving.returncode == 0, said
    assert "s.yaml" in said
    assert said.strip().endswith("stopped")
