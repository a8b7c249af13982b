"""`workbench verify` and `workbench provenance`: what they say, and how they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from repeated_run import change_voxel, elsewhere, make_reruns
from typer.testing import CliRunner

from workbench.commands.reproduce import reproduce_app
from workbench.errors import ParameterError, RunError
from workbench.execution.verification import IDENTICAL


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a run and its perfect rerun; read-only."""
    return make_reruns(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run and its perfect rerun, to be changed."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs" / "demo" / "abc", tmp_path / "runs" / "demo-rerun" / "abc"


def command(*arguments: object) -> Result:
    return CliRunner().invoke(reproduce_app, [str(argument) for argument in arguments])


def test_the_command_says_what_it_found_and_ends_accordingly(pair: tuple[Path, Path]) -> None:
    found = command("verify", *pair, "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["verdict"] == IDENTICAL
    change_voxel(pair[1])
    found = command("verify", *pair)
    assert found.exit_code == 1
    assert "1 voxel, first (0, 0, 0)" in found.stdout
    assert found.stdout.splitlines()[-1].startswith("within tolerance: not the same to the bit")
    elsewhere(pair[1])
    assert command("verify", *pair).exit_code == 0
    assert "environment: packages.torch: 2.13 | 2.14" in command("verify", *pair).stdout
    assert command("verify", *pair, "--tolerance", "masks=0").exit_code == 1
    for wrong in (("--files",), ("--keep",), ("-p", "device=cpu")):
        assert isinstance(command("verify", *pair, *wrong).exception, ParameterError)


def test_the_commands_about_files(pair: tuple[Path, Path]) -> None:
    run = pair[0]
    assert isinstance(command("provenance", run).exception, RunError)
    listed = command("provenance", run, "--record")
    assert listed.exit_code == 0
    assert "environment (2026): 3.11, torch 2.13, 1 thread" in listed.stdout
    assert len([line for line in listed.stdout.splitlines() if "predicted mask" in line]) == 2
    assert command("provenance", run, "metrics.parquet").stdout.startswith("metrics.parquet (voxel metrics): step evaluate")
    assert json.loads(command("provenance", run, "metrics.parquet", "--json").stdout)["made_from"]
    assert command("verify", run, "--files").exit_code == 0
    change_voxel(run)
    found = command("verify", run, "--files")
    assert found.exit_code == 1
    assert "changed: predictions/B.nii.gz" in found.stdout
    assert json.loads(command("verify", run, "--files", "--json").stdout)["changed"] == ["predictions/B.nii.gz"]
