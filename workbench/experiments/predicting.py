"""Prediction of cases into a folder: one mask on the native grid and one small JSON per case, so that it can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.cohort.table import Cohort
from workbench.files import write_json
from workbench.inference.export import export_labels, save_logits
from workbench.inference.predict import CasePrediction, predict_case
from workbench.prepare.store import PreparedCase
from workbench.records.run_folder import RunFolder

if TYPE_CHECKING:
    from workbench.experiments.experiment import Experiment


def segmentation_file(run: RunFolder, case: str) -> Path:
    """Where a case's predicted mask lies: canonical labels, native grid."""
    return run.folder / "predictions" / f"{case}.nii.gz"


def marker_file(run: RunFolder, case: str) -> Path:
    """Where a case's marker logits lie; written last, so that its presence means the case is done."""
    return run.folder / "predictions" / f"{case}.json"


def held_out(experiment: Experiment) -> list[pd.Series]:
    """Rows of the cohort table that are predicted: validation, test, external."""
    table = pd.concat([experiment.cases_by_split[name] for name in ("validation", "test", "external")])
    return [row for _, row in table.iterrows()]


def predict_all(experiment: Experiment) -> None:
    """Predict every held-out case that is not predicted yet; logits are kept for the validation cases."""
    run = experiment.run
    rows = [row for row in held_out(experiment) if not marker_file(run, row["case"]).is_file()]
    if not rows:
        return
    model = experiment.model.to(experiment.device).eval()
    for row in experiment.progress.over(rows, "predicting", len(rows)):
        case = experiment.prepared.case(row["case"])
        predicted = predict_case(
            model, case, modalities=experiment.modalities, present=experiment.shown_in(experiment.split[case.name]),
            patch=experiment.patch, overlap=experiment.parameters.overlap, device=experiment.device,
            whole=experiment.parameters.sampling == "whole", precision=experiment.parameters.precision,
        )  # fmt: skip
        if predicted.logits is not None and experiment.split[row["case"]] == "validation":
            save_logits(predicted, run.path("predictions", f"{case.name}.logits.b2nd"))
        write_case(predicted, case, run.path("predictions"), reference_image(experiment.cohort, case.name))


def reference_image(cohort: Cohort, case: str) -> Path | None:
    """The image whose grid is the case's native grid, for the header of what is written: its mask, else its first sequence."""
    drawn = cohort.path(case, "segmentation")
    return drawn or next((cohort.path(case, name) for name in cohort.present(case)), None)


def write_case(predicted: CasePrediction, case: PreparedCase, folder: Path, source: Path | None) -> None:
    """Write `<case>.nii.gz` (where the method segments; header from `source`) and then `<case>.json`."""
    document: dict[str, Any] = {
        "markers": {name: [float(v) for v in np.ravel(logits)] for name, logits in predicted.markers.items()}
    }
    if predicted.logits is not None:
        export_labels(predicted, case, folder / f"{case.name}.nii.gz", source=source)
        document |= {"centre": predicted.centre, "centre_from": predicted.centre_from}
    write_json(folder / f"{case.name}.json", document)
