"""Runs into an MLflow store: a copy for those who look at experiments there. The run folders stay what counts.

Nothing is sent anywhere unless the user names a server: the store is an SQLite file, artefacts are files beside it, and MLflow's
usage statistics are switched off before it is imported.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError, WorkbenchError
from workbench.exchange.export_csv import write_csv
from workbench.exchange.export_tables import PHANTOM_NOTICE, open_runs, refuse_run_folder, summary_table
from workbench.records.run_folder import RunFolder
from workbench.records.spec import run_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_TAG, STAMP_TAG, DONE_TAG, CHECKPOINTS_TAG = (
    "workbench.run", "workbench.stamp", "workbench.exported", "workbench.checkpoints",
)  # fmt: skip
ARTEFACTS = (
    "spec.json", "status.json", "environment.json", "headline.json", "fitted.json", "training.json", "pretrained.json",
    "imported.json", "metrics.parquet", "markers.parquet", "subset_metrics.parquet", "subset_markers.parquet",
    "notebook.ipynb", "report.html", "figures",
)  # fmt: skip
"""What is copied; predictions and maps, which show patients, are not."""

_STATES = {
    "completed": "FINISHED", "failed": "FAILED", "cancelled": "KILLED", "interrupted": "KILLED", "running": "RUNNING",
    "queued": "SCHEDULED",
}  # fmt: skip
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST = 1000, 100, 500
"""Limits of one call, and the longest parameter that every version of MLflow takes."""


@dataclass(frozen=True)
class Exported:
    """What an export did."""

    tracking_uri: str
    added: int
    there: int
    """Runs that stood there already, unchanged."""


def export_mlflow(
    folders: Sequence[str | Path], out: str | Path | None = None, *, tracking_uri: str = "", checkpoints: bool = False
) -> Exported:
    """Copy runs into an MLflow store: one MLflow experiment per experiment, one MLflow run per run.

    A run that is there already is left alone; one that has changed since (its state, when it ended, what it
    holds, e.g. the tables of `workbench robustness`) is written anew.

    Args:
        folders: run folders.
        out: folder for `mlflow.db` and `artifacts/`; with `tracking_uri`, for artefacts only.
        tracking_uri: another store, e.g. `sqlite:///mlflow.db` or a server's address; empty: `mlflow.db` in `out`.
        checkpoints: also copy the checkpoints.

    Raises:
        WorkbenchError: MLflow is not installed, or refuses; neither folder nor store is given.
        RunError: a folder is no run.
    """
    if not (out or tracking_uri):
        raise WorkbenchError("say where to: --out FOLDER, or --tracking-uri of an MLflow store of your own")
    runs = open_runs(folders)
    root = None if out is None else Path(out).resolve()
    if root is not None:
        refuse_run_folder(root)
        root.mkdir(parents=True, exist_ok=True)
    uri = tracking_uri or f"sqlite:///{root}/mlflow.db"
    client = _client(uri)
    from mlflow.exceptions import MlflowException

    added = 0
    try:
        for run in runs:
            added += _export(client, run, root, checkpoints)
    except MlflowException as error:
        raise WorkbenchError(f"MLflow store {uri}: {error}") from error
    return Exported(uri, added, len(runs) - added)


def _client(uri: str) -> MlflowClient:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a server that is not there is said soon: 7 take minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise WorkbenchError(f"MLflow is not installed ({error}): pip install 'brain-mri-workbench[mlflow]'") from error
    try:
        return MlflowClient(tracking_uri=uri)
    except (MlflowException, ImportError) as error:
        raise WorkbenchError(f"MLflow store {uri} cannot be opened: {error}") from error


def _export(client: MlflowClient, run: RunFolder, root: Path | None, checkpoints: bool) -> bool:
    """Write one run; False where it stood there already."""
    spec, status, state = run.spec, run.status, run.effective_state()
    experiment = _experiment(client, str(spec["experiment"]), root)
    there = [artefact for artefact in ARTEFACTS if (run.folder / artefact).exists()]
    stamp = f"{state} {status.get('finished') or status.get('since', '')}, {len(there)} artefacts"  # some are made later
    found = client.search_runs([experiment], filter_string=f"tags.`{RUN_TAG}` = '{spec['run']}'")
    kept = None
    for old in found:
        tags = old.data.tags
        if kept is None and tags.get(STAMP_TAG) == stamp and tags.get(DONE_TAG) == "true":
            kept = old
        else:
            client.delete_run(old.info.run_id)  # half written, or of an earlier state
    if kept is not None:
        if checkpoints and kept.data.tags.get(CHECKPOINTS_TAG) != "true":
            _log_checkpoints(client, kept.info.run_id, run)
        return False
    started = _milliseconds(status.get("started") or status.get("created"))
    name = f"{run_name(spec)}·{spec['run'][:6]}"
    made = client.create_run(experiment, start_time=started, tags=_tags(run, state, stamp), run_name=name).info.run_id
    _log_parameters(client, made, spec["parameters"])
    _log_metrics(client, made, list(_metrics(run, started)))
    for artefact in there:
        path = run.folder / artefact
        if path.is_dir():
            client.log_artifacts(made, str(path), artifact_path=artefact)
        else:
            client.log_artifact(made, str(path))
    with tempfile.TemporaryDirectory() as folder:
        write_csv(summary_table(run), Path(folder) / "summary.csv")
        client.log_artifact(made, str(Path(folder) / "summary.csv"))
    if checkpoints:
        _log_checkpoints(client, made, run)
    client.set_tag(made, DONE_TAG, "true")
    client.set_terminated(made, _STATES.get(state, "KILLED"), end_time=_milliseconds(status.get("finished")) or started)
    return True


def _experiment(client: MlflowClient, name: str, root: Path | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None if root is None else (root / "artifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage == "deleted":
        raise RunError(
            f"MLflow experiment '{name}' was deleted there: restore it (or `mlflow gc`) before exporting into it again"
        )
    return str(found.experiment_id)


def _tags(run: RunFolder, state: str, stamp: str) -> dict[str, str]:
    spec, cohort = run.spec, run.spec["cohort"]
    tags = {
        RUN_TAG: spec["run"], STAMP_TAG: stamp, "workbench.method": spec["method"], "workbench.state": state,
        "workbench.cohort": cohort["name"], "workbench.fingerprint": cohort["fingerprint"],
        "workbench.phantom": str(bool(cohort["phantom"])).lower(), "workbench.code_version": spec["code_version"],
    }  # fmt: skip
    if cohort["phantom"]:
        tags["mlflow.note.content"] = PHANTOM_NOTICE
    if derived := spec.get("derived"):
        tags["workbench.derived"] = f"{derived.get('kind', '')} {' '.join(derived.get('parents', []))}".strip()
    return tags


def _log_parameters(client: MlflowClient, run_id: str, parameters: dict[str, Any]) -> None:
    from mlflow.entities import Param

    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
    rows = [Param(name, text if len(text) <= _LONGEST else "long: see spec.json") for name, text in texts.items()]
    for start in range(0, len(rows), _MOST_PARAMETERS):
        client.log_batch(run_id, params=rows[start : start + _MOST_PARAMETERS])


def _log_metrics(client: MlflowClient, run_id: str, rows: list[tuple[str, float, int, int]]) -> None:
    from mlflow.entities import Metric

    for start in range(0, len(rows), _MOST_METRICS):
        batch = [Metric(name, value, moment, step) for name, value, moment, step in rows[start : start + _MOST_METRICS]]
        client.log_batch(run_id, metrics=batch)


def _metrics(run: RunFolder, moment: int) -> Iterator[tuple[str, float, int, int]]:
    """(name, value, time, step): training scalars, then 'test/dice WT' and its /low, /high, /n; what is unknown is left out."""
    for name, step, value in run.events().itertuples(index=False, name=None):
        if math.isfinite(value):
            yield _key(name), float(value), moment, int(step)
    for row in summary_table(run).to_dict("records"):
        name = _key(f"{row['split']}/{row['metric']} {row['of']}")
        if not math.isfinite(row["value"]):
            continue
        yield name, float(row["value"]), moment, 0
        yield f"{name}/n", float(row["n"]), moment, 0
        for end in ("low", "high"):
            if math.isfinite(row[end]):
                yield f"{name}/{end}", float(row[end]), moment, 0


def _key(name: str) -> str:
    """A metric's name in the characters that MLflow takes."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-. /:") else "_" for letter in name)


def _log_checkpoints(client: MlflowClient, run_id: str, run: RunFolder) -> None:
    if (run.folder / "checkpoints").is_dir():
        client.log_artifacts(run_id, str(run.folder / "checkpoints"), artifact_path="checkpoints")
        client.set_tag(run_id, CHECKPOINTS_TAG, "true")


def _milliseconds(moment: Any) -> int:
    """Milliseconds since the epoch of an ISO 8601 time; 0 where there is none."""
    try:
        return int(datetime.fromisoformat(str(moment)).timestamp() * 1000)
    except ValueError:
        return 0
