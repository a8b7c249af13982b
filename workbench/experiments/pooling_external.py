"""External cases of a pooled run: predicted by the models of all folds together, and measured as any run's cases are."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench.errors import RunError
from workbench.evaluation.segmentation import case_metrics
from workbench.evaluation.thresholds import ALL_FOLDS
from workbench.geometry import Grid
from workbench.prepare.images import native_brain, native_labels
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.records.run_folder import RunFolder
from workbench.steps.fold_models import load_members, member_runs, predict_together
from workbench.steps.long_tables import METRIC_COLUMNS
from workbench.steps.prediction import marker_file, reference_image, segmentation_file, write_case

_HEAD = ["case", "subject", "site", "split", "present", "dataset", "lesion"]


def judge_external(run: RunFolder, parents: Sequence[RunFolder], *, progress: bool = True) -> pd.DataFrame:
    """Predict the external cases of some folds with the mean of their models' probabilities; masks go to `predictions`.

    Args:
        run: the pooled run.
        parents: its folds.
        progress: show progress.

    Returns:
        Rows of metrics.parquet, fold -1: the regions that the folds were judged by.

    Raises:
        RunError: the cohort is not what it was, or a fold has no model any more.
    """
    cohort = run.unchanged_cohort("cannot be judged on external cases")
    runs = [member for parent in parents for member in member_runs(parent)]
    if lost := [member.folder.name for member in runs if not list(member.folder.glob("checkpoints/*.safetensors"))]:
        raise RunError(f"{', '.join(lost)} has no checkpoint any more: external cases need it, or pool with --without-external")
    members = load_members(runs)
    torch.set_num_threads(max(1, int(run.spec["threads"])))
    modalities = members[0].parameters.modality_names() or cohort.modalities
    prepared = prepare_cohort(cohort, PrepareSettings(spacing=members[0].parameters.spacing), progress=progress)
    tables = [t[t["split"] == "external"] for t in (parents[0].metrics(), parents[0].markers()) if t is not None and len(t)]
    names = list(dict.fromkeys(str(case) for table in tables for case in table["case"]))
    measured = []
    for name in tqdm(names, desc="external cases, all folds", disable=not progress):
        if not marker_file(run, name).is_file():
            case = prepared.case(name)
            predicted = predict_together(members, case, modalities)
            write_case(predicted, case, run.path("predictions"), reference_image(cohort, name))
        rows = tables[0][tables[0]["case"] == name]
        truth = native_labels(cohort, name)
        if truth is None or rows.empty or "region" not in rows:
            continue
        image = nib.Nifti1Image.from_filename(segmentation_file(run, name))
        regions = list(dict.fromkeys(rows["region"]))
        labels = np.asarray(image.dataobj).astype(np.uint8)
        table = case_metrics(labels, truth, native_brain(cohort, name), Grid.of(image), regions, case=name)
        measured.append(table.assign(fold=ALL_FOLDS, **{key: rows[key].iloc[0] for key in _HEAD if key in rows}))
    if not measured:
        return pd.DataFrame(columns=METRIC_COLUMNS)
    return pd.concat(measured, ignore_index=True).reindex(columns=METRIC_COLUMNS)
