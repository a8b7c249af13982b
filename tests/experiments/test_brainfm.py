"""BrainFM-MRI through an experiment: pretraining with monitors, starting from it, another cohort with other sequences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.experiments import application
from workbench.experiments.application import predict_cohort
from workbench.experiments.experiment import Experiment
from workbench.models.modality_embedding import HEADER
from workbench.models.modality_text import PHRASES
from workbench.models.registry import create_model
from workbench.reports.pretraining import collapse_report
from workbench.setup.parameters import ExperimentParameters
from workbench.steps import fold_models
from workbench.steps.renamed_sequences import renamed_sequences

SMALL: dict[str, Any] = {
    "size": "demo", "spacing": 4.0, "patch": 64, "epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "resamples": 100,
    "maps": 1, "threads": 1, "width": 24, "heads": 2, "mlp": 48,
}  # fmt: skip
PRETRAINING = {"decoder_width": 16, "decoder_mlp": 32, "batch_size": 3}


def experiment(method: str, cohort: Cohort, runs: Path, **values: Any) -> Experiment:
    given = SMALL | {"cohort": str(cohort.folder), "runs": str(runs)} | values
    return Experiment(ExperimentParameters.build(method, given), progress=False)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of text vectors."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.safetensors"
    table = torch.randn(len(PHRASES), 768, generator=torch.Generator().manual_seed(0))
    save_file({"vectors": table}, path, {HEADER: json.dumps({"format": 1, "phrases": PHRASES})})
    return path


@pytest.fixture(scope="module")
def pretrained(tiny_cohort: Cohort, vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    runs = tmp_path_factory.mktemp("runs")
    made = experiment("brainfm_pretrain", tiny_cohort, runs, embeddings=str(vectors), **PRETRAINING)
    return made.prepare().train().predict().evaluate()


@pytest.fixture(scope="module")
def other(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three of the cases, with flair called dir and t1c called swi: no model here was built for these."""
    table = tiny_cohort.cases.iloc[5:8].rename(columns={"flair": "dir", "t1c": "swi"}).drop(columns=["segmentation", "labels"])
    names = ("t1", "swi", "t2", "dir")
    table.loc[table.index[0], ["t1", "t2"]] = None  # only sequences that nobody has seen
    info = tiny_cohort.info.model_copy(update={"name": "other", "modalities": names, "label_convention": None})
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(tiny_cohort.folder / "images", folder / "images")
    return Cohort.create(folder, info, table)


def test_a_file_of_text_vectors_goes_into_a_runs_identity_by_what_it_holds(vectors: Path, tmp_path: Path) -> None:
    def identity(path: str) -> dict[str, Any]:
        return ExperimentParameters.build("brainfm", {"size": "demo", "embeddings": path}).identity()

    shutil.copy(vectors, tmp_path / "same.safetensors")
    assert identity(str(vectors)) == identity(str(tmp_path / "same.safetensors"))
    assert identity(str(vectors))["embeddings"].startswith("blake2b:")
    assert identity("") != identity(str(vectors))
    with pytest.raises(ParameterError, match="'embeddings': the file"):
        identity(str(tmp_path / "missing.safetensors"))


@pytest.mark.slow
def test_a_pretraining_records_its_monitors_and_says_what_they_mean(pretrained: Experiment) -> None:
    events = pretrained.run.events()
    names = {"collapse/effective_rank", "collapse/between_subjects", "collapse/within_subjects", "collapse/off_diagonal"}
    found = events[events["name"].isin(names)]
    assert set(found["name"]) == names
    assert set(found["step"]) == {2}
    report = collapse_report(pretrained)
    assert len(report) == 2, "at the validation, and of the checkpoint that is kept"
    np.testing.assert_allclose(report.iloc[0], report.iloc[1], atol=2e-3)
    metrics = pretrained.run.metrics()
    assert metrics is not None
    assert set(metrics["metric"]) == {"masked_mse", "foreground_mse", "zero_mse", "imputed_mse"}
    assert metrics["value"].notna().all()
    pretrained.reconstruction_pictures()
    with pytest.raises(RunError, match="not trained"):
        collapse_report(
            experiment("brainfm_pretrain", pretrained.cohort, Path(pretrained.parameters.runs), seed=9, **PRETRAINING)
        )


@pytest.mark.slow
def test_a_stopped_pretraining_resumes_to_the_same_encoder(
    pretrained: Experiment, tiny_cohort: Cohort, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = experiment("brainfm_pretrain", tiny_cohort, tmp_path, embeddings=str(vectors), **PRETRAINING)
    asked: list[int] = []
    with monkeypatch.context() as stopped:
        stopped.setattr(type(broken.run), "should_stop", lambda _: asked.append(1) or len(asked) > 1)
        with pytest.raises(RunError, match="cancelled at step 1"):
            broken.train()
    again = experiment("brainfm_pretrain", tiny_cohort, tmp_path, embeddings=str(vectors), **PRETRAINING)
    again.train().evaluate()
    first, second = load_file(pretrained.encoder), load_file(again.encoder)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_run_from_the_encoder_predicts_a_cohort_of_other_sequences(
    pretrained: Experiment, tiny_cohort: Cohort, other: Cohort, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = Path(shutil.copy(vectors, tmp_path / "lent.safetensors"))
    values = {"embeddings": str(lent), "pretrained": str(pretrained.encoder), "head_width": 4, "head": "shallow"}
    run = experiment("brainfm", tiny_cohort, tmp_path / "runs", **values)
    run.prepare().train()
    assert any("Started from encoder.safetensors" in note for note in run.notes)
    table = renamed_sequences(run, ["swi"])
    assert set(table.index.get_level_values(1)) == {"t1", "t1c", "t2", "flair", "swi"}
    with pytest.raises(ParameterError, match="t1 is a sequence of this experiment"):
        renamed_sequences(run, ["t1"])
    lent.unlink()  # the text vectors travel in the checkpoint
    shown: dict[str, tuple[str, ...]] = {}
    real = fold_models.predict_case

    def watched(model: Any, case: Any, **how: Any) -> Any:
        predicted = real(model, case, **how)
        shown[case.name] = predicted.present
        return predicted

    monkeypatch.setattr(fold_models, "predict_case", watched)
    out = predict_cohort(run.run.folder, other.folder, tmp_path / "out")
    names = sorted(other.cases["case"])
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [f"{name}.nii.gz" for name in names]
    assert shown[names[0]] == ("swi", "dir"), "a case of which the model knows no sequence"
    assert shown[names[1]] == ("t1", "t2", "swi", "dir")


@pytest.mark.slow
def test_a_run_of_named_sequences_is_shown_no_others(tiny_cohort: Cohort, other: Cohort, tmp_path: Path) -> None:
    values = {"head_width": 4, "head": "linear", "freeze": True, "modality_embedding": "one_hot"}
    run = experiment("brainfm", tiny_cohort, tmp_path, modalities="t1,t2", **values)
    run.prepare().train()
    assert any("frozen" in note for note in run.notes), run.notes
    parameters = run.parameters
    assert application.shown_modalities(run.model, other, parameters) == ("t1", "t2")
    free = parameters.model_copy(update={"modalities": ""})
    with pytest.raises(ParameterError, match="swi, dir: no sequence of a one-hot modality embedding of t1, t2"):
        application.shown_modalities(run.model, other, free)
    table = renamed_sequences(run, ["swi", "t1n"])
    assert table.xs("swi", level=1)["mean Dice"].isna().all()
    assert table.loc[("t1", "t1n")].equals(table.loc[("t1", "t1")])
    text = create_model("brainfm", modalities=("t1", "t2"), **{name: SMALL[name] for name in ("width", "heads", "mlp")})
    assert application.shown_modalities(text, other, free) == ("t1", "t2", "swi", "dir")
    closed = create_model("unet", modalities=("t1", "t2"), width=4, levels=3)
    assert application.shown_modalities(closed, other, free) == ("t1", "t2"), "others take no sequence that they do not know"
