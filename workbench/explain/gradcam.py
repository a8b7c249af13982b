"""Grad-CAM (Selvaraju et al., arXiv 1610.02391) of a marker, or of the segmented tumour, with MONAI's implementation.

A map is scaled to a maximum of 1, which hides how strong the evidence is in absolute terms: compare places within a case,
not cases. MONAI's own default scaling also turns it upside down and is not used.

Grad-CAM++ (Chattopadhyay et al., arXiv 1710.11063) weighs channels by their positive gradients alone and was derived for
rectified features: on the signed features of a transformer its map can be zero everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from monai.visualize import GradCAM, GradCAMpp
from torch import Tensor, nn

from workbench.contracts import MARKER_TASK, SEGMENTATION
from workbench.errors import ParameterError
from workbench.models.losses import class_groups, merge_logits
from workbench.models.method import MethodModule

Form = Literal["gradcam", "gradcam++"]
FORMS: dict[Form, type[GradCAM]] = {"gradcam": GradCAM, "gradcam++": GradCAMpp}


class TargetLogit(nn.Module):
    """A method seen as a classifier with one output, which is what MONAI's Grad-CAM takes: images -> (B, 1)."""

    def __init__(self, model: MethodModule, present: Tensor, modalities: Sequence[str], marker: str) -> None:
        super().__init__()
        self.model = model
        self.present = present
        self.modalities = tuple(modalities)
        self.marker = marker

    def forward(self, images: Tensor) -> Tensor:
        """The marker's logit (of the likeliest class where there are several), or the tumour's mean logit in the tumour."""
        task = MARKER_TASK if self.marker else SEGMENTATION
        prediction = self.model(images, self.present, self.modalities, tasks=(task,))
        if self.marker:
            logits = prediction.markers[self.marker]
            return logits.gather(1, logits.argmax(1, keepdim=True))
        if prediction.segmentation is None:
            raise ParameterError(f"{self.model.name} segments nothing; name a marker to explain: {', '.join(self.model.markers)}")
        background, tumour = merge_logits(prediction.segmentation, class_groups("WT", self.model.classes)[0]).unbind(1)
        score = (tumour - background).flatten(1)
        inside = score > 0
        # nothing found: ask what speaks for a tumour anywhere
        inside = inside | ~inside.any(1, keepdim=True)
        return (score * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True)


def gradcam(
    model: MethodModule,
    images: Tensor,
    present: Tensor,
    modalities: Sequence[str],
    marker: str = "",
    *,
    layer: str = "",
    form: Form = "gradcam",
) -> np.ndarray:
    """Where the evidence for a marker's positive class (or for tumour) lies.

    Args:
        model: any method that names `cam_layers`; left as it was found: mode, gradients, hooks.
        images: (1, M, X, Y, Z), the crop that the marker is read from.
        present: (1, M) bool.
        modalities: names of the M channels.
        marker: a marker that the model predicts; '' = the segmented tumour.
        layer: module whose output is read; '' = the method's first choice.
        form: Grad-CAM or Grad-CAM++.

    Returns:
        float32 (X, Y, Z) in [0, 1], trilinearly enlarged from the layer's grid; all zero where nothing speaks for the class.

    Raises:
        ParameterError: a marker the model does not predict, a method without such layers, or an unknown layer.
    """
    layer = _checked_layer(model, marker, layer)
    if len(images) != 1:
        raise ParameterError(f"Grad-CAM takes one case at a time; found {len(images)}")
    with _undisturbed(model, layer), torch.enable_grad():
        # the gradient runs from the images: the weights' own are not needed
        images = images.detach().clone().requires_grad_(True)
        target = TargetLogit(model, present, modalities, marker)
        cam = FORMS[form](nn_module=target, target_layers=f"model.{layer}", postprocessing=_scale_to_one)
        result = cam(x=images, class_idx=0)
    return np.asarray(result[0, 0].detach().float().cpu())


def _scale_to_one(maps: Tensor) -> Tensor:
    largest = maps.amax(tuple(range(1, maps.ndim)), keepdim=True)
    return torch.where(largest > 0, maps / largest.clamp(min=torch.finfo(maps.dtype).tiny), torch.zeros_like(maps))


def _checked_layer(model: MethodModule, marker: str, layer: str) -> str:
    if marker and marker not in model.markers:
        raise ParameterError(f"{model.name} predicts {', '.join(model.markers) or 'no markers'}; '{marker}' cannot be explained")
    known = model.cam_layers()
    if not known:
        raise ParameterError(f"{model.name} names no layer that Grad-CAM can read")
    if layer and layer not in dict(model.named_modules()):
        raise ParameterError(f"{model.name} has no layer '{layer}'; suited are {', '.join(known)}")
    return layer or known[0]


@contextmanager
def _undisturbed(model: MethodModule, layer: str) -> Iterator[None]:
    """Evaluation mode and frozen weights inside; mode, gradients and hooks as before outside. MONAI removes no hook."""
    training = model.training
    parameters = list(model.parameters())
    states = [(parameter.requires_grad, parameter.grad) for parameter in parameters]
    module = model.get_submodule(layer)
    hooks = [(store, set(store)) for store in (module._forward_hooks, module._backward_hooks)]
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
    model.eval()
    try:
        yield
    finally:
        for parameter, (requires, gradient) in zip(parameters, states, strict=True):
            parameter.requires_grad_(requires)
            parameter.grad = gradient
        for store, before in hooks:
            for key in set(store) - before:
                del store[key]
        model.train(training)
