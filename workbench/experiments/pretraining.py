"""What an experiment does with a pretraining method: score it on validation cases, examine the held-out ones, keep the encoder.

No mask and no marker is read. Only the training split's subjects are learned from; the encoder says which they were, so that a
later test on one of them is told apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from workbench.errors import RunError
from workbench.evaluation.collapse import Collapse
from workbench.evaluation.metrics import metric_title
from workbench.evaluation.summaries import summarise_segmentation
from workbench.experiments.collapse import collapse_scalars, measure_collapse
from workbench.experiments.evaluating import MARKER_COLUMNS, METRIC_COLUMNS, who
from workbench.experiments.marker_window import case_tensors
from workbench.experiments.predicting import held_out
from workbench.experiments.showing import picture
from workbench.experiments.starting import seen_by
from workbench.files import write_parquet
from workbench.inference.windows import centred_start, crop
from workbench.models.pretrained_file import save_encoder
from workbench.models.pretraining import Examination, PretrainingModule
from workbench.seeding import derive_seed
from workbench.views.pretraining import reconstruction_figure
from workbench.views.theme import cohort_title, estimate_text

if TYPE_CHECKING:
    from workbench.experiments.experiment import Experiment

ENCODER = "encoder"
"""Stem of the encoder's files among a run's checkpoints."""
REGION = "brain"


class PretrainingValidation:
    """Callable that scores a pretraining method on the validation cases: higher is better."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.cases = [str(name) for name in experiment.cases_by_split["validation"]["case"]]
        kind = type(_model(experiment))
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
            self.experiment.run.raise_on_stop()
            values.append(float(examine(self.experiment, model, case).metrics[self.metric]))
        self.collapse = measure_collapse(self.experiment, model, self.experiment.cases_by_split["validation"])
        return self.sign * float(np.nanmean(values))


def examine(experiment: Experiment, model: PretrainingModule, name: str) -> Examination:
    """One case, a patch around the middle of its brain box, asked with a seed of its name: the same in every run of one seed."""
    case = experiment.prepared.case(name)
    images, present = case_tensors(experiment, case)
    may = experiment.shown_in(experiment.split[name])  # what is withheld from learning may not choose the checkpoint either
    present = present & torch.tensor([[m in may for m in experiment.modalities]]).to(present)
    seen = crop(images, centred_start(case.shape, experiment.patch), experiment.patch)
    seed = derive_seed(experiment.parameters.seed, "examine", name)
    return model.examine(seen, present, experiment.modalities, seed=seed)


def evaluate(experiment: Experiment) -> None:
    """Write `metrics.parquet` of the held-out cases (no markers) and the encoder."""
    write_encoder(experiment)
    model = _model(experiment).to(experiment.device).eval()
    rows = []
    cases = held_out(experiment)
    for row in experiment.progress.over(cases, "examining", len(cases)):
        found = examine(experiment, model, str(row["case"]))
        voxels = int(found.voxels)
        rows += [
            who(experiment, row)
            | {"region": REGION, "metric": name, "value": float(value), "n_truth": voxels, "n_prediction": voxels}
            for name, value in found.metrics.items()
        ]
    write_parquet(experiment.run.path("markers.parquet"), pd.DataFrame(columns=MARKER_COLUMNS))
    write_parquet(experiment.run.path("metrics.parquet"), pd.DataFrame(rows, columns=METRIC_COLUMNS))


def write_encoder(experiment: Experiment) -> Path:
    """Write `checkpoints/encoder.safetensors` and its JSON from the checkpoint that validated best."""
    if not experiment.trained:
        raise RunError(f"run {experiment.run.folder} is not trained yet: call .train()")
    model = _model(experiment)
    stem = experiment.run.path("checkpoints", ENCODER)
    run = {"run": experiment.run.spec["run"], "cohort": experiment.cohort.info.name, "step": experiment.training["best_step"]}
    save_encoder(stem, model.encoder_state(), {**model.encoder_description(), "pretrained_by": run}, seen_by(experiment))
    return encoder_file(experiment)


def encoder_file(experiment: Experiment) -> Path:
    """Where the encoder lies."""
    return experiment.run.folder / "checkpoints" / f"{ENCODER}.safetensors"


def result_table(experiment: Experiment) -> pd.DataFrame:
    """Mean (95 % interval over subjects) and n per split and metric."""
    metrics = experiment.run.metrics()
    if metrics is None:
        raise RunError(f"run {experiment.run.folder} is not evaluated yet: call .evaluate()")
    table = summarise_segmentation(metrics, by_present=False, resamples=experiment.parameters.resamples)
    table["text"] = [estimate_text(row["mean"], row["low"], row["high"]) for _, row in table.iterrows()]
    titles = table["metric"].map(metric_title)
    result = table.assign(metric=titles).pivot(index="split", columns="metric", values="text")
    result = result.reindex(index=list(dict.fromkeys(table["split"])), columns=list(dict.fromkeys(titles)))
    result.insert(0, "n", table.groupby("split")["n"].max())
    info = experiment.cohort.info
    result.columns.name = cohort_title(info.name, info.phantom)
    return result


def reconstruction_pictures(experiment: Experiment) -> None:
    """Display, for the first `maps` test cases, what was shown, what came back and what was wanted."""
    model = _model(experiment).to(experiment.device).eval()
    names = sorted(map(str, experiment.cases_by_split["test"]["case"]))[: experiment.parameters.maps]
    if not names:
        display(Markdown("*There is no test case to show.*"))
    info = experiment.cohort.info
    for name in names:
        found = examine(experiment, model, name)
        pictures = {title: values[0].float().cpu().numpy() for title, values in found.pictures.items()}
        metric = type(model).picture_metric
        title = f"{name}, {cohort_title(info.name, info.phantom)}: {metric_title(metric)} {float(found.metrics[metric]):.2f}"
        figure = reconstruction_figure(pictures, experiment.modalities, title=title)
        display(picture(experiment.run, f"reconstruction_{name}", figure))


def _model(experiment: Experiment) -> PretrainingModule:
    model = experiment.model
    assert isinstance(model, PretrainingModule)
    return model
