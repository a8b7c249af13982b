"""What the tests of models share."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest
import torch

# for the files of small networks and cases (`mixtures`, `mgmt_cases`, ...) that tests of a family share
sys.path[:0] = [str(folder) for folder in (Path(__file__).parent, *Path(__file__).parent.iterdir()) if folder.is_dir()]


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """`with meta:` builds models at the paper's size without filling their weights.

    MONAI's Swin reads the values of one linspace while it is built, so that one stays on the CPU.
    """
    monkeypatch.setattr(torch, "linspace", functools.partial(torch.linspace, device="cpu"))
    return torch.device("meta")
