"""Device, precision and repeatability: the little that `accelerate` and torch have to be told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn

from workbench.contracts import Prediction
from workbench.errors import ParameterError


def open_accelerator(precision: str, device: str) -> Accelerator:
    """The accelerator of this process: `device` is auto, cpu, cuda or mps; `precision` auto, no or bf16.

    Raises:
        ParameterError: the device is not there, or this process already trained on another device or with another precision
            (accelerate allows one of each per process).
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "auto": True}
    if not there.get(device, False):
        known = ", ".join(name for name, available in there.items() if available)
        raise ParameterError(f"device '{device}' is not available here; there are: {known}. Drivers: see `workbench doctor`")
    if precision == "auto":
        precision = "bf16" if device in ("auto", "cuda") and torch.cuda.is_available() else "no"
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            cpu=device == "cpu",
            # a rank may see no case with a mask or a marker: some parameters then get no gradient
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=timedelta(hours=4)),  # the others wait while one process validates
            ],
        )
    except ValueError as error:
        raise ParameterError(f"one device and one precision per process: start a new process or kernel ({error})") from error
    if device != "auto" and accelerator.device.type != device:
        raise ParameterError(
            f"this process already computes on '{accelerator.device.type}', not on '{device}': start a new process or kernel"
        )
    return accelerator


def computing(device: str, *, deterministic: bool = True) -> dict[str, Any]:
    """What computes, as torch sees it: everything besides versions and thread count that rounding can depend on; JSON-able.

    Args:
        device: cpu, cuda or mps.
        deterministic: whether `repeatable` asks for repeatable kernels.
    """
    facts: dict[str, Any] = {
        "device": device,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # AVX2 and AVX512 kernels add up in different orders
        "oneDNN": torch.backends.mkldnn.is_available(),
        "MKL": torch.backends.mkl.is_available(),
        "deterministic": deterministic,
    }
    if device == "cuda":
        facts |= {
            "card": torch.cuda.get_device_name(),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "TF32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cuDNN": torch.backends.cudnn.allow_tf32},
        }
    return facts


@contextmanager
def repeatable(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Leave torch's random state and switches as they were; in between ask for repeatable kernels on CUDA.

    Operations without a repeatable CUDA kernel warn instead of failing: a 3-D resampling layer must still be trainable.
    """
    cuda = device.type == "cuda"
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=[device] if cuda else []):
        try:
            if cuda and deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.backends.cudnn.benchmark = False
                torch.use_deterministic_algorithms(True, warn_only=True)
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.benchmark = benchmark


def seed_torch(device: torch.device, seed: int) -> None:
    """Seed the generators that layers such as drop-out draw from: the CPU's and the device's.

    `torch.manual_seed` would do, but where CUDA is compiled in and not in use it formats a stack trace at every call (3 ms).
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def agree(accelerator: Accelerator, value: Any) -> Any:
    """What the main process found, on all processes; `value` itself where there is one process."""
    if accelerator.num_processes == 1:
        return value
    return broadcast_object_list([value])[0]


def average(accelerator: Accelerator, values: dict[str, float]) -> dict[str, float]:
    """Means over the processes, a name that one does not have counting as 0; `values` itself where there is one process."""
    if accelerator.num_processes == 1:
        return values
    found: list[dict[str, float]] = gather_object([values])
    names = dict.fromkeys(name for part in found for name in part)
    return {name: sum(part.get(name, 0.0) for part in found) / len(found) for name in names}


def total(accelerator: Accelerator, value: int) -> int:
    """Sum over the processes; `value` itself where there is one process."""
    return value if accelerator.num_processes == 1 else sum(gather_object([value]))


def use_channels_last(model: nn.Module) -> None:
    """Lay out the 3-D convolution kernels channels-last, in place."""
    for parameter in model.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def full_precision(prediction: Prediction) -> Prediction:
    """The prediction with its floating tensors as float32: losses are not computed in half precision."""

    def cast(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}

    segmentation = None if prediction.segmentation is None else prediction.segmentation.float()
    return replace(prediction, segmentation=segmentation, markers=cast(prediction.markers), auxiliary=cast(prediction.auxiliary))
