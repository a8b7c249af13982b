"""Make the helpers of this room importable; a cohort to break."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from workbench.cohort.table import Cohort

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "execution"), str(HERE.parent / "schedules")]
"""Also what two other rooms make up: a run beside its rerun, schedules."""


@pytest.fixture
def cohort(tiny_cohort: Cohort, tmp_path: Path) -> Path:
    """A copy of the tiny cohort that a test may break."""
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort.folder, folder, ignore=shutil.ignore_patterns("prepared", "folds.json", "digests.json"))
    return folder
