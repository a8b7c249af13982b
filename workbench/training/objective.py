"""A method and its loss as one module: what one process differentiates, and what several have wrapped for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.contracts import Batch, Stage
from workbench.training.devices import full_precision
from workbench.training.schedule import counted_terms


class Objective(nn.Module):
    """Batch -> the loss terms that count in a stage.

    DistributedDataParallel must see the loss terms, not the prediction: it takes every parameter behind its outputs for one that
    gets a gradient, and waits for it; a parameter that only the loss uses, it takes for one that gets none.

    Args:
        model: a method (`contracts.Method`).
        autocast: gives the context of the forward pass; the loss is computed in float32 whatever it is.
        channels_last: lay the images out as the kernels are.
    """

    def __init__(self, model: Any, autocast: Callable[[], AbstractContextManager[Any]], channels_last: bool) -> None:
        super().__init__()
        self.model, self.autocast, self.channels_last = model, autocast, channels_last

    def forward(self, batch: Batch, stage: Stage, progress: float) -> dict[str, Tensor]:
        """The terms of `stage` for a batch on the device; `progress` is the share of the run that is done."""
        images = batch.images
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last_3d)
        with self.autocast():
            prediction = self.model(images, batch.present, batch.modalities, tasks=stage.tasks)
        with torch.autocast(images.device.type, enabled=False):  # accelerate wraps the whole of what it prepares in autocast
            terms = self.model.loss(full_precision(prediction), batch, progress)
        return counted_terms(terms, stage)
