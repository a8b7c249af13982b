"""What the pages' tests read and how they look at figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn
import pytest

from app.store import Store

pn.extension("tabulator", design="bootstrap")


@pytest.fixture(scope="session")
def store(runs_folder: Path) -> Store:
    """The store of the fabricated runs; their tables and figures' data are read once for all tests."""
    return Store(runs_folder)


@pytest.fixture(scope="session")
def done(store: Store) -> dict[int, str]:
    """Seed -> completed run; the third was judged on fewer cases, and not under subsets."""
    return {row.parameters["seed"]: row.run for row in store.runs() if row.state == "completed"}


@pytest.fixture(scope="session")
def labels() -> Callable[[Any], str]:
    """Function that gives what stands in the legend of a figure's pane."""
    return lambda pane: " | ".join(element.label for element in pane.object) if pane.object is not None else ""
