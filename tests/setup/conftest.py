"""Setups of runs on the tiny cohort; nothing is prepared or trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.cohort.table import Cohort
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.run_setup import RunSetup


@pytest.fixture
def make_setup(tiny_cohort: Cohort, tmp_path: Path) -> Callable[..., RunSetup]:
    """Function that makes a setup: of a method, and of parameters and another cohort if need be."""

    def make(method: str = "unet", cohort: Cohort = tiny_cohort, **values: Any) -> RunSetup:
        given = {"size": "demo", "threads": 1, "cohort": str(cohort.folder), "runs": str(tmp_path / "runs")}
        return RunSetup(ExperimentParameters.build(method, given | values), progress=False)

    return make
