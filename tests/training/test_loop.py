from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_recorder import FolderRecorder
from torch import nn
from toy_method import ToyMethod, toy_batches

from workbench.contracts import Batch, Stage
from workbench.errors import ParameterError, RunError
from workbench.seeding import derive_seed
from workbench.training.checkpoints import load_checkpoint, load_weights
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings

CPU: dict[str, Any] = {"device": "cpu", "progress": False}


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=0, atol=tolerance), name


def differ(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in one.items() if not torch.equal(value, two[name])}


def accuracy(model: Any) -> float:
    """Dice-like score on batches that training never sees."""
    batch = toy_batches(8, seed=99)(0)
    prediction = model(batch.images, batch.present, batch.modalities)
    return float((prediction.segmentation.argmax(1) == batch.labels).float().mean())


def test_it_equals_a_bare_pytorch_loop(tmp_path: Path) -> None:
    # in the plain layout: drop-out draws in the order of memory, so another layout drops other features
    settings = TrainingSettings(
        epochs=2, steps_per_epoch=6, learning_rate=0.01, warmup_share=0, clip=0.5, weight_decay=0.0, channels_last=False
    )
    model, bare = ToyMethod(), ToyMethod()
    result = train(model, toy_batches(), settings, FolderRecorder(tmp_path), None, **CPU)

    optimiser = torch.optim.AdamW(bare.parameters(), 0.01, weight_decay=0.0)
    bare.train()
    for step in range(12):
        torch.manual_seed(derive_seed(0, "step", step))
        batch = toy_batches()(step)
        terms = bare.loss(bare(batch.images, batch.present), batch, step / 12)
        optimiser.param_groups[0]["lr"] = 0.01 * 0.5 * (1 + math.cos(math.pi * step / 12))
        optimiser.zero_grad()
        sum(terms.values()).backward()
        nn.utils.clip_grad_norm_(bare.parameters(), 0.5)
        optimiser.step()
    assert_same(weights(model), weights(bare), 1e-6)
    assert (result.step, result.stopped, result.best_score, result.best_step) == (12, "finished", None, 12)
    assert_same(load_checkpoint(tmp_path / "checkpoints" / "best").model, weights(model))


def test_the_memory_layout_changes_nothing_but_rounding(tmp_path: Path) -> None:
    models = []
    for layout in (False, True):
        settings = TrainingSettings(epochs=2, steps_per_epoch=6, learning_rate=0.01, channels_last=layout)
        models.append(ToyMethod(dropout=0.0))
        train(models[-1], toy_batches(), settings, FolderRecorder(tmp_path / str(layout)), None, **CPU)
    assert_same(weights(models[0]), weights(models[1]), 1e-4)
    assert not torch.equal(weights(models[0])["encoder.weight"], weights(ToyMethod(dropout=0.0))["encoder.weight"])


def test_it_learns(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=4, steps_per_epoch=25, learning_rate=0.02, score="accuracy")
    model = ToyMethod(width=8, dropout=0.1)
    before = accuracy(model.eval())
    recorder = FolderRecorder(tmp_path)
    result = train(model, toy_batches(4), settings, recorder, accuracy, **CPU)
    assert result.best_score is not None
    assert result.best_score > max(0.9, before + 0.1)
    events = recorder.events()
    assert [step for name, step in events if name == "validation/accuracy"] == [25, 50, 75, 100]
    assert result.best_score == max(events["validation/accuracy", step] for step in (25, 50, 75, 100))
    fresh = ToyMethod(width=8, dropout=0.1, seed=1)
    metadata = load_weights(tmp_path / "checkpoints" / "best", fresh)
    assert accuracy(fresh.eval()) == pytest.approx(result.best_score)
    assert metadata["step"] == result.best_step


def test_two_accumulated_halves_equal_one_batch(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 8, "learning_rate": 0.01, "optimiser": "sgd", "clip": 1.0}
    halves, whole, unequal = (ToyMethod(dropout=0.0) for _ in range(3))
    train(halves, toy_batches(2), TrainingSettings(accumulate=2, **shared), FolderRecorder(tmp_path / "a"), None, **CPU)
    train(whole, toy_batches(4), TrainingSettings(**shared), FolderRecorder(tmp_path / "b"), None, **CPU)
    train(unequal, toy_batches(2), TrainingSettings(**shared), FolderRecorder(tmp_path / "c"), None, **CPU)
    assert_same(weights(halves), weights(whole), 1e-6)
    assert any(not torch.allclose(weights(unequal)[name], value, atol=1e-4) for name, value in weights(whole).items())
    one, two = FolderRecorder(tmp_path / "a").events(), FolderRecorder(tmp_path / "b").events()
    assert one.keys() == two.keys()
    assert all(one[key] == pytest.approx(value, abs=1e-5) for key, value in two.items())


def test_the_moving_average_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=1, steps_per_epoch=3, ema=0.99, learning_rate=0.05, warmup_share=0)
    model, trail, judged = ToyMethod(dropout=0.0), [], []

    def spy(index: int) -> Batch:
        trail.append(weights(model))  # before step `index`: after step index - 1
        return toy_batches()(index)

    def validate(found: Any) -> float:
        assert not found.training
        assert not torch.is_grad_enabled()
        judged.append(weights(found))
        return 1.0

    train(model, spy, settings, FolderRecorder(tmp_path), validate, **CPU)
    w1, w2, w3 = (*trail[1:], weights(model))
    # update n has decay (1 + n) / (10 + n); update 0 copies
    for name in ("head.weight", "encoder.bias"):
        first = w1[name]
        second = first + (1 - 2 / 11) * (w2[name] - first)
        third = second + (1 - 3 / 12) * (w3[name] - second)
        assert torch.allclose(judged[0][name], third, atol=1e-6)
        assert not torch.allclose(third, w3[name], atol=1e-4)
    assert_same(load_checkpoint(tmp_path / "checkpoints" / "best").model, judged[0])
    fresh = ToyMethod(dropout=0.0, seed=1)
    load_weights(tmp_path / "checkpoints" / "last", fresh)
    assert_same(weights(fresh), judged[0])


def test_early_stopping_and_the_best_weights(tmp_path: Path) -> None:
    scores = [0.1, 0.5, float("nan"), 0.4, 0.5, 0.9]
    seen: list[dict[str, torch.Tensor]] = []

    def validate(found: Any) -> float:
        seen.append(weights(found))
        return scores[len(seen) - 1]

    settings = TrainingSettings(epochs=6, steps_per_epoch=2, patience=3)
    model = ToyMethod()
    result = train(model, toy_batches(), settings, FolderRecorder(tmp_path), validate, **CPU)
    assert (result.stopped, result.step, result.best_score, result.best_step) == ("early", 10, 0.5, 4)
    assert_same(load_checkpoint(tmp_path / "checkpoints" / "best").model, seen[1])
    again = train(ToyMethod(), toy_batches(), settings, FolderRecorder(tmp_path), validate, **CPU)
    assert again == result  # a stopped run is not taken up again
    assert len(seen) == 5


def test_validation_every_second_epoch_and_at_the_end(tmp_path: Path) -> None:
    recorder = FolderRecorder(tmp_path)
    train(
        ToyMethod(),
        toy_batches(),
        TrainingSettings(epochs=5, steps_per_epoch=2, validate_every=2),
        recorder,
        lambda model: 0.0,
        **CPU,
    )
    assert [step for name, step in recorder.events() if name == "validation/score"] == [4, 8, 10]


def test_stages_choose_terms_tasks_and_parameters(tmp_path: Path) -> None:
    stages = [Stage("segment", 0.5, ("segmentation",)), Stage("mark", 0.5, ("markers",), ("marker.",))]
    model, trail = ToyMethod(stages=stages), []

    def spy(index: int) -> Batch:
        trail.append(weights(model))
        return toy_batches()(index)

    recorder = FolderRecorder(tmp_path)
    settings = TrainingSettings(epochs=2, steps_per_epoch=3, weight_decay=0.1)
    train(model, spy, settings, recorder, None, **CPU)
    buffers = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    # weight decay must not touch what a stage does not train
    assert differ(trail[0], trail[3]) - buffers == {
        "encoder.weight",
        "encoder.bias",
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
    }
    assert differ(trail[3], weights(model)) - buffers == {"marker.weight", "marker.bias"}
    events = recorder.events()
    assert {step for name, step in events if name == "train/segmentation/ce"} == {1, 2, 3}
    assert {step for name, step in events if name == "train/markers/idh"} == {4, 5, 6}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_stage_without_loss_says_so(tmp_path: Path) -> None:
    model = ToyMethod(stages=[Stage("nothing", 1.0, ())])
    with pytest.raises(RunError, match="stage 'nothing'"):
        train(model, toy_batches(), TrainingSettings(epochs=1), FolderRecorder(tmp_path), None, **CPU)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_cases_and_terms(tmp_path: Path, value: float) -> None:
    def poisoned(index: int) -> Batch:
        batch = toy_batches()(index)
        return replace(batch, markers={"idh": torch.full((2,), value)}) if index == 7 else batch

    settings = TrainingSettings(epochs=2, steps_per_epoch=5)
    with pytest.raises(RunError, match=r"step 8: objective = \S+, markers/idh = \S+; cases toy-14, toy-15.*last stays"):
        train(ToyMethod(), poisoned, settings, FolderRecorder(tmp_path), None, **CPU)
    kept = load_checkpoint(tmp_path / "checkpoints" / "last")
    assert kept.metadata["step"] == 5
    assert all(bool(torch.isfinite(value).all()) for value in kept.model.values())
    # with the cause removed, the run goes on from there
    assert train(ToyMethod(), toy_batches(), settings, FolderRecorder(tmp_path), None, **CPU).step == 10


def test_a_gradient_that_is_not_finite_is_no_step(tmp_path: Path) -> None:
    class Steep(ToyMethod):
        def loss(self, prediction, batch, progress):
            return {"segmentation/root": (prediction.segmentation * 0).sum().abs().sqrt()}  # 0, with an infinite slope

    with pytest.raises(RunError, match=r"gradient is not finite at optimiser step 1.*no earlier checkpoint"):
        train(Steep(), toy_batches(), TrainingSettings(epochs=1), FolderRecorder(tmp_path), None, **CPU)


class StopAt(FolderRecorder):
    """Asks to stop before a certain optimiser step."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder)
        self.asked, self.step = 0, step

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked > self.step


def test_a_stopped_run_is_taken_up_where_it_stood(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=4, steps_per_epoch=4, ema=0.9, record_every=3, seed=5)
    undisturbed = ToyMethod()
    expected = train(undisturbed, toy_batches(), settings, FolderRecorder(tmp_path / "a"), accuracy, **CPU)
    result = train(ToyMethod(), toy_batches(), settings, StopAt(tmp_path / "b", 6), accuracy, **CPU)
    assert (result.stopped, result.step) == ("cancelled", 6)
    model = ToyMethod(seed=3)  # whatever it was initialised with
    found = train(model, toy_batches(), settings, FolderRecorder(tmp_path / "b"), accuracy, **CPU)
    assert differ(weights(model), weights(undisturbed)) == set()
    assert replace(found, budget={}) == replace(expected, budget={})
    timeless = {name: value for name, value in expected.budget.items() if name != "seconds"}
    assert {name: value for name, value in found.budget.items() if name != "seconds"} == timeless
    assert FolderRecorder(tmp_path / "b").events() == FolderRecorder(tmp_path / "a").events()


def test_worker_processes_do_not_change_the_result(tmp_path: Path) -> None:
    models = ToyMethod(), ToyMethod()
    for workers, model in enumerate(models):
        settings = TrainingSettings(epochs=1, steps_per_epoch=5, accumulate=2, workers=2 * workers)
        train(model, toy_batches(), settings, FolderRecorder(tmp_path / str(workers)), None, **CPU)
    assert differ(weights(models[0]), weights(models[1])) == set()


def test_augmentation_gets_batch_and_index_and_drop_out_is_seeded(tmp_path: Path) -> None:
    indices: list[int] = []

    def augment(batch: Batch, index: int) -> Batch:
        indices.append(index)
        return replace(batch, images=batch.images * 0.5)

    settings = TrainingSettings(epochs=1, steps_per_epoch=3, accumulate=2)
    state = torch.get_rng_state()
    models = [ToyMethod(dropout=0.5) for _ in range(3)]
    train(models[0], toy_batches(), settings, FolderRecorder(tmp_path / "a"), None, augment=augment, **CPU)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random state is left alone
    torch.manual_seed(123)
    train(models[1], toy_batches(), settings, FolderRecorder(tmp_path / "b"), None, augment=augment, **CPU)
    train(models[2], toy_batches(), settings, FolderRecorder(tmp_path / "c"), None, **CPU)
    assert indices == [*range(6), *range(6)]
    assert differ(weights(models[0]), weights(models[1])) == set()
    assert differ(weights(models[0]), weights(models[2])) != set()


def test_recorded_values_are_means_over_the_window(tmp_path: Path) -> None:
    for every in (1, 4):
        settings = TrainingSettings(epochs=1, steps_per_epoch=10, record_every=every)
        train(ToyMethod(), toy_batches(), settings, FolderRecorder(tmp_path / str(every)), None, **CPU)
    single, means = (FolderRecorder(tmp_path / str(every)).events() for every in (1, 4))
    assert sorted({step for _, step in means}) == [4, 8, 10]
    for name in ("train/objective", "train/learning_rate", "train/gradient_norm", "train/markers/idh"):
        assert means[name, 8] == pytest.approx(sum(single[name, step] for step in (5, 6, 7, 8)) / 4)
        assert means[name, 10] == pytest.approx(sum(single[name, step] for step in (9, 10)) / 2)


def test_the_budget_counts_what_was_done(tmp_path: Path) -> None:
    stages = [Stage("segment", 0.5, ("segmentation",)), Stage("both", 0.5)]
    settings = TrainingSettings(epochs=2, steps_per_epoch=2, accumulate=3)
    result = train(ToyMethod(stages=stages), toy_batches(2), settings, FolderRecorder(tmp_path), None, **CPU)
    budget = result.budget
    voxels, batches = 6 * 5 * 4 * 2, 3  # of a batch; per step
    # two operations per multiply-add; the encoder needs no gradient of its input
    encoder, head, marker = 2 * voxels * 2 * 4 * 27 * 2, 2 * voxels * 4 * 2 * 3, 2 * 2 * 4 * 3
    assert budget["flops"] == batches * (4 * (encoder + head) + 2 * marker)
    assert (budget["steps"], budget["samples"], budget["processes"]) == (4, 24, 1)
    assert (budget["device"], budget["precision"], budget["threads"]) == ("cpu", "no", torch.get_num_threads())
    assert budget["parameters"] == 243
    assert budget["seconds"] > 0


def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match="device 'cuda' is not available here; there are: cpu"):
        train(ToyMethod(), toy_batches(), TrainingSettings(), FolderRecorder(tmp_path), None, device="cuda")
    with pytest.raises(ParameterError, match="one device and one precision per process"):
        train(ToyMethod(), toy_batches(), TrainingSettings(precision="bf16"), FolderRecorder(tmp_path), None, **CPU)
