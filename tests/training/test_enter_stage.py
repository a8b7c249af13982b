"""A stage may draw parameters anew: once, as a function of seed and stage, and the same after any interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from folder_recorder import FolderRecorder
from toy_method import ToyMethod, toy_batches

from workbench.contracts import Batch, Stage
from workbench.models.registry import create_model
from workbench.training.checkpoints import load_checkpoint
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=4, steps_per_epoch=2, ema=0.9, learning_rate=0.02, checkpoint_every=1, optimiser="sgd", seed=5)


class Restarting(ToyMethod):
    """Its head starts anew in the joint stage, in the middle of the run."""

    def __init__(self) -> None:
        super().__init__(stages=[Stage("first", 0.5, ("segmentation",)), Stage("joint", 0.5)])
        self.entered: list[str] = []
        self.drawn = torch.empty(0)

    def enter_stage(self, stage: Stage) -> tuple[str, ...]:
        self.entered.append(stage.name)
        if stage.name == "first":
            return ()
        torch.nn.init.normal_(self.head.weight)
        self.drawn = self.head.weight.detach().clone()
        return ("head.",)


class StoppingAfter(FolderRecorder):
    """Asks to stop after so many steps."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(folder)
        self.left = steps

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left < 0


def outcome(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(folder / "checkpoints" / "last")
    assert checkpoint.optimiser is not None
    momentum = {f"optimiser {i} {k}": v for i, e in checkpoint.optimiser["state"].items() for k, v in e.items()}
    return checkpoint.model | {f"average {k}": v for k, v in (checkpoint.average or {}).items()} | momentum


def run(make: Any, batches: Any, folder: Path, stops: tuple[int, ...]) -> list[Any]:
    """Train with interruptions after so many steps each; every piece has a new model, as in a new process."""
    models = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for steps in (*stops, SETTINGS.steps):
        models.append(make())
        recorder = StoppingAfter(folder, steps)
        train(models[-1], batches, SETTINGS, recorder, None, device="cpu", progress=False)
    torch.set_num_threads(threads)
    return models


@pytest.mark.parametrize("stops", [(4,), (5,), (1, 3, 2)], ids=["at the boundary", "just after", "three times"])
def test_an_interruption_changes_nothing(tmp_path: Path, stops: tuple[int, ...]) -> None:
    whole = run(Restarting, toy_batches(), tmp_path / "whole", ())[0]
    assert whole.entered == ["first", "joint"]
    pieces = run(Restarting, toy_batches(), tmp_path / "pieces", stops)
    assert [name for piece in pieces for name in piece.entered] == ["first", "joint"], "each stage begins once"
    found, expected = outcome(tmp_path / "pieces"), outcome(tmp_path / "whole")
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_what_starts_anew_forgets_its_momentum_and_its_average(tmp_path: Path) -> None:
    """One step after the boundary the momentum of the head is that step's gradient alone, and its average is near its weights."""
    torch.set_num_threads(1)
    model = Restarting()
    train(model, toy_batches(), SETTINGS, StoppingAfter(tmp_path, 5), None, device="cpu", progress=False)
    state = outcome(tmp_path)
    momentum = state[f"optimiser {[name for name, _ in model.named_parameters()].index('head.weight')} momentum_buffer"]
    # Nesterov's first step from no momentum: the buffer is the gradient g, and the step is rate x (g + 0.99 g)
    torch.testing.assert_close(state["head.weight"], model.drawn - SETTINGS.learning_rate * 1.99 * momentum)
    moved = (state["average module.head.weight"] - model.drawn) / (state["head.weight"] - model.drawn)
    assert 0 < float(moved.mean()) < 1
    torch.testing.assert_close(moved, moved.mean().expand_as(moved), rtol=1e-3, atol=1e-3)  # between the two: nothing older


@pytest.mark.parametrize("stops", [(), (4,), (5, 2)], ids=["whole", "at the boundary", "twice"])
def test_the_best_weights_and_early_stopping_are_the_last_stages(tmp_path: Path, stops: tuple[int, ...]) -> None:
    """The first stage scores highest and then gets worse: neither its weights are chosen nor does the run end in it."""
    scores = iter([0.9, 0.8, 0.3, 0.4, 0.2, 0.1])  # every second step
    settings = SETTINGS.model_copy(update={"epochs": 6, "patience": 1})
    for steps in (*stops, settings.steps):
        model = ToyMethod(stages=[Stage("first", 1 / 3, ("segmentation",)), Stage("joint", 2 / 3)])
        recorder = StoppingAfter(tmp_path, steps)
        result = train(model, toy_batches(), settings, recorder, lambda _: next(scores), device="cpu", progress=False)
    assert (result.best_score, result.best_step) == (0.4, 8)
    assert (result.stopped, result.step) == ("early", 10)
    assert load_checkpoint(tmp_path / "checkpoints" / "best").metadata["step"] == 8


def mixed_batch(index: int) -> Batch:
    """No sample has all sequences: t1 and flair, or dwi alone."""
    generator = torch.Generator().manual_seed(index)
    names = ("t1", "flair", "dwi")
    present = torch.tensor([[True, True, False], [False, False, True]])
    images = torch.randn(2, 3, 8, 8, 8, generator=generator) * present[:, :, None, None, None]
    labels = torch.randint(0, 2, (2, 8, 8, 8), generator=generator)
    return Batch(names, images, present, labels, ("lesion", "lesion"), {})


@pytest.mark.parametrize("method", ["mome", "mome_plus"])
def test_mome_resumes_at_the_start_of_its_second_stage(tmp_path: Path, method: str) -> None:
    def make() -> Any:
        return create_model(method, modalities=("t1", "flair", "dwi"), classes=2, width=4, levels=3, expert_share=0.5)

    run(make, mixed_batch, tmp_path / "whole", ())
    model = run(make, mixed_batch, tmp_path / "pieces", (2, 2))[-1]
    found, expected = outcome(tmp_path / "pieces"), outcome(tmp_path / "whole")
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    alone = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        logits = model.eval()(alone, torch.ones(1, 1, dtype=torch.bool), ("dwi",)).segmentation
    assert logits.shape == (1, 2, 8, 8, 8)
