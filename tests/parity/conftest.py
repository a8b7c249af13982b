"""Every test of this room runs on the arrays that are shipped and, where somebody has them, on the full ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from public_arrays import Reference, open_reference


@pytest.fixture(params=["shipped", "full"], scope="module")
def arrays(request: pytest.FixtureRequest) -> Callable[[str], Reference]:
    """Opens a public implementation's arrays by name; without the full ones their half is skipped."""
    return lambda name: open_reference(name, request.param)
