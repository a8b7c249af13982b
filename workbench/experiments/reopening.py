"""A run folder becomes an `Experiment` again: to add to it what is made from its weights, or to look at it in JupyterLab."""

from __future__ import annotations

from pathlib import Path

from workbench.cohort.table import Cohort
from workbench.errors import RunError, WorkbenchError
from workbench.experiments.experiment import Experiment
from workbench.experiments.parameters import ExperimentParameters
from workbench.models.catalogue import card
from workbench.records.run_folder import RunFolder
from workbench.records.spec import IMPORTED, POOLED


def reopen(folder: str | Path, *, progress: bool | None = None) -> Experiment:
    """The experiment of a run, as its `spec.json` says.

    Args:
        folder: the run folder.
        progress: as for `Experiment`.

    Raises:
        RunError: no such run, one of a method without a network, or its cohort is not what it was.
    """
    run = RunFolder.open(folder)
    kind = (run.spec.get("derived") or {}).get("kind")
    if kind == IMPORTED:
        raise RunError(f"run {run.folder} holds imported predictions: there is no network to ask again")
    if kind == POOLED:
        parents = ", ".join(run.spec["derived"]["parents"])
        raise RunError(f"run {run.folder} is made of the folds {parents}: there is no one network to ask again, ask these")
    if not card(run.spec["method"]).network:
        raise RunError(f"run {run.folder} is of {run.spec['method']}, which has no network to ask again")
    where = run.folder.resolve()
    values = {name: value for name, value in run.spec["parameters"].items() if name != "method"} | {
        "cohort": str(run.cohort_path), "runs": str(where.parents[1]), "experiment": where.parent.name,
    }  # fmt: skip
    parameters = ExperimentParameters.build(run.spec["method"], values)
    try:
        fingerprint = Cohort.open(run.cohort_path).fingerprint()
    except WorkbenchError as error:
        raise RunError(f"run {run.folder} cannot be opened again: its cohort cannot be read; was it moved? {error}") from error
    if fingerprint != run.spec["cohort"]["fingerprint"]:
        raise RunError(f"run {run.folder} cannot be opened again: its cohort {run.cohort_path} is not what it was then")
    if parameters.resolve().identity() != run.spec["parameters"]:
        raise RunError(
            f"run {run.folder} cannot be opened again: it was made by another version of the workbench "
            f"({run.spec['code_version']}), whose parameters are not these"
        )
    return Experiment(parameters, progress=progress, derived=run.spec.get("derived"))
