"""Run folders that the app's tests read."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def load_fabricate():
    """`tests/fabricate.py` as a module."""
    spec = importlib.util.spec_from_file_location("fabricate", Path(__file__).parents[1] / "fabricate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs in the real format with random predictions; see tests/fabricate.py."""
    return load_fabricate().make_runs(tmp_path_factory.mktemp("fabricated"))
