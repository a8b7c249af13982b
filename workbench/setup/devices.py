"""Whether there are as many devices as a training wants processes; no torch where it wants one."""

from __future__ import annotations

import os

from workbench.errors import ParameterError
from workbench.setup.parameters import ExperimentParameters


def check_devices(parameters: ExperimentParameters) -> None:
    """Refuse more processes than there are devices, before anything starts.

    Raises:
        ParameterError: this machine, or what this process may see of it, has too few GPUs.
    """
    wanted, device = parameters.processes, parameters.device
    if wanted == 1:
        return
    import torch

    if device == "mps":
        raise ParameterError(f"parameter 'processes' = {wanted}: Apple's MPS is one device; use processes=1, or device=cpu")
    there = torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 0
    if there < wanted and (there or device == "cuda"):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = f" (CUDA_VISIBLE_DEVICES={visible})" if visible is not None else ""
        raise ParameterError(
            f"parameter 'processes' = {wanted}: each process needs a GPU of its own, and there are {there} here{hidden}; "
            f"use processes={max(there, 1)}, or device=cpu"
        )
