"""What the tests of models share."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for `mixtures`, which the tests of MoME and MoME+ share


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """`with meta:` builds models at the paper's size without filling their weights.

    MONAI's Swin reads the values of one linspace while it is built, so that one stays on the CPU.
    """
    monkeypatch.setattr(torch, "linspace", functools.partial(torch.linspace, device="cpu"))
    return torch.device("meta")
