"""The diagrams of BrainFM-MRI and of its pretraining; `legend` says what a sequence is known by."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.brainfm.facts import BrainFMEncoderOptions, BrainFMOptions, BrainFMPretrainOptions
from workbench.models.diagram import Box, draw

Lines = tuple[str, ...]
NORMS = {"conditional": "conditional layer norm", "layer": "layer norm"}
"""Values of the option `norm`, as diagrams call them."""


def fine_tuning(
    options: BrainFMOptions, modalities: Sequence[str], classes: int, markers: Sequence[str], legend: Lines, taps: Sequence[int]
) -> str:
    """Tokens of every sequence, one transformer, averages, heads; `taps`: the layers that are read."""
    o = options
    frozen = ", frozen" if o.freeze else ""
    titles = {"unetr": "UNETR decoder", "shallow": "transposed convolutions", "linear": "linear per token"}
    boxes = [
        Box("input", _input(o, modalities), 0, 0),
        Box("text", legend, 0, 1, "third"),
        Box("tokens", (f"tokens of {o.token}³ voxels", "+ sequence + place"), 1, 0, "first"),
        Box("encoder", (f"{o.depth} layers of {o.width}{frozen}", NORMS[o.norm]), 2, 0, "first"),
        Box("mean", ("mean over sequences", f"layers {', '.join(map(str, taps))}"), 3, 0, "second"),
        Box("head", (titles[o.head], f"{classes} classes"), 4, 0, "second"),
        Box("stem", (f"stem, {o.head_width} features", "mean over sequences"), 3, 2, "second", drawn=o.head == "unetr"),
    ]
    arrows = ["input > tokens", "text > tokens > encoder > mean > head", "input > stem", "stem > head: full size"]
    arrows += ["text > encoder: condition"] if o.norm == "conditional" else []
    for index, marker in enumerate(markers):
        logits = 3 if marker == "grade" and o.grade_classes == 3 else 1
        boxes.append(Box(marker, (marker, f"{logits} logit"), 4, 1 + index, "fourth"))
        arrows.append(f"mean > {marker}" + ("" if index else ": mean of tokens"))
    return draw(boxes, arrows, "BrainFM-MRI")


def pretraining(options: BrainFMPretrainOptions, modalities: Sequence[str], legend: Lines) -> str:
    """Tokens, mask, encoder, decoder, and what is compared."""
    o = options
    decoder = ("self-attention" if o.decoder == "light" else "cross-attention", f"{o.decoder_layers} layers")
    boxes = [
        Box("input", _input(o, modalities), 0, 1),
        Box("text", legend, 1, 0, "third"),
        Box("tokens", (f"tokens of {o.token}³ voxels", "+ sequence + place"), 1, 1, "first"),
        Box("mask", (f"{100 * o.mask_ratio:g} % masked", "visible ones are read"), 2, 1, "third"),
        Box("encoder", (f"{o.depth} layers of {o.width}", NORMS[o.norm]), 3, 1, "first"),
        Box("regular", ("variance, covariance", o.regularisation), 4, 0, "fourth"),
        Box("decoder", decoder, 4, 1, "second"),
        Box("loss", ("squared error", "of masked voxels"), 4, 2, "fourth"),
        Box("wanted", ("z-scored images",), 0, 2),
        Box("condition", ("scale and shift", "of every layer norm"), 2, 0, "third", drawn=o.norm == "conditional"),
    ]
    arrows = ["input > tokens > mask > encoder > decoder > loss", "encoder > regular", "input > wanted > loss", "text > tokens"]
    return draw(boxes, [*arrows, "text > condition > encoder"], "BrainFM-MRI pretraining")


def _input(options: BrainFMEncoderOptions, modalities: Sequence[str]) -> Lines:
    if not options.padding_mask:
        return ", ".join(modalities), "zeros where absent"
    return (", ".join(modalities), "or any others") if options.modality_embedding == "text" else (", ".join(modalities),)
