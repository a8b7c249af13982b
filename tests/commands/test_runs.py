"""`workbench run` and what is made of runs: what is wrong is said before a kernel starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import workbench
from typer.testing import CliRunner

from workbench.cli import app
from workbench.jobs import processes
from workbench.records.run_folder import RunFolder


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-p", "epoch=3"], "did you mean 'epochs'"), (["-p", "epochs=abc"], "'epochs' = 'abc'"),
        (["-p", "epochs"], "NAME=VALUE"),
        (["-p", "fold=77"], "folds 0 to"), (["-p", "modalities=t9"], "t9"),
    ],
)  # fmt: skip
def test_bad_parameters_stop_before_a_kernel_starts(cohort: Path, tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = workbench("run", "unet", "--cohort", cohort, "--runs", tmp_path / "runs", *arguments)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").rglob("*.ipynb"))


def test_unknown_method_and_missing_cohort(tmp_path: Path) -> None:
    done = workbench("run", "resnet", cwd=tmp_path)
    assert (done.returncode, "unet" in done.stderr) == (1, True)
    done = workbench("run", "unet", "--cohort", tmp_path / "nothing")
    assert (done.returncode, "cohort phantom" in done.stderr) == (1, True)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    return RunFolder.create(tmp_path / "e", spec)


def test_a_run_elsewhere_is_asked_to_stop_and_the_user_told(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.claim()
    run.set_status("running", host="elsewhere")
    monkeypatch.setattr(processes, "_wait", lambda *_: None)
    asked = CliRunner().invoke(app, ["cancel", str(run.folder)])
    assert asked.stdout == "running\n"
    assert "it runs on elsewhere and was asked to stop" in asked.stderr
    assert run.should_stop()
