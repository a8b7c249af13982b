"""What the training loop costs over a bare PyTorch loop on the same network and batches, in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from folder_recorder import FolderRecorder
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from workbench.contracts import Batch
from workbench.models.registry import create_model
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings

STEPS = 8


def batch(index: int) -> Batch:
    generator = torch.Generator().manual_seed(index)
    images = torch.randn(2, 2, 32, 32, 32, generator=generator)
    return Batch(
        modalities=("t1", "t2"),
        images=images,
        present=torch.ones(2, 2, dtype=torch.bool),
        labels=(images.mean(1) > 0.5).long(),
        label_set=("glioma", "glioma"),
        markers={},
    )


def net() -> nn.Module:
    return create_model("unet", modalities=("t1", "t2"), levels=3, width=8)


def bare() -> None:
    model = net().train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    for step in range(STEPS):
        current = batch(step)
        terms = model.loss(model(current.images, current.present, current.modalities), current, 0.0)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()


def ours(folder: Path) -> None:
    settings = TrainingSettings(epochs=1, steps_per_epoch=STEPS)
    train(net(), batch, settings, FolderRecorder(folder), None, device="cpu", progress=False)


def seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.mark.slow
def test_the_loop_costs_little_over_a_bare_one(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    """Recording, checks for NaN, counting operations and both checkpoints included."""
    ours(tmp_path / "warm")
    bare()

    def ratio() -> float:
        # interleaved, and the best of each: what else the machine does hits both
        pairs = [(seconds(bare), seconds(lambda i=i: ours(tmp_path / str(i)))) for i in range(4)]
        return min(own for _, own in pairs) / min(plain for plain, _ in pairs)

    found = benchmark.pedantic(ratio, rounds=1)
    benchmark.extra_info["training loop / bare loop"] = round(found, 3)
    assert found < 1.5
