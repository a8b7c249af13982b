"""Where a training stands: what is kept, what is taken up again, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from folder_recorder import FolderRecorder
from toy_method import ToyMethod, toy_batches

from workbench.errors import RunError
from workbench.training.checkpoints import load_checkpoint, load_weights
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings
from workbench.training.state import Keeper, describe

CPU: dict[str, Any] = {"device": "cpu", "progress": False}
ALONE = SimpleNamespace(is_main_process=True, num_processes=1, device=torch.device("cpu"), mixed_precision="no")


def test_other_settings_or_another_model_do_not_resume(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=1, steps_per_epoch=2, learning_rate=0.01)
    train(ToyMethod(), toy_batches(), settings, FolderRecorder(tmp_path), None, **CPU)
    with pytest.raises(RunError, match=r"other settings \(learning_rate 0\.01 -> 0\.02\)"):
        train(
            ToyMethod(),
            toy_batches(),
            settings.model_copy(update={"learning_rate": 0.02}),
            FolderRecorder(tmp_path),
            None,
            **CPU,
        )
    with pytest.raises(RunError, match="of another shape"):
        train(ToyMethod(width=5), toy_batches(), settings, FolderRecorder(tmp_path), None, **CPU)
    # settings that do not change the result may change
    train(ToyMethod(), toy_batches(), settings.model_copy(update={"workers": 1}), FolderRecorder(tmp_path), None, **CPU)


def test_the_best_checkpoint_is_the_judged_weights_alone_and_the_last_is_all_that_is_needed(tmp_path: Path) -> None:
    keeper = Keeper(ToyMethod(), TrainingSettings(ema=0.9), FolderRecorder(tmp_path), ALONE)
    with torch.no_grad():
        keeper.judged().head.weight.fill_(3.0)
    keeper.state.step, keeper.state.best_score, keeper.state.window = 7, 0.1 + 0.2, {"loss": 1 / 3}
    keeper.save("best")
    keeper.save("last")
    best, last = (load_checkpoint(tmp_path / "checkpoints" / name) for name in ("best", "last"))
    assert torch.equal(best.model["head.weight"], torch.full_like(best.model["head.weight"], 3.0))
    assert (best.optimiser, best.average) == (None, None)
    assert torch.equal(last.model["head.weight"], keeper.model.head.weight)

    again = Keeper(ToyMethod(seed=1), TrainingSettings(ema=0.9), FolderRecorder(tmp_path), ALONE)
    assert (again.state.step, again.state.best_score, again.state.window) == (7, 0.1 + 0.2, {"loss": 1 / 3})
    assert torch.equal(again.model.encoder.weight, keeper.model.encoder.weight)
    assert torch.equal(again.judged().head.weight, best.model["head.weight"])


class Grown(ToyMethod):
    """The toy of a newer version: one weight more, which older checkpoints lack and which was 0 then."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.shift = torch.nn.Parameter(torch.ones(1))

    def upgraded(self, state: Any) -> Any:
        return {"shift": torch.zeros(1), **state}


def test_weights_of_an_older_version_are_taken_over_and_its_unfinished_training_is_not(tmp_path: Path) -> None:
    before = ToyMethod(seed=3)
    train(before, toy_batches(), TrainingSettings(epochs=1, steps_per_epoch=2), FolderRecorder(tmp_path), None, **CPU)
    now = Grown()
    load_weights(tmp_path / "checkpoints" / "best", now)
    assert torch.equal(now.encoder.weight, before.encoder.weight)
    assert now.shift.tolist() == [0.0]
    with pytest.raises(RunError, match=r"last was written by an older version, whose network had other parameters"):
        Keeper(Grown(), TrainingSettings(epochs=1, steps_per_epoch=2), FolderRecorder(tmp_path), ALONE)


def test_only_the_main_process_writes_and_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    second = SimpleNamespace(**vars(ALONE) | {"is_main_process": False})
    Keeper(ToyMethod(), TrainingSettings(), FolderRecorder(tmp_path), second).save("last")
    assert not (tmp_path / "checkpoints").exists()
    Keeper(ToyMethod(), TrainingSettings(), FolderRecorder(tmp_path), ALONE).save("last")
    with pytest.raises(RunError, match="was trained by 1 processes, and this is 2"):
        Keeper(ToyMethod(), TrainingSettings(), FolderRecorder(tmp_path), SimpleNamespace(**vars(ALONE) | {"num_processes": 2}))


def test_a_checkpoint_says_what_it_was_written_for() -> None:
    assert describe(ToyMethod()) == {"method": "toy"}
    assert describe(SimpleNamespace(architecture=lambda: {"method": "unet", "width": 4})) == {"method": "unet", "width": 4}
    assert describe(SimpleNamespace()) == {"method": "SimpleNamespace"}
    assert json.dumps(describe(torch.nn.Linear(1, 1))) == '{"method": "Linear"}'
