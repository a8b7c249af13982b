"""Other people's predictions as a run: judged by the same code, standing in the same tables and plots as our own.

Masks are taken as they are, on the grid of the cohort's images; nothing is resampled, repaired or left out in silence. All
problems are listed before anything is written.
"""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.cohort.folds import EXTERNAL as EXTERNAL_SPLIT
from workbench.cohort.folds import TEST, TRAIN, external_subjects, make_folds, read_folds
from workbench.cohort.table import FOLDS_FILE, Cohort
from workbench.contracts import JUDGED
from workbench.errors import InputError, ParameterError, Problem
from workbench.evaluation.decisions import fitted_artefact
from workbench.evaluation.segmentation import case_metrics
from workbench.evaluation.thresholds import ALL_FOLDS
from workbench.exchange.imported_masks import find_masks, stage_mask
from workbench.exchange.imported_probabilities import missing_rows, read_probabilities, with_truth
from workbench.files import file_digest, value_digest, write_json, write_parquet
from workbench.geometry import Grid
from workbench.labels import LABEL_SET_CLASSES, convention, judged_regions
from workbench.prepare.images import native_brain, native_labels
from workbench.records.environment import code_version, environment
from workbench.records.provenance import write_artefacts
from workbench.records.run_folder import FITTED_FILE, MARKERS_FILE, METRICS_FILE, RunFolder
from workbench.records.spec import EXTERNAL, IMPORTED, SCHEMA_VERSION
from workbench.setup.opening import open_split
from workbench.steps.headline import write_headline
from workbench.steps.long_tables import MARKER_COLUMNS, METRIC_COLUMNS
from workbench.steps.prediction import reference_image, segmentation_file

IMPORTED_FILE = "imported.json"
"""Says in the run folder which files were imported: case -> name and digest, and what was missing."""
NONE, ALL = "none", "all"


@dataclass
class _Given:
    """What was found in the folder and the CSV file, and what is wrong with it."""

    masks: dict[str, Path] = field(default_factory=dict)
    probabilities: pd.DataFrame | None = None
    problems: list[Problem] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)


def import_predictions(
    folder: str | Path | None,
    cohort: str | Path | Cohort,
    name: str,
    *,
    pattern: str = "*.nii.gz",
    labels: str = "",
    probabilities: str | Path | None = None,
    fold: int | str = NONE,
    split: str = "test",
    modalities: str = "",
    runs: str | Path = "runs",
    experiment: str = "imported",
    resamples: int = 1000,
    allow_missing: bool = False,
    progress: bool = True,
) -> RunFolder:
    """Make a run of predictions that were made elsewhere.

    Args:
        folder: predicted masks, one NIfTI file per case, on the grid of the case's images; None = markers only.
        cohort: the cohort they are predictions of.
        name: what to call it in tables and legends, e.g. 'nnU-Net v2'.
        pattern: names of the files, relative to the folder: `{case}`, or else the first `*`, is the case.
        labels: the convention the masks were written in, a key of `labels.CONVENTIONS`.
        probabilities: CSV file of marker predictions, see `imported_probabilities.read_probabilities`. As masks may lack where
            nothing was drawn, predictions may where the marker is not known.
        fold: k: made by a model that was trained without fold k's test cases; 'all': every case by a model that was trained
            without it (out-of-fold); 'none': by a model that was trained on none of these cases.
        split: which cases must be there: 'test', or 'external' for the external sites alone. Of the other splits (validation
            cases too, with a fold) either all or none.
        modalities: comma-separated sequences that the model was shown; empty: all that a case has.
        runs: folder of all runs.
        experiment: name of the group of runs.
        resamples: bootstrap resamples of subjects behind the headline's intervals.
        allow_missing: record missing cases in the run instead of refusing; its results are then over fewer cases, and paired
            comparisons refuse it.
        progress: show progress.

    Returns:
        The completed run folder: method 'external', `title` the name. Importing the same files again is a no-op.

    Raises:
        ParameterError: an argument is not what it should be.
        InputError: with one problem per file or row that cannot be used; nothing is written.
    """
    cohort = cohort if isinstance(cohort, Cohort) else Cohort.open(cohort)
    if not name.strip():
        raise ParameterError("--name is empty: say what these predictions are, e.g. 'nnU-Net v2'")
    if folder is None and probabilities is None:
        raise ParameterError("there is nothing to import: give a folder of masks, a CSV file of probabilities, or both")
    if folder is not None and not labels:
        raise ParameterError("say in which convention the masks are written: --labels, e.g. brats2023 (it is never guessed)")
    if split not in JUDGED:
        raise ParameterError(f"--split '{split}': expected test or external")
    shown = _shown(cohort, modalities)
    roles = _roles(cohort, fold)
    if not (roles["split"] == split).any():
        raise ParameterError(f"--split {split}: cohort {cohort.info.name} has no {split} cases")
    given = _collect(cohort, folder, pattern, probabilities, labels, roles, split, allow_missing)
    staged = Path(runs) / experiment / f".{uuid.uuid4().hex[:12]}.tmp"
    try:
        known = [case for case in sorted(given.masks) if case in roles.index]  # the others are problems already
        for case in tqdm(known, desc="reading masks", disable=not progress):
            target, reference = staged / f"{case}.nii.gz", reference_image(cohort, case)
            try:
                stage_mask(cohort, case, given.masks[case], labels, reference, target)
            except InputError as error:
                given.problems += error.problems
        if given.problems:
            raise InputError(*given.problems)
        digests = _digests(given, probabilities)
        parameters = {
            "fold": _fold_value(fold), "labels": labels, "modalities": modalities, "split": split, "resamples": resamples
        }  # fmt: skip
        run = RunFolder.create(
            Path(runs) / experiment, _spec(cohort, name.strip(), experiment, parameters, given, digests, Path(runs))
        )
        if run.status["state"] != "completed":
            _fill(run, cohort, given, digests, staged, roles, shown, progress)
        return run
    finally:
        shutil.rmtree(staged, ignore_errors=True)


# -- who is judged ---------------------------------------------------------------------------------------------------------


def _fold_value(fold: int | str) -> int | str:
    text = str(fold).strip().lower()
    if text in (NONE, ALL):
        return text
    if not text.isdigit():
        raise ParameterError(f"--fold '{fold}': expected the number of a fold, 'all' (out-of-fold predictions) or 'none'")
    return int(text)


def _roles(cohort: Cohort, fold: int | str) -> pd.DataFrame:
    """Index case; columns split and fold, as they stand in the tables."""
    chosen = _fold_value(fold)
    if isinstance(chosen, int):
        return pd.DataFrame({"split": open_split(cohort, chosen), "fold": chosen})
    subjects = cohort.cases["subject"].astype(str)
    outside = external_subjects(cohort)
    split = [EXTERNAL_SPLIT if subject in outside else TEST for subject in subjects]
    if chosen == ALL:
        folds = read_folds(cohort) if (cohort.folder / FOLDS_FILE).is_file() else make_folds(cohort)
        numbers = [ALL_FOLDS if (of := folds.fold_of(subject)) is None else of for subject in subjects]
    else:
        numbers = [ALL_FOLDS] * len(subjects)
    return pd.DataFrame({"split": split, "fold": numbers}, index=pd.Index(cohort.cases["case"], name="case"))


def _shown(cohort: Cohort, modalities: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in modalities.split(",") if part.strip()))
    if unknown := [name for name in names if name not in cohort.modalities]:
        raise ParameterError(
            f"--modalities: cohort {cohort.info.name} has no {', '.join(unknown)}; it has {', '.join(cohort.modalities)}"
        )
    return names or cohort.modalities


def _collect(
    cohort: Cohort, folder: str | Path | None, pattern: str, probabilities: str | Path | None, labels: str, roles: pd.DataFrame,
    split: str, allow_missing: bool,
) -> _Given:  # fmt: skip
    """Files and rows by case; a problem for each that does not belong, and for each that is missing."""
    given = _Given()
    if folder is not None:
        convention(labels)
        given.masks, given.problems = find_masks(Path(folder), pattern)
    if probabilities is not None:
        given.probabilities, problems = read_probabilities(Path(probabilities))
        given.problems += problems
    rows = [] if given.probabilities is None else list(dict.fromkeys(given.probabilities["case"]))
    for case in dict.fromkeys([*given.masks, *rows]):
        where = str(given.masks.get(case, "" if probabilities is None else probabilities))
        if case not in roles.index:
            remedy = f"names are matched exactly; the cohort's are like {cohort.cases['case'].iloc[0]} (--glob says which part)"
            given.problems.append(
                Problem(case=case, file=where, message=f"cohort {cohort.info.name} has no such case", remedy=remedy)
            )
        elif roles.loc[case, "split"] == TRAIN:
            message = f"a training case of fold {roles.loc[case, 'fold']}: it is not judged"
            remedy = "leave it out, or give --fold all (out-of-fold) or none (a model trained on none of these cases)"
            given.problems.append(Problem(case=case, file=where, message=message, remedy=remedy))
    drawn = set(cohort.cases.loc[cohort.cases["segmentation"].notna(), "case"].astype(str))
    for wanted in dict.fromkeys(roles["split"]):
        cases = [str(case) for case in roles.index[roles["split"] == wanted]]
        if wanted == TRAIN or not (wanted == split or any(case in given.masks or case in rows for case in cases)):
            continue
        table = cohort.cases[cohort.cases["case"].isin(cases)]
        if folder is not None:
            given.missing += [{"case": c, "what": "mask"} for c in cases if c in drawn and c not in given.masks]
        if given.probabilities is not None:
            given.missing += [{"case": c, "what": marker} for c, marker in missing_rows(given.probabilities, table)]
    if not allow_missing:
        remedy = "add it; with --allow-missing it is recorded as missing, and paired comparisons refuse the run"
        given.problems += [
            Problem(case=m["case"], channel=m["what"], message="no prediction", remedy=remedy) for m in given.missing
        ]
    return given


def _digests(given: _Given, probabilities: str | Path | None) -> dict[str, Any]:
    files = {case: {"file": path.name, "digest": file_digest(path)} for case, path in sorted(given.masks.items())}
    table = None if probabilities is None else {"file": Path(probabilities).name, "digest": file_digest(probabilities)}
    return {"masks": files, "probabilities": table}


def _spec(
    cohort: Cohort, name: str, experiment: str, parameters: dict[str, Any], given: _Given, digests: dict[str, Any], runs: Path
) -> dict[str, Any]:
    fingerprint = cohort.fingerprint()
    digest = value_digest(digests, 16)
    run = value_digest([IMPORTED, name, parameters, digest, fingerprint], 12)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run,
        "method": EXTERNAL,
        "title": name,
        "experiment": experiment,
        "parameters": parameters,
        "cohort": {
            "name": cohort.info.name,
            "path": os.path.relpath(cohort.folder.resolve(), (runs / experiment / run).resolve()),
            "fingerprint": fingerprint,
            "phantom": cohort.info.phantom,
            "external_sites": list(cohort.info.external_sites),
            "cases": len(cohort),
            "subjects": int(cohort.cases["subject"].nunique()),
        },
        "derived": {
            "kind": IMPORTED, "parents": [], "masks": len(given.masks), "probabilities": given.probabilities is not None,
            "digest": digest, "missing": len(given.missing),
        },
        "code_version": code_version(),
        "environment": environment(),
        "threads": 1,
    }  # fmt: skip


# -- what is written -------------------------------------------------------------------------------------------------------


def _fill(
    run: RunFolder, cohort: Cohort, given: _Given, digests: dict[str, Any], staged: Path, roles: pd.DataFrame,
    shown: tuple[str, ...], progress: bool,
) -> None:  # fmt: skip
    run.claim()
    try:
        with run.beating():
            for case in sorted(given.masks):
                (staged / f"{case}.nii.gz").replace(run.path("predictions", f"{case}.nii.gz"))
            heads = {str(row["case"]): _head(row, roles, shown) for _, row in cohort.cases.iterrows()}
            markers = _marker_table(cohort, given, heads)
            write_json(run.path(IMPORTED_FILE), digests | {"missing": given.missing})
            write_parquet(run.path(MARKERS_FILE), markers)
            if (markers["split"] == "validation").any():
                write_json(run.path(FITTED_FILE), fitted_artefact(markers, run.spec["run"]))
            write_parquet(run.path(METRICS_FILE), _metric_table(run, cohort, given, heads, progress))
            write_headline(run, run.spec["parameters"]["resamples"])
    except BaseException as error:
        run.set_status("failed" if isinstance(error, Exception) else "interrupted", error=f"{type(error).__name__}: {error}")
        raise
    run.set_status("completed", notes=_notes(run, given))
    write_artefacts(run, step="import")


def _head(row: pd.Series, roles: pd.DataFrame, shown: tuple[str, ...]) -> dict[str, Any]:
    """The columns that say which case a row is about."""
    role = roles.loc[row["case"]]
    return {
        "case": row["case"], "subject": row["subject"], "site": row["site"], "fold": int(role["fold"]), "split": role["split"],
        "present": "+".join(name for name in shown if not pd.isna(row[name])),
        **{name: None if pd.isna(row[name]) else str(row[name]) for name in ("dataset", "lesion")},
    }  # fmt: skip


def _metric_table(
    run: RunFolder, cohort: Cohort, given: _Given, heads: dict[str, dict[str, Any]], progress: bool
) -> pd.DataFrame:
    tables = []
    classes = LABEL_SET_CLASSES[convention(str(run.spec["parameters"]["labels"])).label_set] if given.masks else 0
    for case in tqdm(sorted(given.masks), desc="measuring", disable=not progress):
        truth = native_labels(cohort, case)
        if truth is None:
            continue
        image = nib.Nifti1Image.from_filename(segmentation_file(run, case))
        regions = judged_regions(str(cohort.row(case)["labels"]), classes)
        labels = np.asarray(image.dataobj).astype(np.uint8)
        table = case_metrics(labels, truth, native_brain(cohort, case), Grid.of(image), regions, case=case)
        tables.append(table.assign(**heads[case]))
    return pd.concat(tables, ignore_index=True)[METRIC_COLUMNS] if tables else pd.DataFrame(columns=METRIC_COLUMNS)


def _marker_table(cohort: Cohort, given: _Given, heads: dict[str, dict[str, Any]]) -> pd.DataFrame:
    if given.probabilities is None or given.probabilities.empty:
        return pd.DataFrame(columns=MARKER_COLUMNS)
    found = with_truth(given.probabilities, cohort.cases)
    head = pd.DataFrame([heads[case] for case in found["case"]]).drop(columns="case")
    return pd.concat([found.reset_index(drop=True), head], axis=1)[MARKER_COLUMNS]


def _notes(run: RunFolder, given: _Given) -> list[str]:
    fold = run.spec["parameters"]["fold"]
    declared = {NONE: "by a model trained on none of these cases", ALL: "each case by a model trained without it"}
    said = declared.get(str(fold), f"by a model trained without the test cases of fold {fold}")
    notes = [f"Predictions made elsewhere; declared on import: {said}. The workbench cannot check that."]
    if given.missing:
        cases = sorted({entry["case"] for entry in given.missing})
        listed = ", ".join(cases[:5]) + (" ..." if len(cases) > 5 else "")
        notes.append(
            f"{len(cases)} cases lack a prediction and are in no number here: {listed} ({IMPORTED_FILE} lists them all)."
        )
    return notes
