"""`workbench sweep`: a dry run writes nothing, and an option that would do nothing is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.commands.sweeps import _estimate_text
from workbench.errors import ParameterError
from workbench.sweeps.estimate import Estimate

HEAD = "experiment: e\nmethods: [unet]\n"


def cli(*words: str) -> Any:
    return CliRunner().invoke(app, ["sweep", *words])


def test_a_dry_run_writes_nothing(tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(HEAD + "folds: all\n")
    found = cli("sweep.yaml", "--dry-run")
    assert found.exit_code == 0, found.output
    assert found.stdout.count("missing      unet · baseline · fold ") == 5
    assert f"first the embedded phantom is made, in {tmp_path / 'cohorts' / 'phantom-2mm'}" in found.stdout
    assert "5 runs on cohort phantom-2mm (phantom), 5 to run" in found.stdout
    shutil.copytree(cohort, "undealt", ignore=shutil.ignore_patterns("folds.json"))
    found = cli("sweep.yaml", "--dry-run", "--cohort", "undealt", "--json")
    assert found.exit_code == 0, found.output
    assert [run["fold"] for run in json.loads(found.stdout)["runs"]] == [0, 1, 2, 3, 4]
    assert not {path.name for path in tmp_path.rglob("*")} & {"cohorts", "runs", "folds.json"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--partition", "gpu", "--time", "1:00:00"], r"--partition, --time: SLURM's.*add --executor slurm"),
        (["--executor", "debug", "--sbatch", "constraint=a100"], "--sbatch: SLURM's"),
        (["--executor", "slurm", "--slots", "2"], "--slots are those of this machine: leave it out with --executor slurm"),
        (["--print"], "goes with --executor slurm"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(cohort: Path, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "sweep.yaml").write_text(HEAD)
    found = cli(str(tmp_path / "sweep.yaml"), "--runs", str(tmp_path / "runs"), "--cohort", str(cohort), *words)
    assert isinstance(found.exception, ParameterError)
    assert re.search(said, str(found.exception))


def test_a_printed_script_can_be_one_json_document(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(HEAD)
    words = [str(tmp_path / "sweep.yaml"), "--runs", str(tmp_path / "runs"), "--cohort", str(cohort), "--print"]
    found = cli(*words, "--executor", "slurm", "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["sweep"] == "sweep"
    assert len(document["runs"]) == 1
    assert document["script"].startswith("#!/bin/bash\n")
    assert not (tmp_path / "runs").exists()
    assert cli(*words, "--executor", "kubernetes").exit_code == 2


def test_how_an_estimate_is_said() -> None:
    whole = Estimate(4, 80.0, 6_000_000, 4, 5_000_000_000, ())
    assert _estimate_text(whole, 1) == "time: about 80 s of runs; disk: about 6.0 MB of 5.0 GB free"
    assert "about 80 s of runs, 20 s with 4 at once" in _estimate_text(whole, 16)
    assert "WARNING" not in _estimate_text(whole, 1)
    partly = Estimate(4, 80_000.0, 6_000_000_000, 3, 5_000_000_000, ("masm paper",))
    text = _estimate_text(partly, 2)
    assert "22.2 h of runs, 11.1 h with 2 at once; disk: about 6.0 GB of 5.0 GB free" in text
    assert "(judged by 3 of 4 runs: none finished of masm paper). WARNING: that does not fit" in text
    assert _estimate_text(Estimate(2, None, None, 0, 1, ("unet demo",)), 1) == (
        "time and disk: unknown, there is no finished run of unet demo to go by"
    )
    assert _estimate_text(Estimate(0, None, None, 0, 1, ()), 1) == "nothing to do"


def test_very_many_runs_are_refused_where_nobody_can_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    many = list(range(1, 101))
    file.write_text(f"experiment: many\nmethods: [unet]\nparameters: {{epochs: {many}, width: {many}, patience: {many}}}\n")
    done = CliRunner().invoke(app, ["sweep", str(file), "--dry-run"])
    assert done.exit_code != 0
    assert "many.yaml asks for 1,000,000 runs" in str(done.exception)
    assert done.stdout == ""
