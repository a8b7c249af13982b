"""A run folder becomes an `Experiment` again: to add to it what is made from its weights, or to look at it in JupyterLab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from workbench.contracts import JUDGED, PRETRAINING
from workbench.errors import ParameterError, RunError
from workbench.evaluation.robustness import markers_by_subset, segmentation_by_subset
from workbench.experiments.experiment import Experiment
from workbench.models.catalogue import CARDS, card
from workbench.records.run_folder import RunFolder
from workbench.records.spec import IMPORTED, POOLED, run_name
from workbench.sampling.corruption import noise_in_words
from workbench.setup.parameters import ExperimentParameters, as_recorded
from workbench.steps.corrupted_cases import CLEAN, corrupted_rows, corrupted_table
from workbench.steps.sensitivity import UNDISTURBED, sensitivity_rows, sensitivity_table
from workbench.steps.subsets import evaluate_subsets


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
    parameters = ExperimentParameters.build(run.spec["method"], as_recorded(run.spec["method"], run.parameters_here()))
    run.unchanged_cohort("cannot be opened again")
    if parameters.resolve().identity() != run.spec["parameters"]:
        raise RunError(
            f"run {run.folder} cannot be opened again: it was made by another version of the workbench "
            f"({run.spec['code_version']}), whose parameters are not these"
        )
    return Experiment(parameters, progress=progress, derived=run.spec.get("derived"))


def robustness_of(folders: Sequence[str | Path], *, split: str = "test") -> pd.DataFrame:
    """Mean Dice and AUC of runs under every subset, judged now where that was not done before (all cases then).

    Args:
        folders: run folders.
        split: test or external.

    Returns:
        run, method, present, judged by ('dice WT', 'auc idh', ...), value, low, high, n, n_subjects.

    Raises:
        RunError: a run is not trained, pretrains, has no network, or its cohort changed.
    """
    if split not in JUDGED:
        raise ParameterError(f"split '{split}' is not judged under subsets; there are test and external")
    rows = []
    for folder in folders:
        run = RunFolder.open(folder)
        entry = CARDS.get(run.spec["method"])  # imported predictions have none
        if entry is not None and PRETRAINING in entry.tasks:
            raise RunError(
                f"run {run.folder} is of {run.spec['method']}, which pretrains and predicts nothing that could be judged"
            )
        if run.subset_markers() is None:
            evaluate_subsets(reopen(folder), every=True)
        metrics, markers = run.subset_metrics(), run.subset_markers()
        assert metrics is not None
        assert markers is not None
        named = {"run": run.spec["run"], "method": run_name(run.spec)}
        dice = segmentation_by_subset(metrics[(metrics["split"] == split) & (metrics["metric"] == "dice")])
        dice = dice.assign(**{"judged by": "dice " + dice["region"].astype(str)})
        auc = markers_by_subset(markers[markers["split"] == split])
        auc = auc.assign(**{"judged by": "auc " + auc["marker"].astype(str) + " " + auc["class"].astype(str)})
        columns = ["present", "judged by", "value", "low", "high", "n", "n_subjects"]
        rows.append(
            pd.concat([part[columns] for part in (dice, auc) if len(part)] or [pd.DataFrame(columns=columns)]).assign(**named)
        )
    return pd.concat(rows, ignore_index=True)[["run", "method", *columns]]


def sensitivity_of(folders: Sequence[str | Path]) -> pd.DataFrame:
    """Train x test: Dice and AUC of runs on clean and on corrupted test cases, judged now where that was not done before.

    Args:
        folders: run folders.

    Returns:
        run, method, trained on, test, judged by ('dice WT', 'auc idh mutant', ...), value, low, high, n. `test` names what is
        wrong with the test cases: 'clean', of `corrupted_cases.TESTS` (Dice) or of `sensitivity.DISTURBANCES` (AUC).

    Raises:
        RunError: a run is not trained, pretrains, has no network, or its cohort changed.
    """
    columns = ["test", "judged by", "value", "low", "high", "n"]
    rows = []
    for folder in folders:
        entry = CARDS.get(RunFolder.open(folder).spec["method"])
        if entry is not None and PRETRAINING in entry.tasks:
            raise RunError(f"run {folder} is of {entry.name}, which pretrains and predicts nothing that could be judged")
        experiment = reopen(folder)
        p, parts = experiment.parameters, []
        if experiment.segments:
            dice = corrupted_table(corrupted_rows(experiment))
            parts.append(dice.assign(**{"judged by": "dice " + dice["region"].astype(str)}))
        if experiment.markers:
            auc = sensitivity_table(sensitivity_rows(experiment))
            auc = auc.rename(columns={"auc": "value"}).assign(test=auc["disturbance"].replace(UNDISTURBED, CLEAN))
            parts.append(auc.assign(**{"judged by": "auc " + auc["marker"].astype(str) + " " + auc["class"].astype(str)}))
        trained_on = noise_in_words(p.mask_noise, p.mask_noise_mm, p.mask_noise_share, p.misregistration)
        named = {"run": experiment.run.spec["run"], "method": run_name(experiment.run.spec), "trained on": trained_on}
        found = [part[columns] for part in parts if len(part)]
        rows.append((pd.concat(found) if found else pd.DataFrame(columns=columns)).assign(**named))
    return pd.concat(rows, ignore_index=True)[["run", "method", "trained on", *columns]]
