"""Make the helpers of this room importable; a run to write into."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workbench.records.run_folder import RunFolder

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    from asked_run import make_spec

    return RunFolder.create(tmp_path / "runs" / "demo", make_spec())
