"""Several processes are several batches per step: the same numbers as accumulating them in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_method import ToyMethod, toy_batches

from workbench.contracts import Stage
from workbench.training.checkpoints import load_checkpoint
from workbench.training.loop import train
from workbench.training.recorder import FolderRecorder
from workbench.training.settings import TrainingSettings

STAGES = [Stage("segment", 0.5, ("segmentation",)), Stage("mark", 0.5, ("markers",), ("marker.",))]


def run(folder: Path, accumulate: int, steps_per_epoch: int = 4) -> None:
    """Eight optimiser steps in two stages, the second with most of the network frozen."""
    settings = TrainingSettings(epochs=2, steps_per_epoch=steps_per_epoch, accumulate=accumulate, ema=0.5, learning_rate=0.05)
    train(
        ToyMethod(dropout=0.0, stages=STAGES),
        toy_batches(),
        settings,
        FolderRecorder(folder),
        lambda model: float(model.head.weight.mean()),
        device="cpu",
        progress=False,
    )


@pytest.mark.slow
def test_two_processes_equal_two_accumulated_batches(tmp_path: Path) -> None:
    run(tmp_path / "one", accumulate=2)
    script = tmp_path / "script.py"
    script.write_text("import sys; from pathlib import Path; from test_processes import run; run(Path(sys.argv[1]), 1)\n")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
        str(tmp_path / "two"),
    ]
    subprocess.run(command, check=True, env=environment, timeout=300, capture_output=True)

    for name in ("last", "best"):
        one, two = (load_checkpoint(tmp_path / folder / "checkpoints" / name) for folder in ("one", "two"))
        assert one.model.keys() == two.model.keys()
        for key, value in one.model.items():
            assert torch.allclose(two.model[key], value, atol=1e-6), key
    assert two.metadata["budget"]["processes"] == 2
    assert two.metadata["budget"]["samples"] == one.metadata["budget"]["samples"]
    expected, found = FolderRecorder(tmp_path / "one").events(), FolderRecorder(tmp_path / "two").events()
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(value, abs=1e-5) for key, value in expected.items())
