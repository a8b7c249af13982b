"""What a method attends to: the gates and attentions that it computes itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.models.method import MethodModule


def attention_maps(model: MethodModule, images: Tensor, present: Tensor, modalities: Sequence[str]) -> dict[str, np.ndarray]:
    """The method's own maps for one case, on the grid of its images.

    Args:
        model: any method; left as it was found.
        images: (1, M, X, Y, Z).
        present: (1, M) bool.
        modalities: names of the M channels.

    Returns:
        name -> float32 (X, Y, Z); a map of k channels becomes `name_0` ... `name_k-1`. None of its own: an empty dictionary.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            maps = model(images, present, tuple(modalities), maps=True).maps
    finally:
        model.train(training)
    found: dict[str, np.ndarray] = {}
    for name, values in maps.items():
        if values.shape[2:] != images.shape[2:]:
            values = F.interpolate(values.float(), size=images.shape[2:], mode="trilinear")
        channels = np.asarray(values[0].detach().float().cpu())
        found |= {name if len(channels) == 1 else f"{name}_{k}": channel for k, channel in enumerate(channels)}
    return found
