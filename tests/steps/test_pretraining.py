"""A pretraining run and what starts from it: the encoder, its mark on later tests, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from workbench.cohort.table import Cohort
from workbench.errors import InputError, ParameterError, RunError
from workbench.experiments.application import predict_cohort
from workbench.experiments.experiment import Experiment
from workbench.models.pretrained.seen import Seen, subject_digest
from workbench.records.index import list_runs
from workbench.records.pretrained import read_pretrained_record
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.starting_weights import start
from workbench.training.checkpoints import load_checkpoint

SMALL: dict[str, Any] = {
    "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "resamples": 100, "maps": 1,
    "threads": 1,
}  # fmt: skip


def experiment(method: str, cohort: Cohort, runs: Path, **values: Any) -> Experiment:
    given = SMALL | {"cohort": str(cohort.folder), "runs": str(runs)} | values
    return Experiment(ExperimentParameters.build(method, given), progress=False)


@pytest.fixture(scope="module")
def pretrained(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    made = experiment("pretrain_swin", tiny_cohort, tmp_path_factory.mktemp("runs"), projection=16)
    return made.prepare().train().predict().evaluate().explain()


@pytest.mark.slow
def test_a_pretraining_leaves_numbers_and_an_encoder(pretrained: Experiment, tiny_cohort: Cohort) -> None:
    assert pretrained.run.state == "completed"
    metrics = pretrained.run.metrics()
    assert metrics is not None
    assert set(metrics["metric"]) == {"reconstruction_l1", "hidden_l1", "zero_l1", "rotation_accuracy"}
    assert set(metrics["region"]) == {"brain"}
    assert metrics["value"].notna().all()
    held_out = pd_names(pretrained, "validation") | pd_names(pretrained, "test") | pd_names(pretrained, "external")
    assert set(metrics["case"]) == held_out, "training cases are not examined; cases without a mask or a sequence are"
    assert "Rotations named rightly" in pretrained.result_table("pretraining").columns
    assert pretrained.training["score"] == "minus reconstruction_l1"
    assert not (pretrained.run.folder / "predictions").exists() or not any((pretrained.run.folder / "predictions").iterdir())
    description = json.loads(pretrained.encoder.with_suffix(".json").read_text())
    assert (description["merging"], description["encoder"]) == ("current", "tiny")
    (cohort,) = Seen.model_validate(description["seen"]).cohorts
    assert (cohort.name, cohort.fingerprint) == ("tiny", tiny_cohort.fingerprint())
    table = pretrained.cases_by_split
    names = {*table["train"]["subject"], *table["validation"]["subject"]}
    merged = {f"tiny-{name}" for name in names}  # as a merge with a cohort of the same names would call them
    assert set(cohort.subjects) == {subject_digest(str(name)) for name in names | merged}
    state = load_checkpoint(pretrained.run.checkpoint("best")).model
    encoder = load_file(pretrained.encoder)
    assert len(encoder) == 126
    assert all(torch.equal(value, state[name]) for name, value in encoder.items())
    with pytest.raises(RunError, match=r"encoder\.safetensors"):
        predict_cohort(pretrained.run.folder, tiny_cohort.folder, pretrained.run.folder / "out")
    assert [row.method for row in list_runs(pretrained.parameters.runs) if row.state == "completed"] == ["pretrain_swin"]


def pd_names(made: Experiment, split: str) -> set[str]:
    return set(map(str, made.cases_by_split[split]["case"]))


@pytest.mark.slow
def test_a_run_starts_from_the_encoder_and_is_marked_where_folds_differ(
    pretrained: Experiment, tiny_cohort: Cohort, tmp_path: Path
) -> None:
    values: dict[str, Any] = {"cmd_channels": 4, "markers": "idh", "pretrained": str(pretrained.encoder)}
    same = experiment("mts_unet", tiny_cohort, tmp_path, **values)
    start(same, same.network)
    record = read_pretrained_record(same.run.folder)
    assert record.verdict == "clean", "pretrained on the training subjects of the same fold"
    assert record.document is not None
    assert (record.document["coverage"]["matched"], record.document["coverage"]["total"]) == (126, 126)
    assert str(pretrained.encoder.parent) not in (same.run.folder / "spec.json").read_text()
    weights = load_file(pretrained.encoder)
    state = same.model.state_dict()
    assert all(torch.equal(state[f"backbone.{name}"], value) for name, value in weights.items())

    other = experiment("mts_unet", tiny_cohort, tmp_path, **values, fold=1)
    other.train().evaluate()
    record = read_pretrained_record(other.run.folder)
    assert record.verdict == "contaminated"
    assert "tiny" in record.sentence
    assert other.training["pretrained"]["verdict"] == "contaminated"
    shown = other.remarks().data
    assert "Contaminated" in shown
    assert "loaded 126 of 126" in shown
    assert "contaminated test" in str(other.result_table("segmentation").columns.name)
    described = load_checkpoint(other.run.checkpoint("best")).metadata["model"]
    assert len(described["seen"]["cohorts"]) == 2, "a checkpoint knows what it saw: the pretraining's and its own subjects"
    assert "pretrained" not in described["options"]
    (row,) = [row for row in list_runs(tmp_path) if row.state == "completed"]
    assert row.pretrained.mark == "⚠ contaminated test"
    pretrained_file = Path(values["pretrained"])
    again = experiment("mts_unet", tiny_cohort, tmp_path, **values, fold=1)
    assert again.run.folder == other.run.folder
    assert again.trained
    assert pretrained_file.is_file()


@pytest.mark.slow
def test_what_does_not_fit_is_refused_before_training(pretrained: Experiment, tiny_cohort: Cohort, tmp_path: Path) -> None:
    wrong = experiment("mts_unet", tiny_cohort, tmp_path, pretrained=str(pretrained.encoder), merging="legacy")
    with pytest.raises(InputError, match="set merging to 'current'"):
        wrong.train()
    assert not wrong.trained
    with pytest.raises(ParameterError, match="square"):
        experiment("pretrain_swin", tiny_cohort, tmp_path, sampling="whole", patch=96, spacing=1.5).model.check_size((64, 64, 96))


@pytest.mark.slow
def test_a_stopped_pretraining_resumes_to_the_same_encoder(
    pretrained: Experiment, tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = experiment("pretrain_swin", tiny_cohort, tmp_path, projection=16)
    asked: list[int] = []
    with monkeypatch.context() as stopped:
        stopped.setattr(type(broken.run), "should_stop", lambda _: asked.append(1) or len(asked) > 1)
        with pytest.raises(RunError, match="cancelled at step 1"):
            broken.train()
    again = experiment("pretrain_swin", tiny_cohort, tmp_path, projection=16)
    assert again.run.folder.name == pretrained.run.folder.name
    again.train().evaluate()
    first, second = load_file(pretrained.encoder), load_file(again.encoder)
    assert all(torch.equal(first[name], second[name]) for name in first)
