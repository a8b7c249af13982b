"""How long a kernel has to save: a cancelled one seconds, one that a queue pauses as long as the queue leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.execution.kernel import STOP_GRACE, Kernel
from workbench.records.run_folder import RunFolder


def test_a_paused_kernel_has_the_time_that_its_queue_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    run = RunFolder.create(tmp_path / "e", spec)
    kernel = Kernel(run, 0.0)
    try:
        monkeypatch.setenv("WORKBENCH_PAUSE_GRACE", "90")
        run.request_pause()
        assert kernel._grace() == 90.0
        run.request_cancel()
        assert kernel._grace() == STOP_GRACE, "who cancels does not wait for a queue's time"
        run.path("cancel").unlink()
        run.request_pause()
        for value in ("", "soon", "0"):
            monkeypatch.setenv("WORKBENCH_PAUSE_GRACE", value)
            assert kernel._grace() == STOP_GRACE
    finally:
        kernel.close()
