"""Images for the tests of MTS-UNET."""

from __future__ import annotations

import torch
from torch import Tensor


def images(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 1, 12, 12, 12, generator=generator), torch.randn(2, 1, 12, 12, 12, generator=generator)
