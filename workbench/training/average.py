"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of `model` (as `.module`) that follows it by `update_parameters`; buffers are copied, not averaged.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that a short run's average does not remember the random
    initial weights.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for old, new in zip(averaged, current, strict=True):
            old.lerp_(new.to(old.dtype), weight)

    return AveragedModel(model, multi_avg_fn=update)
