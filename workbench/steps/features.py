"""What a method makes of each sequence of the held-out cases: one vector per case and shown set, for the linked feature plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.errors import RunError
from workbench.files import write_parquet
from workbench.inference.predict import evaluating
from workbench.models.method import MethodModule
from workbench.records.provenance import register
from workbench.records.run_folder import FEATURES_FILE
from workbench.setup.run_setup import RunSetup
from workbench.steps.marker_window import marker_window
from workbench.steps.prediction import held_out

CASE_COLUMNS = ("case", "subject", "site", "split", "dataset", "lesion", "present")
_UNDER_WAY = "features"


def write_features(setup: RunSetup) -> None:
    """Write `features.parquet`: `CASE_COLUMNS` and f0 ... fD of every validation, test and external case, each of its sequences
    shown alone, and all of them (`present`: names joined by '+').

    A case is read in the window in which it is explained. Each is kept as soon as it is done, so that this can be interrupted.
    A method without features, and a pretraining, get a note instead.

    Raises:
        RunError: the run is not trained yet.
    """
    run = setup.run
    if (run.folder / FEATURES_FILE).is_file():
        return
    method = setup.parameters.method
    if not setup.trained:
        raise RunError(f"run {run.folder} is not trained yet: call .train() before its features are read")
    if not has_features(setup.network) or setup.pretraining:
        setup.notes.append(f"{method} has no pooled features: there is no feature plot")
        return
    model, rows = setup.trained_model(), held_out(setup)
    for row in setup.progress.over(rows, "reading features", len(rows)):
        if not _kept(setup, row).is_file():
            write_parquet(_kept(setup, row), _case_features(setup, model, row))
    write_parquet(run.path(FEATURES_FILE), pd.concat([pd.read_parquet(_kept(setup, row)) for row in rows], ignore_index=True))
    for row in rows:
        _kept(setup, row).unlink()
    (run.folder / _UNDER_WAY).rmdir()
    register(run.folder, FEATURES_FILE)


def has_features(model: MethodModule) -> bool:
    """Whether the method says what it makes of its sequences."""
    return type(model).pooled_features is not MethodModule.pooled_features


def shown_sets(there: list[str]) -> list[tuple[str, ...]]:
    """Each sequence alone, and all of them where there are several."""
    return [(name,) for name in there] + ([tuple(there)] if len(there) > 1 else [])


def _case_features(setup: RunSetup, model: MethodModule, row: pd.Series) -> pd.DataFrame:
    modalities = setup.modalities
    window = marker_window(setup, setup.prepared.case(row["case"]))
    sets = shown_sets([name for name, there in zip(modalities, window.present[0].tolist(), strict=True) if there])
    found = []
    with evaluating(model, window.images.device, setup.parameters.precision):
        for names in sets:
            present = torch.tensor([[name in names for name in modalities]], device=window.images.device)
            vector = model.pooled_features(*model.arrange(window.images, present, modalities))
            if vector is None:  # by its options
                raise RunError(f"{model.name} has features, but none as it was built for this run")
            found.append(np.asarray(vector[0].float().cpu(), np.float32))
    table = pd.DataFrame([_case_columns(setup, row, names) for names in sets], columns=list(CASE_COLUMNS)).astype("string")
    values = np.stack(found)
    return table.join(pd.DataFrame(values, columns=[f"f{index}" for index in range(values.shape[1])]))


def _case_columns(setup: RunSetup, row: pd.Series, names: tuple[str, ...]) -> dict[str, Any]:
    known = {column: row[column] for column in ("case", "subject", "site", "dataset", "lesion") if column in row.index}
    return known | {"split": setup.split[row["case"]], "present": "+".join(names)}


def _kept(setup: RunSetup, row: pd.Series) -> Path:
    return setup.run.path(_UNDER_WAY, f"{row['case']}.parquet")
