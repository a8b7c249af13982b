"""One case under many sets of shown sequences: what a model says when any of them are missing.

The case is read once and each window is shown once to the model, which gives the logits of all sets together
(`MethodModule.forward_subsets`): methods that encode each sequence on its own then encode it once, not once per set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from workbench.contracts import MARKER_TASK
from workbench.errors import ParameterError
from workbench.inference.predict import CasePrediction, array, evaluating, inside_brain, mirrored_prediction
from workbench.inference.windows import centred_start, crop, mirrored, paste, slide, tumour_centre, whole_shape
from workbench.prepare.store import PreparedCase


def predict_subsets(
    model: Any,
    case: PreparedCase,
    sets: Sequence[Sequence[str]],
    *,
    modalities: Sequence[str],
    patch: Sequence[int],
    segments: bool = True,
    overlap: float = 0.5,
    device: str | torch.device | None = None,
    whole: bool = False,
    mirror: Sequence[int] = (),
    window_batch: int = 1,
    precision: Literal["auto", "no", "bf16"] = "auto",
) -> Iterator[CasePrediction]:
    """Predict one case once per set of sequences; each is what `predict_case(present=set)` gives, within rounding.

    Args:
        model: a method (`models.method.MethodModule`); its mode is left as it was.
        case: the prepared case.
        sets: the sets to show, each of sequences that the case has.
        modalities: names of the channels, in order.
        patch: training patch (X, Y, Z), voxels.
        segments: whether the method segments; else only markers are asked.
        overlap: share of a window that the next one covers again.
        device: where to compute; None = where the model is.
        whole: one window over the whole case, for methods trained on whole brains.
        mirror: axes over whose flips logits are averaged, markers included; () = none.
        window_batch: windows per forward pass.
        precision: auto = bf16 on CUDA, else float32.

    Raises:
        ParameterError: a set is empty or names a sequence that the case or `modalities` lacks.
    """
    names = tuple(modalities)
    _check(case, sets, names)
    device = torch.device(device) if device is not None else next(model.parameters()).device
    shown = torch.tensor([[name in chosen for name in names] for chosen in sets], device=device)
    images = torch.from_numpy(case.images(modalities=names).astype(np.float32))[None].to(device)
    images = torch.where(shown.any(0)[None, :, None, None, None], images, torch.zeros((), device=device))
    model = model.to(device)
    window = whole_shape(case.shape, patch, model.divisor, model.minimum) if whole else tuple(patch)
    with evaluating(model, device, precision):
        logits = None
        if segments:
            logits = _segmentations(model, images, shown, names, window, whole, overlap, mirror, window_batch)
    for index, chosen in enumerate(sets):
        found = None if logits is None else inside_brain(logits[index], case)
        with evaluating(model, device, precision):
            predicted = _with_markers(model, case, images, shown[index], names, window, whole, found, tuple(chosen), mirror)
        yield predicted


def _segmentations(
    model: Any,
    images: Tensor,
    shown: Tensor,
    names: tuple[str, ...],
    window: Sequence[int],
    whole: bool,
    overlap: float,
    mirror: Sequence[int],
    window_batch: int,
) -> Tensor:
    """(S, C, X, Y, Z)."""

    def once(part: Tensor) -> Tensor:  # (b, M, *window) -> (b, S C, *window)
        return torch.cat([found.float() for found in model.forward_subsets(part, shown, names)], dim=1)

    together = mirrored(once, mirror)
    shape = images.shape[2:]
    if whole:
        start = centred_start(shape, window)
        stacked = paste(together(crop(images, start, window)), start, shape)
    else:
        stacked = slide(images, window, together, overlap=overlap, batch=window_batch)
    return stacked[0].unflatten(0, (len(shown), -1))


def _with_markers(
    model: Any,
    case: PreparedCase,
    images: Tensor,
    row: Tensor,
    names: tuple[str, ...],
    window: Sequence[int],
    whole: bool,
    logits: Tensor | None,
    chosen: tuple[str, ...],
    mirror: Sequence[int],
) -> CasePrediction:
    """The markers of one set: from the whole case, or from a crop around the tumour that this set shows, as `predict_case`."""
    shown = tuple(name for name in names if name in chosen)
    if not model.markers:
        return CasePrediction(case.name, shown, array(logits))
    centre, found = None, None
    if whole:
        start = centred_start(case.shape, window)
    else:
        found = None if logits is None else tumour_centre(logits.argmax(0).cpu().numpy())
        centre = found or case.brain_centre
        x, y, z = (c - p // 2 for c, p in zip(centre, window, strict=True))
        start = (x, y, z)
    visible = torch.where(row[None, :, None, None, None], images, torch.zeros((), device=images.device))
    seen = mirrored_prediction(model, crop(visible, start, window), row[None], names, (MARKER_TASK,), mirror)
    markers = {name: value[0].cpu().numpy() for name, value in seen.markers.items()}
    return CasePrediction(case.name, shown, array(logits), markers, centre, "whole" if whole else "tumour" if found else "brain")


def _check(case: PreparedCase, sets: Sequence[Sequence[str]], names: tuple[str, ...]) -> None:
    there = {name for name, acquired in zip(case.modalities, case.present, strict=True) if acquired and name in names}
    for chosen in sets:
        missing = [name for name in chosen if name not in there]
        if missing or not chosen:
            raise ParameterError(
                f"case {case.name}: a set of sequences to show must be some of {', '.join(sorted(there))}; found "
                f"{', '.join(chosen) or 'none'}"
            )
