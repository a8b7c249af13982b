"""Prediction of cases into a folder: one mask on the native grid and one small JSON per case, so that it can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.cohort.table import Cohort
from workbench.contracts import HELD_OUT
from workbench.files import write_json
from workbench.inference.export import export_labels, save_logits
from workbench.inference.predict import CasePrediction, predict_case
from workbench.prepare.store import PreparedCase
from workbench.records.run_folder import RunFolder
from workbench.setup.run_setup import RunSetup


def segmentation_file(run: RunFolder, case: str) -> Path:
    """Where a case's predicted mask lies: canonical labels, native grid."""
    return run.folder / "predictions" / f"{case}.nii.gz"


def marker_file(run: RunFolder, case: str) -> Path:
    """Where a case's marker logits lie; written last, so that its presence means the case is done."""
    return run.folder / "predictions" / f"{case}.json"


def held_out(setup: RunSetup) -> list[pd.Series]:
    """Rows of the cohort table that are predicted: validation, test, external."""
    table = pd.concat([setup.cases_by_split[name] for name in HELD_OUT])
    return [row for _, row in table.iterrows()]


def predict_all(setup: RunSetup) -> None:
    """Predict every held-out case that is not predicted yet; logits are kept for the validation cases."""
    run = setup.run
    rows = [row for row in held_out(setup) if not marker_file(run, row["case"]).is_file()]
    if not rows:
        return
    model = setup.trained_model()
    for row in setup.progress.over(rows, "predicting", len(rows)):
        case = setup.prepared.case(row["case"])
        predicted = predict_case(
            model, case, modalities=setup.modalities, present=setup.shown_in(setup.split[case.name]),
            patch=setup.patch, device=setup.device, **setup.parameters.inference(),
        )  # fmt: skip
        if predicted.logits is not None and setup.split[row["case"]] == "validation":
            save_logits(predicted, run.path("predictions", f"{case.name}.logits.b2nd"))
        write_case(predicted, case, run.path("predictions"), reference_image(setup.cohort, case.name))


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
