"""What `test_distributed.py` runs in one process and, started by torchrun, in two: every method for a few steps."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from folder_recorder import FolderRecorder
from test_methods import CASES, GIVEN, MARKERS, Case

from workbench.contracts import Batch
from workbench.files import write_json
from workbench.training.loop import train
from workbench.training.settings import TrainingSettings

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in CASES},
    # what recomputes activations does so in the published size: a backward pass that runs forward passes
    **{name: (name, {"checkpointing": True}) for name in ("mts_unet", "mgmt_net", "m4oe", "masm")},
    # most of the network frozen from the second stage on, after it has been wrapped
    "mome frozen": ("mome", {"experts": "frozen", "expert_share": 0.5}),
    "mome checkpointed": ("mome", {"experts": "checkpointed", "expert_share": 0.5}),
}
"""What is trained: the tiny form of every method, and further options."""
STEPS = 2
"""Optimiser steps of a method without stages; one with stages takes as many as its shortest stage needs to have one."""


def batch(case: Case, index: int) -> Batch:
    """Batch `index`: sequences, masks and markers come and go, so that two processes seldom supervise the same heads."""
    generator = torch.Generator().manual_seed(index)
    images = torch.randn(2 if case.pretraining else 1, len(GIVEN), *case.shape, generator=generator)
    present = torch.ones(images.shape[:2], dtype=torch.bool)
    present[-1, GIVEN.index("flair")] = index % 2 == 0
    images[~present] = 0
    if case.pretraining:
        return Batch(GIVEN, images, present, None, ("", ""), {})
    labels = torch.randint(0, 4, (1, *case.shape), generator=generator)
    markers = {name: torch.tensor([float(index % 2)]) for name in MARKERS}
    markers["grade"] = torch.tensor([math.nan if index % 4 == 2 else 2.0 + index % 3])
    known = Batch(GIVEN, images, present, labels, ("glioma",), markers)
    return replace(known, labels=None, label_set=("",)) if index % 4 == 3 else known


def run(form: str, folder: Path, accumulate: int) -> None:
    """Train one of `FORMS`; 'digest.json' says what each process holds at the end."""
    name, options = FORMS[form]
    case = CASES[name]
    model = case.build(**options)
    steps = max(STEPS, *(math.ceil(1 / stage.share) for stage in model.stages()))
    # plain gradient descent: AdamW divides by the size of a gradient, and makes of rounding errors steps of full length
    settings = TrainingSettings(
        epochs=1, steps_per_epoch=steps, accumulate=accumulate, optimiser="sgd", learning_rate=0.01, warmup_share=0.0
    )
    started = time.monotonic()
    result = train(model, lambda index: batch(case, index), settings, FolderRecorder(folder), None, device="cpu", progress=False)
    digest = hashlib.blake2b(digest_size=16)
    for _, weights in sorted(model.named_parameters()):
        digest.update(weights.detach().contiguous().numpy().tobytes())
    held: dict[str, Any] = {"digest": digest.hexdigest(), "seconds": round(time.monotonic() - started, 1)}
    everyone = gather_object([held]) if result.budget["processes"] > 1 else [held]
    write_json(folder / "digest.json", everyone)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in json.loads(sys.argv[2]):
        run(chosen, Path(sys.argv[1]) / chosen, 1)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # its threads would abort an interpreter that ends before them
