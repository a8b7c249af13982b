"""Fixtures of the tests of sweep files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort, CohortInfo
from workbench.records.sweep_plan import SweepPlan
from workbench.sweeps.sweep_file import plan_sweep


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine subjects without images, in three folds."""
    cases = [f"{number:04d}-000" for number in range(9)]
    table = pd.DataFrame({"case": cases, "subject": [case[:4] for case in cases], "site": "here"})
    table = table.assign(t1=None, t1c=None, t2=None, flair=None)
    info = CohortInfo(name="nine", modalities=("t1", "t1c", "t2", "flair"), phantom=True)
    folder = tmp_path_factory.mktemp("sweeps") / "cohort"
    make_folds(Cohort.create(folder, info, table), 3)
    return folder


@pytest.fixture
def plan(cohort: Path, tmp_path: Path):
    """Plan a sweep from its text."""

    def make(text: str, name: str = "made.yaml", *, given: bool = True, **options) -> SweepPlan:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return plan_sweep(path, **({"cohort": cohort} if given else {}), runs=tmp_path / "runs", **options)[0]

    return make


HEAD = "experiment: e\nmethods: [unet]\n"
