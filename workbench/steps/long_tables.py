"""The long tables of a run, made from what prediction left on disk: they can be made again years later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from workbench.evaluation.markers import class_rows
from workbench.evaluation.segmentation import case_metrics
from workbench.files import read_json
from workbench.geometry import Grid
from workbench.labels import judged_regions as regions_told_apart
from workbench.prepare.images import native_brain, native_labels
from workbench.setup.run_setup import RunSetup
from workbench.steps.prediction import held_out, marker_file, segmentation_file

_WHO = ["case", "subject", "site", "fold", "split", "present"]
METRIC_COLUMNS = [*_WHO, "region", "metric", "value", "n_truth", "n_prediction", "dataset", "lesion"]
MARKER_COLUMNS = [*_WHO, "marker", "class", "truth", "logit", "probability", "dataset", "lesion"]


def metrics_table(setup: RunSetup) -> pd.DataFrame:
    """One row per case, region and metric, on the native grid; regions that the case's annotators could draw."""
    tables = []
    rows = [row for row in held_out(setup) if segmentation_file(setup.run, row["case"]).is_file()]
    for row in setup.progress.over(rows, "measuring", len(rows)):
        truth = native_labels(setup.cohort, row["case"])
        if truth is None:
            continue
        image = nib.Nifti1Image.from_filename(segmentation_file(setup.run, row["case"]))
        table = case_metrics(
            np.asarray(image.dataobj).astype(np.uint8),
            truth,
            native_brain(setup.cohort, row["case"]),
            Grid.of(image),
            judged_regions(setup, row),
        )
        tables.append(table.assign(**case_columns(setup, row)))
    return pd.concat(tables, ignore_index=True)[METRIC_COLUMNS] if tables else pd.DataFrame(columns=METRIC_COLUMNS)


def judged_regions(setup: RunSetup, row: pd.Series) -> list[str]:
    """The regions that the case's annotators could draw and the run's model can tell apart."""
    return regions_told_apart(str(row["labels"]), setup.classes)


def markers_table(setup: RunSetup, kind: str = "markers") -> pd.DataFrame:
    """One row per case, marker and class, with the truth (NaN unknown), the logit and the uncalibrated probability.

    `kind` names the logits in each case's file: the run's own, or another set kept beside them.
    """
    tables = []
    for row in held_out(setup):
        path = marker_file(setup.run, row["case"])
        if not path.is_file():
            continue
        found = marker_rows(setup, row, read_json(path)[kind])
        if len(found):
            tables.append(found)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=MARKER_COLUMNS)


def marker_rows(setup: RunSetup, row: pd.Series, markers: Mapping[str, Any]) -> pd.DataFrame:
    """One case's rows of markers.parquet from its logits (1,) or (classes,) per marker."""
    rows = [
        case_columns(setup, row) | {"marker": marker, "class": name, "truth": truth, "logit": logit, "probability": probability}
        for marker, logits in markers.items()
        for name, truth, logit, probability in class_rows(marker, row[marker], np.asarray(logits, dtype=float))
    ]
    return pd.DataFrame(rows, columns=MARKER_COLUMNS)


def case_columns(setup: RunSetup, row: pd.Series) -> dict[str, Any]:
    """The columns that say which case a row of a long table is about."""
    split = setup.split[row["case"]]
    return {
        "case": row["case"],
        "subject": row["subject"],
        "site": row["site"],
        **{name: None if pd.isna(row[name]) else str(row[name]) for name in ("dataset", "lesion")},
        "fold": setup.parameters.fold,
        "split": split,
        "present": "+".join(name for name in setup.shown_in(split) if not pd.isna(row[name])),
    }
