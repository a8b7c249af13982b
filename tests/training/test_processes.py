"""Several processes are several batches per step: the same numbers as accumulating them in one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from folder_recorder import FolderRecorder
from torch import Tensor, nn
from toy_method import ToyMethod, toy_batches

from workbench.contracts import Batch, Prediction, Stage
from workbench.errors import RunError
from workbench.training.checkpoints import load_checkpoint
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings


class Uncertain(ToyMethod):
    """Its loss has a parameter of its own, and it returns what the loss does not use: DDP has to be told of both."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0, stages=[Stage("joint")])
        self.balance = nn.Parameter(torch.zeros(2))
        self.unused = nn.Parameter(torch.ones(1))

    def forward(self, images, present, modalities=None, *, tasks=("segmentation", "markers"), maps=False) -> Prediction:
        found = super().forward(images, present, modalities, tasks=tasks)
        return replace(found, auxiliary={"unused": self.unused * images.mean()})

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        terms = super().loss(prediction, batch, progress)
        return {name: term * (-weight).exp() + weight for (name, term), weight in zip(terms.items(), self.balance, strict=True)}


STAGES = [Stage("segment", 0.5, ("segmentation",)), Stage("mark", 0.5, ("markers",), ("marker.",))]


def run(folder: Path, accumulate: int) -> None:
    """Eight optimiser steps: in two stages, the second with most of the network frozen, and with a loss that learns."""
    settings = TrainingSettings(epochs=2, steps_per_epoch=4, accumulate=accumulate, ema=0.5, learning_rate=0.05)
    for name, method in {"stages": ToyMethod(dropout=0.0, stages=STAGES), "uncertain": Uncertain()}.items():
        train(
            method,
            toy_batches(),
            settings,
            FolderRecorder(folder / name),
            lambda model: float(model.head.weight.mean()),
            device="cpu",
            progress=False,
        )


@pytest.mark.slow
def test_two_processes_equal_two_accumulated_batches(tmp_path: Path) -> None:
    run(tmp_path / "one", accumulate=2)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from torch.distributed import destroy_process_group; "
        "from test_processes import run; run(Path(sys.argv[1]), 1); destroy_process_group()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2])), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
        str(tmp_path / "two"),
    ]
    done = subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    for method in ("stages", "uncertain"):
        for name in ("last", "best"):
            one, two = (load_checkpoint(tmp_path / folder / method / "checkpoints" / name) for folder in ("one", "two"))
            assert one.model.keys() == two.model.keys()
            for key, value in one.model.items():
                assert torch.allclose(two.model[key], value, atol=1e-6), (method, key)
        assert two.metadata["budget"]["processes"] == 2
        assert two.metadata["budget"]["samples"] == one.metadata["budget"]["samples"]
        expected, found = (FolderRecorder(tmp_path / folder / method).events() for folder in ("one", "two"))
        assert found.keys() == expected.keys()
        assert all(found[key] == pytest.approx(value, abs=1e-5) for key, value in expected.items())

    learned = load_checkpoint(tmp_path / "two" / "uncertain" / "checkpoints" / "last").model["balance"]
    assert bool((learned != 0).all()), "what only the loss uses is trained too"
    with pytest.raises(RunError, match="trained by 2 processes, and this is 1"):
        run(tmp_path / "two", 1)
