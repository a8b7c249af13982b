"""Runs in an MLflow store: nothing doubled, nothing sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.errors import RunError, WorkbenchError
from workbench.exchange.export_mlflow import export_mlflow
from workbench.files import read_json, write_json
from workbench.records.run_folder import RunFolder


@pytest.mark.slow
def test_mlflow_gets_every_run_once(runs: list[RunFolder], tmp_path: Path) -> None:
    folders = [run.folder for run in runs]
    done = export_mlflow(folders, tmp_path / "ml")
    assert (done.added, done.there) == (2, 0)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'ml'}/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    found = {run.data.tags["workbench.run"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {run.folder.name for run in runs}
    first, failed = (found[run.folder.name] for run in runs)
    assert (first.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert first.info.run_name == f"mts_unet·{runs[0].folder.name[:6]}"
    assert first.data.params["seed"] == "2"
    assert first.data.params["note"] == "long: see spec.json"
    assert first.data.tags["workbench.phantom"] == "true"
    values = runs[0].metrics().query("split == 'test' and region == 'WT' and metric == 'dice'")["value"]
    assert first.data.metrics["test/dice WT"] == pytest.approx(values.mean())
    assert first.data.metrics["test/dice WT/n"] == 30
    assert first.data.metrics["test/dice WT/low"] < values.mean()
    events = runs[0].events().query("name == 'train/dice_ce'")
    history = {point.step: point.value for point in client.get_metric_history(first.info.run_id, "train/dice_ce")}
    assert history == pytest.approx(dict(zip(events["step"], events["value"], strict=True)))
    kept = {path.path for path in client.list_artifacts(first.info.run_id)}
    assert {"spec.json", "metrics.parquet", "markers.parquet", "summary.csv", "figures"} <= kept
    assert "checkpoints" not in kept
    assert Path(first.info.artifact_uri.removeprefix("file://")).is_relative_to(tmp_path / "ml")
    # again: nothing doubled; with checkpoints: only these
    assert export_mlflow(folders, tmp_path / "ml").added == 0
    assert export_mlflow(folders, tmp_path / "ml", checkpoints=True).added == 0
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert "checkpoints" in {path.path for path in client.list_artifacts(first.info.run_id)}
    # a run that went on is written anew
    status = read_json(runs[1].path("status.json"))
    write_json(runs[1].path("status.json"), status | {"state": "cancelled", "finished": "2030-01-01T00:00:00+00:00"})
    try:
        assert export_mlflow(folders, tmp_path / "ml").added == 1
    finally:
        write_json(runs[1].path("status.json"), status)
    # and one that was judged further, whose end is what it was
    runs[0].path("report.html").write_text("later")
    try:
        assert export_mlflow([runs[0].folder], tmp_path / "ml").added == 1
    finally:
        runs[0].path("report.html").unlink()
    assert len(client.search_runs([experiment.experiment_id])) == 2


_WITHOUT_NETWORK = """
import socket, sys, time
attempts = []
def refuse(self, address):
    if self.family != socket.AF_UNIX:
        attempts.append(address)
        raise OSError("no network here")
def unknown(host, *_, **__):
    attempts.append(host)
    raise OSError("no names here")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = unknown
from workbench.exchange.export_mlflow import export_mlflow
assert export_mlflow([sys.argv[1]], sys.argv[2]).added == 1
time.sleep(3)  # MLflow asks for its settings from a thread
print(attempts)
"""


@pytest.mark.slow
def test_mlflow_sends_nothing(runs: list[RunFolder], tmp_path: Path) -> None:
    """In a process of its own: MLflow switches its statistics off by itself where it sees pytest or a CI."""
    hidden = ("PYTEST", "CI", "MLFLOW", "DO_NOT_TRACK", "GITHUB", "JENKINS", "BUILD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    command = [sys.executable, "-c", _WITHOUT_NETWORK, str(runs[1].folder), str(tmp_path / "ml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"


def test_mlflow_that_is_not_there_is_said(runs: list[RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(WorkbenchError, match=r"pip install 'brain-mri-workbench\[mlflow\]'"):
        export_mlflow([runs[0].folder], tmp_path / "ml")
    with pytest.raises(WorkbenchError, match="--out"):
        export_mlflow([runs[0].folder])
    with pytest.raises(RunError):
        export_mlflow([tmp_path / "nothing"], tmp_path / "ml")
