"""The window of a case in which its markers were read: what explanations and sensitivity studies look at again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.files import read_json
from workbench.inference.windows import centred_start, crop, whole_shape
from workbench.prepare.store import PreparedCase
from workbench.setup.run_setup import RunSetup
from workbench.steps.prediction import marker_file


@dataclass(frozen=True)
class MarkerWindow:
    """Part of a prepared case, as the model saw it."""

    images: Tensor
    """(1, M, x, y, z) on the experiment's device."""
    present: Tensor
    """(1, M) bool."""
    start: tuple[int, int, int]
    """Its first voxel in the prepared array; may be negative, where it was padded."""
    shape: tuple[int, int, int]


def marker_window(setup: RunSetup, case: PreparedCase) -> MarkerWindow:
    """The window around the predicted tumour, or the whole brain where the experiment works on whole brains."""
    model = setup.network
    images, present = case_tensors(setup, case)
    if setup.parameters.sampling == "whole":
        shape = whole_shape(case.shape, setup.patch, model.divisor, model.minimum)
        start = centred_start(case.shape, shape)
    else:
        shape = setup.patch
        centre = read_json(marker_file(setup.run, case.name)).get("centre") or case.brain_centre
        x, y, z = (c - w // 2 for c, w in zip(centre, shape, strict=True))
        start = (x, y, z)
    return MarkerWindow(crop(images, start, shape), present, start, shape)


def case_tensors(setup: RunSetup, case: PreparedCase) -> tuple[Tensor, Tensor]:
    """A prepared case as the experiment's model takes it: images (1, M, X, Y, Z) and present (1, M), on its device."""
    modalities = setup.modalities
    images = torch.from_numpy(case.images(modalities=modalities).astype(np.float32))[None].to(setup.device)
    acquired = dict(zip(case.modalities, case.present, strict=True))
    return images, torch.tensor([[acquired.get(name, False) for name in modalities]], device=setup.device)
