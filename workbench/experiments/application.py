"""A trained run applied to another cohort: masks on the native grid and `markers.csv`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from tqdm.auto import tqdm

from workbench.cohort.merge import names_in_merges
from workbench.cohort.table import Cohort
from workbench.errors import InputError, Problem, RunError
from workbench.evaluation.markers import class_rows, log_odds
from workbench.experiments.radiomics_features import MaskSource, measure, predicted_masks
from workbench.experiments.radiomics_refit import refit
from workbench.files import atomic_path, read_json, write_json
from workbench.models.brainfm.open_channels import OpenChannels
from workbench.models.catalogue import card
from workbench.models.method import MethodModule
from workbench.models.pretrained.seen import Seen
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.records.run_folder import TRAINING_FILE, RunFolder
from workbench.setup.contamination import judge
from workbench.setup.parameters import ExperimentParameters
from workbench.steps.fold_models import load_members, member_runs, predict_together
from workbench.steps.prediction import reference_image, write_case

PREDICTED_BY_FILE = "predicted_by.json"
"""Says in a folder of predictions which run made them, on which cohort."""


def predict_cohort(run_folder: str | Path, cohort_folder: str | Path, out: str | Path) -> Path:
    """Predict every case of a cohort with a trained run; of a pooled run with the models of its folds together.

    Args:
        run_folder: a trained run, or a pooled one: then the mean of the folds' probabilities, voxels and markers alike.
        cohort_folder: the cohort; needs no masks or markers. Sequences the model knows and the cohort lacks count as
            missing; what it does not know is shown only to a method that takes any sequences.
        out: folder for `<case>.nii.gz`, `<case>.json` and `markers.csv`; cases already there are not repeated. It holds the
            predictions of one run on one cohort, named in `predicted_by.json`.

    Warns:
        UserWarning: the run's weights have seen, or may have seen, subjects of this cohort; it has sequences that the model is
            not shown.

    Raises:
        RunError: the run is not trained, has no model (imported predictions), its folds are gone or do not go together, or `out`
            holds the predictions of another run or of another cohort.
        InputError: a case has none of the model's sequences.
    """
    run, cohort, out = RunFolder.open(run_folder), Cohort.open(cohort_folder), Path(out)
    runs = member_runs(run)
    _refuse_mixture(run, cohort, out)
    if not card(runs[0].spec["method"]).network:
        return _predict_without_network(run, runs, cohort, out)
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    members = load_members(runs)
    modalities = shown_modalities(members[0].model, cohort, members[0].parameters)
    check_sequences(cohort, modalities, members[0].model.unknown)
    for member in members:
        _warn_of_seen(member.run, cohort, Seen.model_validate(member.described.get("seen", {})))
    prepared = prepare_cohort(cohort, PrepareSettings(spacing=members[0].parameters.spacing), progress=True)
    write_json(out / PREDICTED_BY_FILE, _predicted_by(run, cohort))
    for name in tqdm(list(cohort.cases["case"]), desc="predicting"):
        if (out / f"{name}.json").is_file():
            continue
        case = prepared.case(name)
        write_case(predict_together(members, case, modalities), case, out, reference_image(cohort, name))
    _write_markers(cohort, out)
    return out


def shown_modalities(model: MethodModule, cohort: Cohort, parameters: ExperimentParameters) -> tuple[str, ...]:
    """The sequences of a cohort that a trained model is shown: its own, in their order.

    A model that takes any sequences is shown all others that the cohort has, too, unless the run names its `modalities`.

    Raises:
        ParameterError: it would be shown one that its modality embedding, one-hot, has no vector for.
    """
    own = model.modalities
    if not isinstance(model, OpenChannels) or parameters.modality_names():
        return own
    others = tuple(name for name in cohort.modalities if name not in own)
    model.check_vocabulary(others)
    return (*own, *others)


def _predict_without_network(run: RunFolder, runs: list[RunFolder], cohort: Cohort, out: Path) -> Path:
    """`markers.csv` and a JSON per case of a fitted radiomics run, or of the folds of one: the mean of their probabilities."""
    tables = []
    for member in runs:
        training = read_json(member.folder / TRAINING_FILE)
        check_sequences(cohort, tuple(training["modalities"]), MethodModule.unknown)
        _warn_of_seen(member, cohort, Seen.model_validate(training["seen"]))
        tables.append(predict_radiomics(member, cohort, out if len(runs) == 1 else out / "folds" / member.folder.name))
    if len({tuple(table.columns) for table in tables}) > 1:
        raise RunError(f"run {run.folder}: its folds predict different markers, so that there is no mean of them")
    write_json(out / PREDICTED_BY_FILE, _predicted_by(run, cohort))
    logits_of = tables[0]
    if len(tables) > 1:
        mean = sum(expit(table.to_numpy(float)) for table in tables) / len(tables)
        logits_of = pd.DataFrame(log_odds(mean), tables[0].index, tables[0].columns)
    for case, logits in logits_of.iterrows():
        write_json(out / f"{case}.json", {"markers": {marker: [float(value)] for marker, value in logits.items()}})
    _write_markers(cohort, out)
    return out


def _warn_of_seen(run: RunFolder, cohort: Cohort, seen: Seen) -> None:
    verdict = judge(seen, cohort.info, map(str, cohort.cases["subject"]), names_in_merges(cohort))
    if verdict.verdict != "clean":
        warnings.warn(f"run {run.folder.name} on cohort {cohort.info.name}: {verdict.sentence}", stacklevel=3)


def _predicted_by(run: RunFolder, cohort: Cohort) -> dict[str, str]:
    return {
        "run": run.spec["run"], "method": run.spec["method"], "cohort": cohort.info.name,
        "fingerprint": cohort.fingerprint(),
    }  # fmt: skip


def _refuse_mixture(run: RunFolder, cohort: Cohort, out: Path) -> None:
    """Cases that are there already are taken over: they must be this run's, on this cohort (all phantoms name their cases alike).

    Raises:
        RunError: they are others', or nothing says whose they are.
    """
    path, remedy = out / PREDICTED_BY_FILE, "give another --out, or remove that folder"
    if path.is_file():
        there = read_json(path)
        if there != _predicted_by(run, cohort):
            raise RunError(
                f"{out} holds predictions of run {there['run']} ({there['method']}) on cohort {there['cohort']} as it was then, "
                f"not of run {run.spec['run']} on cohort {cohort.info.name} as it is now: {remedy}"
            )
    elif any((out / f"{name}.json").exists() for name in cohort.cases["case"]):
        raise RunError(f"{out} holds cases of this cohort, and nothing says which run predicted them: {remedy}")


def check_sequences(cohort: Cohort, modalities: tuple[str, ...], unknown: str) -> None:
    """Say what of a cohort a trained model is not shown.

    Args:
        cohort: the cohort to predict.
        modalities: the sequences that the model is shown.
        unknown: what to do about another sequence (`MethodModule.unknown`).

    Warns:
        UserWarning: the cohort has other sequences.

    Raises:
        InputError: a case has none of `modalities`.
    """
    known = [name for name in modalities if name in cohort.modalities]
    blind = cohort.cases[~cohort.cases[known].notna().any(axis=1)]["case"] if known else cohort.cases["case"]
    if len(blind):
        message = f"has none of the sequences the model was built for: {', '.join(modalities)}"
        remedy = f"leave the case out with `workbench cohort filter`, or: {unknown}"
        raise InputError(*(Problem(case=str(case), message=message, remedy=remedy) for case in blind))
    if others := [name for name in cohort.modalities if name not in modalities]:
        text = f"cohort {cohort.info.name}: {', '.join(others)} is not shown to the model, which was built for"
        warnings.warn(f"{text} {', '.join(modalities)}: {unknown}", stacklevel=3)


def _write_markers(cohort: Cohort, out: Path) -> None:
    rows = []
    for _, row in cohort.cases.iterrows():
        for marker, logits in read_json(out / f"{row['case']}.json")["markers"].items():
            for name, truth, logit, probability in class_rows(marker, row[marker], np.asarray(logits, dtype=float)):
                rows.append((row["case"], row["subject"], marker, name, truth, logit, probability))
    table = pd.DataFrame(rows, columns=["case", "subject", "marker", "class", "truth", "logit", "probability"])
    with atomic_path(out / "markers.csv") as temporary:
        table.to_csv(temporary, index=False)


def predict_radiomics(run: RunFolder, cohort: Cohort, out: Path) -> pd.DataFrame:
    """Apply a fitted run to every case of another cohort: a column of logits per marker, index = case.

    Tumours are measured as in the run: in the cohort's own masks, in the brain, or in masks that the run's mask run predicts
    first, into `out`.

    Raises:
        RunError: the run is not fitted, or its mask run is gone.
        InputError: a case has no mask, where the run measures reference masks.
    """
    training, parameters = read_json(run.path(TRAINING_FILE)), run.spec["parameters"]
    modalities = tuple(training["modalities"])
    source = MaskSource(training["mask_source"])
    if source.kind == "predicted":
        segmenter = RunFolder.open(run.folder.parents[1] / parameters["mask_run"])
        source = predicted_masks(segmenter, predict_cohort(segmenter.folder, cohort.folder, out / "masks"))
    elif source.kind == "truth":
        bare = cohort.cases[cohort.cases["segmentation"].isna()]["case"]
        if len(bare):
            remedy = "give the cohort masks, or repeat the run with mask_source=predicted or brain"
            raise InputError(*(Problem(case=str(case), message="has no mask to measure", remedy=remedy) for case in bare))
    prepared = prepare_cohort(cohort, PrepareSettings(spacing=parameters["spacing"]), progress=True)
    table = measure(cohort, prepared, cohort.cases, modalities, source, bool(parameters["texture"]))
    classifier = parameters["classifier"]
    return pd.DataFrame(
        {marker: refit(run, marker, classifier).logit(table) for marker in training["markers"]}, index=table.index
    )
