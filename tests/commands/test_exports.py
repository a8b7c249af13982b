"""`workbench export` and `workbench import-predictions`: what was written is printed, and a refusal writes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import RunError
from workbench.exchange.export_mlflow import Exported
from workbench.records.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    cohort = {"name": "demo", "fingerprint": "f", "phantom": True, "path": "../../../cohort"}
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {"seed": 3}, "cohort": cohort}
    return RunFolder.create(tmp_path / "runs" / "e", spec)


def test_csv_goes_where_it_is_said(run: RunFolder, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", "csv", str(run.folder), "--out", str(tmp_path / "csv")])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'csv'}\n"
    assert pd.read_csv(tmp_path / "csv" / "runs.csv")["status"].tolist() == ["queued"]


def test_a_run_whose_cohort_is_gone_is_no_bids_dataset(run: RunFolder, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", "bids-derivatives", str(run.folder), "--out", str(tmp_path / "bids")])
    assert isinstance(done.exception, RunError)
    assert "its cohort cannot be read; was it moved?" in str(done.exception)
    assert done.stdout == ""
    assert not (tmp_path / "bids").exists()


def test_mlflow_says_what_is_new(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "workbench.exchange.export_mlflow.export_mlflow",
        lambda *given, **options: asked.append((given, options)) or Exported("sqlite:///x.db", 1, 2),
    )
    words = ["export", "mlflow", str(run.folder), "--tracking-uri", "sqlite:///x.db", "--checkpoints"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (0, "sqlite:///x.db\n")
    assert done.stderr == "1 runs added, 2 were there already\n"
    assert asked == [(([run.folder], None), {"tracking_uri": "sqlite:///x.db", "checkpoints": True})]


def test_what_is_imported_is_printed_as_a_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def import_predictions(folder: Path | None, cohort: Path, name: str, **options: Any) -> SimpleNamespace:
        asked.update(options, folder=folder, cohort=cohort, name=name)
        return SimpleNamespace(folder=run.folder, status={"notes": ["3 cases lack a prediction"]})

    monkeypatch.setattr("workbench.exchange.imported_run.import_predictions", import_predictions)
    words = ["import-predictions", "theirs", "--cohort", "c", "--name", "nnU-Net v2", "--glob", "{case}_pred.nii", "--fold", "2"]
    done = CliRunner().invoke(app, [*words, "--allow-missing"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{run.folder}\n", "note: 3 cases lack a prediction\n")
    assert (asked["folder"], asked["cohort"], asked["name"]) == (Path("theirs"), Path("c"), "nnU-Net v2")
    assert (asked["pattern"], asked["fold"], asked["allow_missing"]) == ("{case}_pred.nii", "2", True)
