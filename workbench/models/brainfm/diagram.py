"""The diagrams of BrainFM-MRI and of its pretraining; `legend` says what a sequence is known by."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.brainfm.facts import BrainFMEncoderOptions, BrainFMOptions, BrainFMPretrainOptions
from workbench.models.diagram import Box, draw

NORMS = {"conditional": "conditional layer norm", "layer": "layer norm"}
"""Values of the option `norm`, as diagrams call them."""


def fine_tuning(
    options: BrainFMOptions,
    modalities: Sequence[str],
    classes: int,
    markers: Sequence[str],
    *,
    legend: tuple[str, ...],
    taps: Sequence[int],
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
    ]
    arrows = [
        ("input", "tokens", ""), ("text", "tokens", ""), ("tokens", "encoder", ""), ("encoder", "mean", ""),
        ("mean", "head", ""), *([("text", "encoder", "condition")] if o.norm == "conditional" else []),
    ]  # fmt: skip
    if o.head == "unetr":
        boxes.append(Box("stem", (f"stem, {o.head_width} features", "mean over sequences"), 3, 2, "second"))
        arrows += [("input", "stem", ""), ("stem", "head", "full size")]
    for index, marker in enumerate(markers):
        boxes.append(
            Box(marker, (marker, f"{3 if marker == 'grade' and o.grade_classes == 3 else 1} logit"), 4, 1 + index, "fourth")
        )
        arrows.append(("mean", marker, "" if index else "mean of tokens"))
    return draw(boxes, arrows, "BrainFM-MRI")


def pretraining(options: BrainFMPretrainOptions, modalities: Sequence[str], legend: tuple[str, ...]) -> str:
    """Tokens, mask, encoder, decoder, and what is compared."""
    o = options
    decoder = ("cross-attention" if o.decoder == "published" else "self-attention", f"{o.decoder_layers} layers")
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
    ]
    arrows = [
        ("input", "tokens", ""), ("text", "tokens", ""), ("tokens", "mask", ""), ("mask", "encoder", ""),
        ("encoder", "regular", ""), ("encoder", "decoder", ""), ("decoder", "loss", ""), ("input", "wanted", ""),
        ("wanted", "loss", ""),
    ]  # fmt: skip
    if o.norm == "conditional":
        boxes.append(Box("condition", ("scale and shift", "of every layer norm"), 2, 0, "third"))
        arrows += [("text", "condition", ""), ("condition", "encoder", "")]
    return draw(boxes, arrows, "BrainFM-MRI pretraining")


def _input(options: BrainFMEncoderOptions, modalities: Sequence[str]) -> tuple[str, ...]:
    if not options.padding_mask:
        return ", ".join(modalities), "zeros where absent"
    return (", ".join(modalities), "or any others") if options.modality_embedding == "text" else (", ".join(modalities),)
