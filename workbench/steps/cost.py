"""What a training step costs: parameters, operations and memory of a method, counted without values or measured for real."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.optim import SGD
from torch.utils.flop_counter import FlopCounterMode

from workbench.contracts import Batch
from workbench.models.method import MethodModule
from workbench.models.registry import create_model
from workbench.sampling.batches import datasets
from workbench.training.devices import use_channels_last
from workbench.training.schedule import set_trainable
from workbench.workers import worker_pool

FLOAT = 4
"""Bytes of a float32."""


GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """One optimiser step of a method's last stage; float32, SGD with momentum."""

    parameters: int
    trained: int
    """Parameters that this stage trains."""
    flops: int
    """Operations of forward and backward pass (two per multiply-add), recomputation included."""
    kept: int
    """Bytes of activations kept between forward and backward pass."""
    seconds: float = float("nan")
    """Median time of a step; NaN where it was not run."""
    peak: int = 0
    """Bytes of memory that building the model and two steps took at their peak; 0 where they were not run."""

    @property
    def memory(self) -> int:
        """Bytes of weights, gradients, momentum and kept activations: the least that a step needs."""
        return FLOAT * (self.parameters + 2 * self.trained) + self.kept


def planned_cost(
    method: str, options: Mapping[str, Any], *, modalities: Sequence[str], classes: int, side: int, batch: int = 2
) -> Cost:
    """Count a step of any size on torch's meta device, where tensors have shapes and no memory.

    Args:
        method: its name.
        options: its own settings.
        modalities: the sequences that it is built for; the samples have all of them.
        classes: of the segmentation, 2, 4 or 5.
        side: of the cubic patch, voxels.
        batch: samples per step.
    """
    with torch.device("meta"):
        model = create_model(method, modalities=modalities, classes=classes, **options)
        given = _batch(modalities, side, batch)
    trained = _last_stage(model)
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            objective = _objective(model, given)
        size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        objective.backward()
    return Cost(model.parameter_count(), trained, int(counter.get_total_flops()), size)


def measured_cost(
    method: str, options: Mapping[str, Any], *, modalities: Sequence[str], classes: int, side: int, batch: int = 2,
    steps: int = 3, threads: int = 1,
) -> Cost:  # fmt: skip
    """`planned_cost`, and steps run for real on the CPU in a process of their own, whose memory is its own."""
    how: dict[str, Any] = {"modalities": tuple(modalities), "classes": classes, "side": side, "batch": batch}
    with worker_pool(1) as pool:
        seconds, peak = pool.submit(_run, method, dict(options), steps, threads, how).result()
    return replace(planned_cost(method, options, **how), seconds=seconds, peak=peak)


def _run(method: str, options: dict[str, Any], steps: int, threads: int, how: Mapping[str, Any]) -> tuple[float, int]:
    """Seconds of a step and bytes at the peak; the first step warms up."""
    torch.set_num_threads(threads)
    before = _peak()
    model = create_model(method, modalities=how["modalities"], classes=how["classes"], **options)
    use_channels_last(model)
    _last_stage(model)
    optimiser = SGD([p for p in model.parameters() if p.requires_grad], 1e-3, momentum=0.99, nesterov=True)
    given = _batch(how["modalities"], how["side"], how["batch"])
    given = replace(given, images=given.images.contiguous(memory_format=torch.channels_last_3d))
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        _objective(model, given).backward()
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]), _peak() - before


def _peak() -> int:
    """Largest resident memory of this process so far, bytes.

    Linux hands `ru_maxrss` on to a process from the one that started it; the high-water mark of its own memory begins anew.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        marks = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        if mark := next(marks, ""):
            return int(mark.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _batch(modalities: Sequence[str], side: int, batch: int) -> Batch:
    images = torch.randn(batch, len(modalities), side, side, side)
    labels = torch.zeros(batch, side, side, side, dtype=torch.long)
    present = torch.ones(batch, len(modalities), dtype=torch.bool)
    return Batch(tuple(modalities), images, present, labels, ("lesion",) * batch, {})


def _last_stage(model: MethodModule) -> int:
    """Set the last stage's parameters free, freeze the others; how many are trained."""
    model.train()
    set_trainable(model, model.stages()[-1], [name for name, _ in model.named_parameters()])
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _objective(model: MethodModule, given: Batch) -> Tensor:
    prediction = model(given.images, given.present, given.modalities, tasks=model.stages()[-1].tasks)
    known = replace(given, present=torch.ones(given.present.shape, dtype=torch.bool))  # on the CPU: a loss may read it
    return torch.stack(list(model.loss(prediction, known, 0.9).values())).sum()


def task_networks(cohort_cases: pd.DataFrame, modalities: tuple[str, ...]) -> list[tuple[str, str]]:
    """The (data set, sequence) pairs that have images: one task-specific network each. Where data sets are unknown, sites."""
    groups = cohort_cases.groupby(datasets(cohort_cases), sort=True)
    return [(str(source), name) for source, rows in groups for name in modalities if rows[name].notna().any()]


def cost_table(
    modalities: tuple[str, ...], classes: int, networks: int, *, options: dict[str, Any] | None = None, side: int = 128,
    batch: int = 2, run: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """What the compared networks cost at one plan: MoME in its three memory forms, MoME+, pooled and task-specific U-Nets.

    Args:
        modalities: sequences, one expert each.
        classes: of the segmentation.
        networks: how many task-specific networks a full set is, see `task_networks`; each is as large as the pooled one.
        options: width and levels; None = the paper's.
        side: of the cubic patch.
        batch: samples per step.
        run: also run steps on the CPU for time and peak memory; at the paper's size that needs a large machine.

    Returns:
        One row per choice; parameters in millions, memory in GiB (float32, SGD with momentum), operations in TFLOP per step. A
        task-specific set is trained one network at a time: its memory is one network's, its operations and time those of all.
    """
    count = measured_cost if run else planned_cost
    rows = {}
    for title, method, extra in (
        ("MoME", "mome", {}),
        ("MoME, experts checkpointed", "mome", {"experts": "checkpointed"}),
        ("MoME, experts frozen", "mome", {"experts": "frozen"}),
        ("MoME+", "mome_plus", {}),
        ("pooled U-Net", "pooled_unet", {}),
    ):
        cost = count(method, {**(options or {}), **extra}, modalities=modalities, classes=classes, side=side, batch=batch)
        rows[title] = _cost_row(cost, 1, run)
    rows[f"task-specific U-Nets ({networks})"] = _cost_row(cost, networks, run)
    table = pd.DataFrame(rows).T
    table.index.name = f"{side}^3, batch {batch}"
    return table


def _cost_row(cost: Cost, networks: int, run: bool) -> dict[str, float]:
    row = {
        "parameters (M)": networks * cost.parameters / 1e6,
        "TFLOP a step": networks * cost.flops / 1e12,
        "kept activations (GiB)": cost.kept / GIB,
        "memory at least (GiB)": cost.memory / GIB,
    }
    if run:
        row |= {"peak memory (GiB)": cost.peak / GIB, "seconds a step": networks * cost.seconds}
    return row
