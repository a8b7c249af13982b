"""Run folders that the views' tests read."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from workbench.cohort.table import Cohort
from workbench.records.run_folder import RunFolder


def load(name: str):
    """`tests/<name>.py` as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def case_run(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with predictions over the tiny cohort; see tests/case_run.py."""
    return load("case_run").make_case_run(tiny_cohort, tmp_path_factory.mktemp("case_runs"))


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs in the real format with random predictions; see tests/fabricate.py."""
    return load("fabricate").make_runs(tmp_path_factory.mktemp("fabricated"))
