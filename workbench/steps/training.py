"""Training a run's model in this process, alone or as one of several, up to `training.json`."""

from __future__ import annotations

from contextlib import nullcontext

from workbench.errors import WorkbenchError
from workbench.files import read_json, write_json
from workbench.records.pretrained import read_pretrained_record
from workbench.records.run_folder import TRAINING_FILE, RunFolder
from workbench.sampling.batches import Sampler
from workbench.setup.progress import ReportingRecorder
from workbench.setup.run_setup import RunSetup
from workbench.setup.setup_notes import note_setup
from workbench.setup.starting_weights import start
from workbench.steps.pretraining import PretrainingValidation
from workbench.steps.validation_score import Validation
from workbench.training.loop import train


def learn(setup: RunSetup) -> None:
    """Train, or go on where the last checkpoint stands; write `training.json` where the training came to its end.

    A training that was asked to stop leaves none. Of several processes only the main one writes (`RunSetup.main`).
    """
    parameters, run = setup.parameters, setup.run
    settings = setup.training_settings()
    sampler = Sampler(
        setup.prepared,
        setup.cases_by_split["train"],
        setup.sampling_settings(),
        parameters.seed,
        setup.modalities,
    )
    with run.beating() if setup.main else nullcontext():
        start(setup, setup.network)
        note_setup(setup)
    validation = PretrainingValidation(setup) if setup.pretraining else Validation(setup)
    recorder = ReportingRecorder(run, setup.progress, settings.steps, getattr(validation, "beside", None))
    with run.beating() if setup.main else nullcontext():
        result = train(
            setup.network,
            sampler.batch,
            settings,
            recorder,
            validation if len(validation) else None,
            augment=sampler.augment if parameters.augment else None,
            device=parameters.device if parameters.processes == 1 else setup.device,
            progress=setup.progress.bars,
        )
    if result.stopped == "cancelled" or not setup.main:
        return
    write_json(
        run.path(TRAINING_FILE),
        {
            "checkpoint": "best" if len(validation) else "last", "steps": result.step, "stopped": result.stopped,
            "best_score": result.best_score, "best_step": result.best_step, "score": validation.name, "budget": result.budget,
            "notes": setup.notes, "pretrained": read_pretrained_record(run.folder).as_dict(),
            "model": {"modalities": setup.network.modalities, "classes": setup.network.classes,
                      "markers": setup.network.markers, "patch": setup.patch},
        },
    )  # fmt: skip


def steps_done(run: RunFolder) -> int:
    """Optimiser steps that the last checkpoint holds; 0 where there is none."""
    try:
        return int(read_json(run.checkpoint("last").with_suffix(".json"))["step"])
    except (WorkbenchError, OSError, KeyError):
        return 0
