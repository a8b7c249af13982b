"""As many devices as a training wants processes."""

from __future__ import annotations

import pytest
import torch

from workbench.errors import ParameterError
from workbench.setup.devices import check_devices
from workbench.setup.parameters import ExperimentParameters


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("auto", 1, "a GPU of its own, and there are 1 here .CUDA_VISIBLE_DEVICES=0.; use processes=1, or device=cpu"),
        ("cuda", 0, "there are 0 here"),
        ("mps", 0, "MPS is one device"),
        ("auto", 2, ""),
        ("auto", 0, ""),
        ("cpu", 1, ""),
    ],
)
def test_more_processes_than_gpus_are_refused(device: str, gpus: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    chosen = ExperimentParameters.build("unet", {"processes": 2, "device": device})
    if not message:
        check_devices(chosen)
        return
    with pytest.raises(ParameterError, match=message):
        check_devices(chosen)
