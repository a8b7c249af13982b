"""What a run does with a pretraining method: score it on validation cases, examine the held-out ones, keep the encoder.

No mask and no marker is read. Only the training split's subjects are learned from; the encoder says which they were, so that a
later test on one of them is told apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from workbench.contracts import PRETRAINING
from workbench.evaluation.collapse import Collapse
from workbench.evaluation.metrics import require_known
from workbench.files import write_parquet
from workbench.inference.windows import centred_start, crop
from workbench.models.pretrained.file import save_encoder
from workbench.models.pretraining import Examination, PretrainingModule
from workbench.records.run_folder import RunFolder
from workbench.seeding import derive_seed
from workbench.setup.run_setup import RunSetup
from workbench.setup.starting_weights import seen_by
from workbench.steps.collapse import collapse_scalars, measure_collapse
from workbench.steps.long_tables import MARKER_COLUMNS, METRIC_COLUMNS, case_columns
from workbench.steps.marker_window import case_tensors
from workbench.steps.prediction import held_out

ENCODER = "encoder"
"""Stem of the encoder's files among a run's checkpoints."""
REGION = "brain"


class PretrainingValidation:
    """Callable that scores a pretraining method on the validation cases: higher is better."""

    def __init__(self, setup: RunSetup) -> None:
        self.setup = setup
        self.cases = [str(name) for name in setup.cases_by_split["validation"]["case"]]
        kind = type(setup.network)
        assert issubclass(kind, PretrainingModule)
        self.metric, self.sign = kind.score_metric, 1 if kind.higher_is_better else -1

        self.collapse: Collapse | None = None
        """The collapse monitors of the last call; None where the method has no token features."""

    def __len__(self) -> int:
        return len(self.cases)

    def beside(self) -> dict[str, float]:
        """Scalars that belong beside the last score."""
        return collapse_scalars(self.collapse)

    @property
    def name(self) -> str:
        """Name of the score."""
        return self.metric if self.sign > 0 else f"minus {self.metric}"

    def __call__(self, model: PretrainingModule) -> float:
        """Mean over the cases, each asked the same questions at every step."""
        values = []
        for case in self.cases:
            self.setup.run.raise_on_stop()
            values.append(float(examine(self.setup, model, case).metrics[self.metric]))
        self.collapse = measure_collapse(self.setup, model, self.setup.cases_by_split["validation"])
        return self.sign * float(np.nanmean(values))


def examine(setup: RunSetup, model: PretrainingModule, name: str) -> Examination:
    """One case, a patch around the middle of its brain box, asked with a seed of its name: the same in every run of one seed."""
    case = setup.prepared.case(name)
    images, present = case_tensors(setup, case)
    may = setup.shown_in(setup.split[name])  # what is withheld from learning may not choose the checkpoint either
    present = present & torch.tensor([[m in may for m in setup.modalities]]).to(present)
    seen = crop(images, centred_start(case.shape, setup.patch), setup.patch)
    seed = derive_seed(setup.parameters.seed, "examine", name)
    return model.examine(seen, present, setup.modalities, seed=seed)


def evaluate_pretraining(setup: RunSetup) -> None:
    """Write `metrics.parquet` of the held-out cases (no markers) and the encoder."""
    write_encoder(setup)
    model = trained_pretraining(setup)
    rows = []
    cases = held_out(setup)
    for row in setup.progress.over(cases, "examining", len(cases)):
        found = examine(setup, model, str(row["case"]))
        require_known(found.metrics, PRETRAINING)
        voxels = int(found.voxels)
        rows += [
            case_columns(setup, row)
            | {"region": REGION, "metric": name, "value": float(value), "n_truth": voxels, "n_prediction": voxels}
            for name, value in found.metrics.items()
        ]
    write_parquet(setup.run.path("markers.parquet"), pd.DataFrame(columns=MARKER_COLUMNS))
    write_parquet(setup.run.path("metrics.parquet"), pd.DataFrame(rows, columns=METRIC_COLUMNS))


def write_encoder(setup: RunSetup) -> Path:
    """Write `checkpoints/encoder.safetensors` and its JSON from the checkpoint that validated best."""
    model = trained_pretraining(setup)
    stem = setup.run.path("checkpoints", ENCODER)
    run = {"run": setup.run.spec["run"], "cohort": setup.cohort.info.name, "step": setup.training["best_step"]}
    save_encoder(stem, model.encoder_state(), {**model.encoder_description(), "pretrained_by": run}, seen_by(setup))
    return encoder_file(setup.run)


def encoder_file(run: RunFolder) -> Path:
    """Where the encoder lies."""
    return run.folder / "checkpoints" / f"{ENCODER}.safetensors"


def trained_pretraining(setup: RunSetup) -> PretrainingModule:
    """The model of a run that pretrains, with the weights of the best checkpoint.

    Raises:
        RunError: it is not trained yet.
    """
    model = setup.trained_model()
    assert isinstance(model, PretrainingModule)
    return model
