"""Training an experiment's model in this process, alone or as one of several, up to `training.json`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.experiments.pretraining import PretrainingValidation
from workbench.experiments.progress import ReportingRecorder
from workbench.experiments.validation import Validation
from workbench.files import read_json, write_json
from workbench.records.pretrained import read_pretrained_record
from workbench.records.run_folder import RunFolder
from workbench.sampling.batches import Sampler
from workbench.training.loop import train

if TYPE_CHECKING:
    from workbench.experiments.experiment import Experiment

TRAINING_FILE = "training.json"


def learn(experiment: Experiment) -> None:
    """Train, or go on where the last checkpoint stands; write `training.json` where the training came to its end.

    A training that was asked to stop leaves none. Of several processes only the main one writes (`Experiment.main`).
    """
    parameters, run = experiment.parameters, experiment.run
    settings = experiment.training_settings()
    sampler = Sampler(
        experiment.prepared,
        experiment.cases_by_split["train"],
        experiment.sampling_settings(),
        parameters.seed,
        experiment.modalities,
    )
    validation = PretrainingValidation(experiment) if experiment.pretraining else Validation(experiment)
    recorder = ReportingRecorder(run, experiment.progress, settings.steps, getattr(validation, "beside", None))
    with run.beating() if experiment.main else nullcontext():
        result = train(
            experiment.model,
            sampler.batch,
            settings,
            recorder,
            validation if len(validation) else None,
            augment=sampler.augment if parameters.augment else None,
            device=parameters.device if parameters.processes == 1 else experiment.device,
            progress=experiment.progress.bars,
        )
    if result.stopped == "cancelled" or not experiment.main:
        return
    write_json(
        run.path(TRAINING_FILE),
        {
            "checkpoint": "best" if len(validation) else "last", "steps": result.step, "stopped": result.stopped,
            "best_score": result.best_score, "best_step": result.best_step, "score": validation.name, "budget": result.budget,
            "notes": experiment.notes, "pretrained": read_pretrained_record(run.folder).as_dict(),
            "model": {"modalities": experiment.model.modalities, "classes": experiment.model.classes,
                      "markers": experiment.model.markers, "patch": experiment.patch},
        },
    )  # fmt: skip


def steps_done(run: RunFolder) -> int:
    """Optimiser steps that the last checkpoint holds; 0 where there is none."""
    try:
        return int(read_json(run.checkpoint("last").with_suffix(".json"))["step"])
    except (WorkbenchError, OSError, KeyError):
        return 0
