"""Run folders that the views' tests read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.cohort.table import Cohort
from workbench.records.run_folder import RunFolder


@pytest.fixture(scope="session")
def case_run(
    tiny_cohort: Cohort, make_case_run: Callable[[Cohort, Path], RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run with predictions over the tiny cohort; see tests/case_run.py."""
    return make_case_run(tiny_cohort, tmp_path_factory.mktemp("case_runs"))
