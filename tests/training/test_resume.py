"""The promise of the loop: killed at any moment and started again, it ends as if nothing had happened, to the bit."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folder_recorder import FolderRecorder
from toy_method import ToyMethod, toy_batches

from workbench.contracts import Batch, Stage
from workbench.errors import RunError, StopRequest
from workbench.seeding import derive_seed
from workbench.training.checkpoints import load_checkpoint
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    epochs=6, steps_per_epoch=5, accumulate=2, ema=0.95, learning_rate=0.02, checkpoint_every=3, record_every=2, seed=11
)
STAGES = [Stage("segment", 0.4, ("segmentation",)), Stage("joint", 0.6)]


def noisy(batch: Batch, index: int) -> Batch:
    generator = torch.Generator().manual_seed(derive_seed(SETTINGS.seed, "augment", index))
    return replace(batch, images=batch.images + 0.1 * torch.randn(batch.images.shape, generator=generator))


def validate(model: Any) -> float:
    batch = toy_batches(8, seed=99)(0)
    return -float(sum(model.loss(model(batch.images, batch.present), batch, 1.0).values()))


def run(folder: Path, pause: float = 0.0) -> None:
    """The training under test; `pause` seconds per batch leave time to kill it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # results are bit-identical per thread count

    def slow(index: int) -> Batch:
        time.sleep(pause)
        return toy_batches()(index)

    model = ToyMethod(width=6, dropout=0.3, stages=STAGES)
    train(model, slow, SETTINGS, FolderRecorder(folder), validate, augment=noisy, device="cpu", progress=False)
    torch.set_num_threads(threads)


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], dict[tuple[str, int], float | None], dict[str, Any]]:
    """All tensors of both checkpoints, all events, and the state apart from the clock."""
    tensors, states = {}, {}
    for name in ("last", "best"):
        checkpoint = load_checkpoint(folder / "checkpoints" / name)
        tensors |= {f"{name} {key}": value for key, value in checkpoint.model.items()}
        tensors |= {f"{name} average {key}": value for key, value in (checkpoint.average or {}).items()}
        for index, entries in (checkpoint.optimiser or {"state": {}})["state"].items():
            tensors |= {f"{name} optimiser {index} {key}": value for key, value in entries.items()}
        states[name] = checkpoint.metadata["state"] | {"seconds": 0}
    return tensors, FolderRecorder(folder).events(), states


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_many_times_it_ends_the_same_to_the_bit(tmp_path: Path, fresh: bool) -> None:
    run(tmp_path / "a")
    fork = multiprocessing.get_context("fork")  # a fresh interpreter would spend seconds on importing torch
    rng = np.random.default_rng(3)
    events = tmp_path / "b" / "events.jsonl"
    for _ in range(4):
        size = events.stat().st_size if events.exists() else 0
        process = fork.Process(target=run, args=(tmp_path / "b", 0.005))
        process.start()
        deadline = time.monotonic() + 30
        while process.is_alive() and time.monotonic() < deadline and not (events.exists() and events.stat().st_size > size):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.12))
        process.kill()
        process.join()
    lines = events.read_text().splitlines()
    assert len(lines) > len(FolderRecorder(tmp_path / "b").events()), "no kill cost a step: the test shows nothing"
    if fresh:  # the last piece in an interpreter of its own: nothing may hang on what a process carries
        code = "import sys; from pathlib import Path; from test_resume import run; run(Path(sys.argv[1]))"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True, env=environment, timeout=120)
    else:
        run(tmp_path / "b")

    tensors, recorded, states = outcome(tmp_path / "b")
    expected = outcome(tmp_path / "a")
    assert tensors.keys() == expected[0].keys()
    assert [name for name, value in expected[0].items() if not torch.equal(tensors[name], value)] == []
    assert recorded == expected[1]
    assert states == expected[2]
    assert states["last"]["step"] == SETTINGS.steps


def test_a_validation_that_is_broken_off_is_made_up_for(tmp_path: Path) -> None:
    """Asked to stop in the middle of a validation: nothing of the epoch is lost, and the end is the same to the bit."""
    settings = TrainingSettings(epochs=3, steps_per_epoch=3, learning_rate=0.01, ema=0.9, patience=2)
    asked: list[bool] = []

    class Stops(FolderRecorder):
        def should_stop(self) -> bool:
            return bool(asked)

    def broken_off(model: Any) -> float:
        if len(seen) == 1:  # the second validation
            asked.append(True)
            raise StopRequest("stop")
        seen.append(1)
        return score(model)

    def score(model: Any) -> float:
        batch = toy_batches(8, seed=99)(0)
        return float((model(batch.images, batch.present, batch.modalities).segmentation.argmax(1) == batch.labels).float().mean())

    seen: list[int] = []
    whole = train(ToyMethod(), toy_batches(), settings, FolderRecorder(tmp_path / "whole"), score, device="cpu", progress=False)
    stopped = train(ToyMethod(), toy_batches(), settings, Stops(tmp_path / "broken"), broken_off, device="cpu", progress=False)
    assert (stopped.stopped, stopped.step) == ("cancelled", 6), "the step is done, its validation is not"
    resumed = train(
        ToyMethod(), toy_batches(), settings, FolderRecorder(tmp_path / "broken"), score, device="cpu", progress=False
    )
    assert (resumed.step, resumed.stopped, resumed.best_score, resumed.best_step) == (
        whole.step, whole.stopped, whole.best_score, whole.best_step
    )  # fmt: skip
    events = [FolderRecorder(tmp_path / name).events() for name in ("whole", "broken")]
    assert events[0] == events[1]
    states = [load_checkpoint(tmp_path / name / "checkpoints/last").model for name in ("whole", "broken")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_on_a_disk_that_fills_up_the_last_checkpoint_stays_and_the_end_is_the_same_to_the_bit(
    tmp_path: Path, small_disk: Path
) -> None:
    run(tmp_path / "whole")
    folder = small_disk / "run"
    stem = folder / "checkpoints" / "last"
    filler = small_disk / "filler"

    class Fills(FolderRecorder):
        def should_stop(self) -> bool:
            if not filler.exists() and stem.with_name("best.safetensors").exists():  # 'last' is written next
                with filler.open("wb", buffering=0) as handle, suppress(OSError):
                    while True:
                        handle.write(bytes(1024))
            return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(run.__globals__, "FolderRecorder", Fills)
        with pytest.raises(RunError, match=r"checkpoints/last cannot be written.*No space left on device.*the one before stays"):
            run(folder)
    assert filler.stat().st_size > 0
    assert load_checkpoint(stem).metadata["state"]["step"] == SETTINGS.checkpoint_every, "the one before is whole"
    filler.unlink()
    run(folder)
    found, expected = outcome(folder), outcome(tmp_path / "whole")
    assert [name for name, value in expected[0].items() if not torch.equal(found[0][name], value)] == []
    assert found[1:] == expected[1:]
