"""What the plain segmentation networks share: one output from all sequences at once, deep supervision, a diagram of levels.

The networks lie in `models.baselines`, each in its own file; `models.unet.unet` is the nnU-Net recipe.
All of them take any sequences (channels; an absent one is zeros, by the contract), 2, 4 or 5 classes and any label set. Their
loss is the workbench's; optimiser, rate, schedule and length are each paper's own unless they are set alike, as
notebooks/sweeps/comparison.yaml does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.models.diagram import Box, draw
from workbench.models.losses import downsample_labels, segmentation_loss
from workbench.models.method import MethodModule
from workbench.models.options_base import MethodOptions


class SegmentationNetwork(MethodModule):
    """A network that segments and ignores markers. A subclass builds itself and implements `segment`."""

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: MethodOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        self.build()

    def build(self) -> None:
        """Make the layers, `divisor` and `minimum` from `self.options`, `self.modalities` and `self.classes`."""
        raise TypeError(f"{type(self).__name__} must implement build")

    def segment(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z); in training those of coarser levels may follow, finest first."""
        raise TypeError(f"{type(self).__name__} must implement segment")

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z); presence is in the images already, as zeros."""
        if SEGMENTATION not in tasks:
            return Prediction()
        finest, *coarser = self.segment(images)
        return Prediction(segmentation=finest, auxiliary={f"level{index}": head for index, head in enumerate(coarser, start=1)})

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The segmentation loss; with deep supervision the sum over levels of 2^-level x loss, weights normalised."""
        if prediction.segmentation is None:
            return {}
        outputs = [prediction.segmentation, *prediction.auxiliary.values()]
        return {"segmentation": supervise(outputs, batch)}


def level_weights(levels: int, lowest: float | None = None) -> list[float]:
    """Deep supervision as nnU-Net weighs it (Isensee et al. 2021): 1, 1/2, 1/4, ..., normalised to sum 1.

    Args:
        levels: outputs, the finest first.
        lowest: weight of the coarsest before normalisation, nnU-Net: 0; None = half the one before. A single output weighs 1.
    """
    weights = [0.5**level for level in range(levels)]
    if levels > 1 and lowest is not None:
        weights[-1] = lowest
    return [weight / sum(weights) for weight in weights]


def supervise(outputs: Sequence[Tensor], batch: Batch, *, lowest: float | None = None, batch_dice: bool = True) -> Tensor:
    """Soft Dice of the foreground plus cross-entropy at all levels; a scalar.

    Args:
        outputs: logits (B, C, x, y, z), the finest first.
        batch: its labels are brought to each output's resolution by nearest neighbour.
        lowest: as for `level_weights`.
        batch_dice: as in `losses.segmentation_loss`.
    """
    terms = [
        segmentation_loss(
            logits,
            None if batch.labels is None else downsample_labels(batch.labels, logits.shape[2:]),
            batch.label_set,
            batch_dice=batch_dice,
        )
        for logits in outputs
    ]
    weights = level_weights(len(outputs), lowest)
    return torch.stack([weight * term for weight, term in zip(weights, terms, strict=True)]).sum()


def draw_levels(
    title: str,
    network: MethodModule,
    encoder: Sequence[tuple[str, ...]],
    bottom: tuple[str, ...],
    decoder: Sequence[tuple[str, ...]],
    skip: str = "skip",
) -> str:
    """An encoder-decoder as SVG: levels as columns, encoder above, decoder below.

    Args:
        title: of the drawing.
        network: for its sequences and classes.
        encoder: text of each level, the finest first.
        bottom: text of the deepest level.
        decoder: text of each level, the finest first; as many as `encoder`.
        skip: what the arrow from encoder to decoder is called.
    """
    last = len(encoder)
    boxes = [Box("input", (", ".join(network.modalities), "zeros where absent"), 0, 0)]
    arrows = ["input > down0"]
    for level, (down, up) in enumerate(zip(encoder, decoder, strict=True)):
        boxes += [Box(f"down{level}", down, level + 1, 0, "first"), Box(f"up{level}", up, level + 1, 1, "second")]
        deeper = (f"down{level + 1}", f"up{level + 1}") if level + 1 < last else ("bottom", "bottom")
        arrows += [f"down{level} > up{level}" + (f": {skip}" if level == 0 else "")]
        arrows += [f"down{level} > {deeper[0]}", f"{deeper[1]} > up{level}"]
    boxes += [Box("bottom", bottom, last + 1, 0.5, "first")]
    boxes += [Box("output", (f"{network.classes} classes", "softmax"), 0, 1)]
    return draw(boxes, [*arrows, "up0 > output"], title)
