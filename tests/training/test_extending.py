"""A finished training taken further: what is taken up, what is not, and that it can be repeated and interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from folder_recorder import FolderRecorder
from toy_method import ToyMethod, toy_batches

from workbench.contracts import Stage
from workbench.errors import RunError
from workbench.training.checkpoints import load_checkpoint
from workbench.training.extending import take_up
from workbench.training.loop import train
from workbench.training.schedule import learning_rate, spans_of
from workbench.training.settings import TrainingSettings

CPU: dict[str, Any] = {"device": "cpu", "progress": False}
SHORT = TrainingSettings(epochs=2, steps_per_epoch=3, learning_rate=0.01, warmup_share=0.3, ema=0.9)
LONG = SHORT.model_copy(update={"epochs": 4, "after": 6})


def score(model: Any) -> float:
    batch = toy_batches(8, seed=99)(0)
    return float((model(batch.images, batch.present, batch.modalities).segmentation.argmax(1) == batch.labels).float().mean())


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    train(ToyMethod(), toy_batches(), SHORT, FolderRecorder(folder), score, **CPU)
    return folder


class StopsAt(FolderRecorder):
    """Asks to stop when the given step has been recorded."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder)
        self.step = step

    def should_stop(self) -> bool:
        return any(step >= self.step for _, step in self.events())


def extend(parent: Path, folder: Path, settings: TrainingSettings = LONG, recorder: Any = None, **options: Any) -> Any:
    take_up(parent / "checkpoints", folder / "checkpoints", settings)
    return train(ToyMethod(), toy_batches(), settings, recorder or FolderRecorder(folder), score, **CPU, **options)


def test_it_goes_on_where_the_parent_ended_and_leaves_it_alone(parent: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()}
    result = extend(parent, tmp_path)
    assert (result.step, result.stopped) == (12, "finished")
    assert result.budget["samples"] == 2 * load_checkpoint(parent / "checkpoints/last").metadata["state"]["samples"]
    assert min(step for _, step in FolderRecorder(tmp_path).events()) == 7, "the parent's steps are not done again"
    assert {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()} == before


def test_the_first_step_starts_from_the_parents_weights_optimiser_and_average(parent: Path, tmp_path: Path) -> None:
    take_up(parent / "checkpoints", tmp_path / "checkpoints", LONG)
    old, new = (load_checkpoint(folder / "checkpoints/last") for folder in (parent, tmp_path))
    for name, value in old.model.items():
        assert torch.equal(value, new.model[name])
    assert new.average is not None
    assert old.average is not None
    assert all(torch.equal(value, new.average[name]) for name, value in old.average.items())
    moments = [[state["exp_avg"] for state in c.optimiser["state"].values()] for c in (old, new)]  # type: ignore[index]
    assert len(moments[0]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
    assert new.metadata["state"]["step"] == 6
    assert new.metadata["state"]["stopped"] == ""
    assert new.metadata["state"]["best_score"] == old.metadata["state"]["best_score"]


def test_twice_is_the_same_and_so_is_an_interrupted_one(parent: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        extend(parent, tmp_path / name)
    broken = tmp_path / "broken"
    assert extend(parent, broken, recorder=StopsAt(broken, 8)).stopped == "cancelled"
    assert extend(parent, broken).stopped == "finished"
    first, second, third = (load_checkpoint(tmp_path / name / "checkpoints/last") for name in ("first", "second", "broken"))
    for name, value in first.model.items():
        assert torch.equal(value, second.model[name])
        assert torch.equal(value, third.model[name])
    assert not all(
        torch.equal(value, load_checkpoint(parent / "checkpoints/last").model[name]) for name, value in first.model.items()
    )


def test_the_added_steps_are_a_cycle_of_their_own_in_the_last_stage() -> None:
    stages = [Stage(name="first", share=0.5), Stage(name="joint", share=0.5, learning_rate=0.5)]
    (span,) = spans_of(stages, LONG)
    assert (span.stage.name, span.start, span.stop) == ("joint", 6, 12)
    rates = [learning_rate(LONG, span, step) for step in range(6, 12)]
    assert rates[0] < rates[1] == pytest.approx(0.005), "warm-up over 0.3 of six steps, to the stage's own peak"
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert [span.stop for span in spans_of(stages, SHORT)] == [3, 6], "an ordinary training is what it was"


def test_a_stage_is_not_begun_anew(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyMethod, "enter_stage", lambda *_: pytest.fail("a stage that resets weights would forget the parent"))
    extend(parent, tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"seed": 1}, "seed 0 -> 1"), ({"steps_per_epoch": 4}, "steps_per_epoch 3 -> 4"), ({"ema": 0.5}, "ema"),
     ({"after": 3}, "of step 6"), ({"epochs": 2}, "of step 6")],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(
    parent: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RunError, match=reason):
        take_up(parent / "checkpoints", tmp_path / "checkpoints", LONG.model_copy(update=changes))
    assert not (tmp_path / "checkpoints" / "last.safetensors").exists()


def test_a_parent_that_stopped_early_goes_on_with_fresh_patience(tmp_path: Path) -> None:
    early = SHORT.model_copy(update={"epochs": 9, "patience": 1})
    scores = iter([0.9] + [0.1] * 20)
    result = train(ToyMethod(), toy_batches(), early, FolderRecorder(tmp_path / "p"), lambda _: next(scores), **CPU)
    assert (result.stopped, result.step) == ("early", 6)
    longer = early.model_copy(update={"epochs": 4, "after": 6, "patience": 2})
    result = extend(tmp_path / "p", tmp_path / "c", longer)
    assert result.step > 6
    assert result.best_step == 3, "nothing better came: the parent's best weights stay"
    best = [load_checkpoint(tmp_path / name / "checkpoints/best").model for name in "pc"]
    assert all(torch.equal(value, best[1][name]) for name, value in best[0].items())
