"""Runs to export."""

from __future__ import annotations

from types import ModuleType

import pytest

from workbench.records.run_folder import RunFolder


@pytest.fixture(scope="session")
def runs(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """A completed run with subset tables, and one that failed."""
    root = tmp_path_factory.mktemp("exported") / "runs"
    cases = fabricate.make_cases(test=30, validation=10, train=0, external=0)
    given = {"resamples": 100, "note": "x" * 900}
    done = fabricate.make_run(root, "demo", "mts_unet", "completed", seed=2, cases=cases, given=given)
    done.path("figures", "training.png").write_bytes(b"png")
    done.path("checkpoints", "best.safetensors").write_bytes(b"weights")
    return [done, fabricate.make_run(root, "demo", "unet", "failed", seed=5, cases=cases)]
