from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from folder_recorder import FolderRecorder
from torch import nn
from toy_method import ToyMethod, toy_batches

from workbench.contracts import Prediction
from workbench.training.devices import full_precision, repeatable, seed_torch, use_channels_last
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings


def test_full_precision_leaves_integers_alone() -> None:
    half = torch.ones(2, dtype=torch.bfloat16)
    found = full_precision(Prediction(half, {"idh": half}, {"gate": half}, {"aux": half, "index": torch.arange(3)}))
    assert found.segmentation.dtype == found.markers["idh"].dtype == found.auxiliary["aux"].dtype == torch.float32
    assert found.auxiliary["index"].dtype == torch.int64
    assert full_precision(Prediction()).segmentation is None


def test_channels_last_changes_the_layout_only() -> None:
    net = nn.Sequential(nn.Conv3d(2, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(3, 3))
    images = torch.randn(1, 2, 6, 5, 4)
    before = net[0](images)
    use_channels_last(net)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(net[0](images.contiguous(memory_format=torch.channels_last_3d)), before, atol=1e-6)


def test_random_state_and_switches_are_put_back() -> None:
    state, cpu = torch.get_rng_state(), torch.device("cpu")
    with repeatable(cpu, deterministic=True):
        seed_torch(cpu, 5)
        first = torch.rand(3)
        torch.use_deterministic_algorithms(True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(cpu, deterministic=True):
        torch.manual_seed(5)
        assert torch.equal(torch.rand(3), first)


class HalfToy(ToyMethod):
    """Remembers in which precision it computed and in which its loss did."""

    inner: torch.dtype
    outer: torch.dtype

    def forward(self, *inputs, **options) -> Prediction:
        prediction = super().forward(*inputs, **options)
        self.inner = prediction.segmentation.dtype
        return prediction

    def loss(self, prediction, batch, progress):
        self.outer = prediction.segmentation.dtype
        return super().loss(prediction, batch, progress)


def half(folder: Path, answer: Connection) -> None:
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)  # this process's parent trained in float32
    model = HalfToy()
    settings = TrainingSettings(epochs=1, steps_per_epoch=3, precision="bf16")
    result = train(model, toy_batches(), settings, FolderRecorder(folder), None, device="cpu", progress=False)
    weights = {parameter.dtype for parameter in model.parameters()}
    answer.send((model.inner, model.outer, weights, result.budget["precision"]))


def test_bf16_computes_in_half_and_judges_in_full_precision(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")  # accelerate knows one precision per process
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=half, args=(tmp_path, sender))
    process.start()
    assert receiver.poll(60)
    assert receiver.recv() == (torch.bfloat16, torch.float32, {torch.float32}, "bf16")
    process.join()
