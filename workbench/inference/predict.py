"""One case through one model: voxel logits by sliding window, then markers from a crop around the predicted tumour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import expit, softmax
from torch import Tensor

from workbench.contracts import MARKER_TASK, SEGMENTATION, Prediction
from workbench.errors import InputError, ParameterError, Problem
from workbench.inference.windows import centred_start, crop, flips, mirrored, paste, slide, tumour_centre, whole_shape
from workbench.prepare.store import PreparedCase


@dataclass(frozen=True)
class CasePrediction:
    """What a model says about one case, on its prepared grid. NumPy throughout."""

    case: str
    present: tuple[str, ...]
    """The modalities that were shown."""
    logits: np.ndarray | None
    """(C, X, Y, Z) float32 softmax logits over canonical labels; None for a model that does not segment."""
    markers: dict[str, np.ndarray] = field(default_factory=dict)
    """Marker -> (1,) or (classes,) float32 logits, as in `contracts.Prediction`."""
    centre: tuple[int, int, int] | None = None
    """Voxel of the prepared grid around which the markers were read; None without a second pass."""
    centre_from: Literal["tumour", "brain", "whole", ""] = ""
    """What gave the centre: the predicted tumour, the brain (no tumour was predicted), or the whole case in one window."""

    def labels(self) -> np.ndarray | None:
        """Canonical labels, uint8 (X, Y, Z)."""
        return None if self.logits is None else self.logits.argmax(axis=0).astype(np.uint8)

    def probabilities(self) -> np.ndarray | None:
        """Softmax of the logits, float32 (C, X, Y, Z)."""
        return None if self.logits is None else softmax(self.logits, axis=0)

    def marker_probabilities(self) -> dict[str, np.ndarray]:
        """Marker -> (1,) probability of the positive class, or (classes,) probabilities."""
        return {name: expit(value) if len(value) == 1 else softmax(value) for name, value in self.markers.items()}


OUTSIDE_LOGIT = 20.0
"""Background's logit outside the brain and outside the prepared box, the others' being 0: probability 1 - 1e-8."""


class _NoSegmentationError(Exception):
    """The model was asked for a segmentation and gave none."""


def predict_case(
    model: Any,
    case: PreparedCase,
    *,
    modalities: Sequence[str],
    patch: Sequence[int],
    overlap: float = 0.5,
    device: str | torch.device | None = None,
    present: Sequence[str] | None = None,
    whole: bool = False,
    mirror: Sequence[int] = (),
    window_batch: int = 1,
    precision: Literal["auto", "no", "bf16"] = "auto",
) -> CasePrediction:
    """Predict one case.

    First pass: segmentation logits over the whole prepared grid by overlapping windows (`windows.slide`). Second pass, for
    models with markers: one window of the training patch's size, centred on the centroid of the largest component of what the
    first pass calls tumour; on the brain's centre where it finds none or does not segment (`centre_from` says which).

    Args:
        model: a method (`contracts.Method`); its mode is left as it was.
        case: the prepared case.
        modalities: names of the channels to show, in order; those the case lacks are zero and marked absent.
        patch: training patch (X, Y, Z), voxels.
        overlap: share of a window that the next one covers again.
        device: where to compute; None = where the model is.
        present: show only these of the case's modalities; None = all that it has.
        whole: one window over the whole case instead of both passes, for methods trained on whole brains.
        mirror: axes over whose flips logits are averaged, markers included; () = none.
        window_batch: windows per forward pass.
        precision: auto = bf16 on CUDA, else float32; logits are float32 in any case.

    Raises:
        ParameterError: `present` names a modality that is not among `modalities`; or sides the method cannot take.
        InputError: no modality is left to show.
    """
    names = tuple(modalities)
    device = torch.device(device) if device is not None else next(model.parameters()).device
    shown = _shown(case, names, present)
    flags = torch.tensor([[name in shown for name in names]], device=device)
    images = torch.from_numpy(case.images(modalities=names).astype(np.float32))[None].to(device)
    images = torch.where(flags[:, :, None, None, None], images, torch.zeros((), device=device))
    predictor = _WindowPredictor(model.to(device), names, flags, tuple(mirror))
    with evaluating(model, device, precision):
        if whole:
            window = whole_shape(case.shape, patch, model.divisor, model.minimum)
            start = centred_start(case.shape, window)
            seen = predictor(crop(images, start, window))
            logits = None if seen.segmentation is None else inside_brain(paste(seen.segmentation, start, case.shape)[0], case)
            return CasePrediction(case.name, shown, array(logits), _markers(seen), None, "whole")
        logits = None
        with suppress(_NoSegmentationError):
            logits = inside_brain(slide(images, patch, predictor.segment, overlap=overlap, batch=window_batch)[0], case)
        if not model.markers:
            return CasePrediction(case.name, shown, array(logits))
        found = None if logits is None else tumour_centre(logits.argmax(0).cpu().numpy())
        centre = found or case.brain_centre
        x, y, z = (c - p // 2 for c, p in zip(centre, patch, strict=True))
        seen = predictor(crop(images, (x, y, z), patch))
        return CasePrediction(case.name, shown, array(logits), _markers(seen), centre, "tumour" if found else "brain")


class _WindowPredictor:
    """The model with what stays the same between windows."""

    def __init__(self, model: Any, names: tuple[str, ...], flags: Tensor, mirror: tuple[int, ...]) -> None:
        self.model, self.names, self.flags, self.mirror = model, names, flags, mirror
        self.segment = mirrored(self._segment, mirror)

    def _segment(self, images: Tensor) -> Tensor:
        flags = self.flags.expand(len(images), -1)
        logits = self.model(images, flags, self.names, tasks=(SEGMENTATION,)).segmentation
        if logits is None:
            raise _NoSegmentationError
        return logits.float()

    def __call__(self, images: Tensor) -> Prediction:
        """One window, all tasks; markers and segmentation averaged over flips."""
        return mirrored_prediction(self.model, images, self.flags, self.names, (SEGMENTATION, MARKER_TASK), self.mirror)


def mirrored_prediction(
    model: Any, images: Tensor, flags: Tensor, names: tuple[str, ...], tasks: tuple[str, ...], axes: Sequence[int]
) -> Prediction:
    """One window (1, M, X, Y, Z), segmentation and markers averaged over all flips along `axes`; float32, no maps."""
    ways = flips(axes)
    seen = [model(torch.flip(images, flip) if flip else images, flags, names, tasks=tasks) for flip in ways]
    segmentation = None
    if seen[0].segmentation is not None:
        backs = [torch.flip(one.segmentation.float(), flip) for one, flip in zip(seen, ways, strict=True)]
        segmentation = torch.stack(backs).mean(0) if axes else backs[0]
    markers = {name: torch.stack([one.markers[name].float() for one in seen]).mean(0) for name in seen[0].markers}
    return Prediction(segmentation, markers)


@contextmanager
def evaluating(model: Any, device: torch.device, precision: str) -> Iterator[None]:
    """The model in evaluation mode, without gradients, in the precision asked for; its mode is put back afterwards."""
    training = model.training
    half = device.type == "cuda" if precision == "auto" else precision == "bf16"
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            yield
    finally:
        model.train(training)


def _shown(case: PreparedCase, names: tuple[str, ...], present: Sequence[str] | None) -> tuple[str, ...]:
    unknown = [name for name in present or () if name not in names]
    if unknown:
        raise ParameterError(f"present: {', '.join(unknown)} is not among the channels {', '.join(names)}")
    there = {name for name, acquired in zip(case.modalities, case.present, strict=True) if acquired}
    shown = tuple(name for name in names if name in there and (present is None or name in present))
    if not shown:
        raise InputError(
            Problem(
                case=case.name,
                message=f"no modality is left to predict from: it has {', '.join(sorted(there)) or 'none'}, "
                f"asked for were {', '.join(names if present is None else present) or 'none'}",
                remedy="leave this case out of this subset of modalities",
            )
        )
    return shown


def inside_brain(logits: Tensor, case: PreparedCase) -> Tensor:
    """Logits (C, X, Y, Z) with background certain outside the brain: images hold nothing there, so a network's say is noise."""
    outside = torch.from_numpy(~case.brain()).to(logits.device)
    certain = torch.zeros(len(logits), 1, 1, 1, device=logits.device)
    certain[0] = OUTSIDE_LOGIT
    return torch.where(outside, certain, logits)


def array(tensor: Tensor | None) -> np.ndarray | None:
    """As float32 on the CPU."""
    return None if tensor is None else tensor.float().cpu().numpy()


def _markers(seen: Prediction) -> dict[str, np.ndarray]:
    return {name: value[0].float().cpu().numpy() for name, value in seen.markers.items()}
