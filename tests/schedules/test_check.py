"""Schedules checked when they are added, what they start, and their fingerprints."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from schedule_command import TINY, cli, write_sweep

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError
from workbench.schedules import check
from workbench.schedules.check import command_of, experiment_name, fingerprint, make_schedule
from workbench.schedules.schedule import read_schedule

START = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    monkeypatch.setattr(check, "read_code_version", lambda: "1")
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
    monkeypatch.setattr(check, "read_code_version", lambda: "2")
    assert fingerprint(asked, home / "runs")["code"] == "2"


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


def test_fewer_folds_of_a_sweep_are_checked_and_fingerprinted(tiny_cohort: Cohort, home: Path) -> None:
    write_sweep(Path("s.yaml"), tiny_cohort.folder)
    found = []
    for folds in ("0", "0,1"):
        schedule = make_schedule("n", runs="runs", sweep="s.yaml", every="1d", arguments=("--folds", folds, "--yes"))
        found.append(fingerprint(schedule, "runs")["sweep"])
    assert found[0] != found[1]
    with pytest.raises(ParameterError, match="fold 9: cohort tiny has folds 0 to 4"):
        make_schedule("n", runs="runs", sweep="s.yaml", every="1d", arguments=("--folds=9",))
    assert "-psize=demo cannot be passed on" in cli("add", "n", "--sweep", "s.yaml", "--every", "1d", "--", "-psize=demo")[1]
