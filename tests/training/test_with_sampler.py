"""The loop with the real sampler and a real network, as an experiment joins them."""

from __future__ import annotations

from pathlib import Path

import torch
from folder_recorder import FolderRecorder

from workbench.cohort.table import Cohort
from workbench.models.registry import create_model
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.sampling.batches import Sampler, SamplingSettings
from workbench.training.checkpoints import load_weights
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings


def test_unet_on_prepared_cases(tiny_cohort: Cohort, tmp_path: Path) -> None:
    cases = tiny_cohort.cases.head(4)
    prepared = prepare_cohort(
        tiny_cohort, PrepareSettings(spacing=8.0), folder=tmp_path, cases=list(cases["case"]), progress=False
    )
    sampling = SamplingSettings(patch=(16, 16, 16), batch_size=2, modality_dropout=0.3)
    sampler = Sampler(prepared, cases, sampling, 0, prepared.modalities)
    options = {"levels": 3, "width": 4}
    finals = []
    for workers in (0, 1):
        model = create_model("unet", modalities=prepared.modalities, **options)
        recorder = FolderRecorder(tmp_path / f"run{workers}")
        settings = TrainingSettings(epochs=2, steps_per_epoch=sampler.steps_per_epoch, workers=workers, ema=0.5)
        result = train(model, sampler.batch, settings, recorder, None, augment=sampler.augment, device="cpu", progress=False)
        assert (result.step, result.budget["samples"]) == (4, 8)
        fresh = create_model("unet", modalities=prepared.modalities, seed=1, **options)
        metadata = load_weights(recorder.checkpoint("best"), fresh)
        assert metadata["model"]["method"] == "unet"
        assert {"train/objective", "train/segmentation", "train/learning_rate"} <= {name for name, _ in recorder.events()}
        finals.append(fresh.state_dict())
    assert all(torch.equal(finals[0][name], value) for name, value in finals[1].items())
