"""Make the small cohort importable, and give it to tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workbench.cohort.table import Cohort

sys.path.insert(0, str(Path(__file__).parent))

from small_cohort import copy_of


@pytest.fixture
def small(tiny_cohort: Cohort, tmp_path: Path) -> Cohort:
    return copy_of(tiny_cohort, tmp_path / "cohort", 3)
