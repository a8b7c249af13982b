"""The diagrams of the mixtures and of the network that reads one image."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.diagram import Box, draw
from workbench.models.mome.blocks import plan
from workbench.models.mome.facts import MixtureOptions, PlainUNetOptions


def mixture(
    title: str, options: MixtureOptions, modalities: Sequence[str], classes: int, source: tuple[str, str], before: str = ""
) -> str:
    """Experts in a column, the gate beside them; `before` names what stands between the input and the experts."""
    features = plan(options)
    middle = (len(modalities) - 1) / 2
    boxes = [Box("input", source, 0, middle)]
    arrows = []
    start, column = "input", 1
    if before:
        boxes.append(Box("dispatch", (before, "replaces what is missing"), 1, middle, "fourth"))
        arrows.append(("input", "dispatch", ""))
        start, column = "dispatch", 2
    for row, name in enumerate(modalities):
        boxes.append(Box(f"expert{row}", (f"expert {name}", f"{features[0]} to {features[-1]} features"), column, row, "first"))
        arrows += [(start, f"expert{row}", ""), (f"expert{row}", "fused", "")]
    boxes.append(Box("fused", ("sum of gate x logits", f"at {options.levels - 1} levels"), column + 1.5, middle, "third"))
    if options.gating != "average":
        gate = ("gating network", "softmax" if options.gate_normalisation == "softmax" else "not normalised")
        boxes.append(Box("gate", gate, column, len(modalities), "second"))
        arrows += [(start, "gate", ""), (f"expert{len(modalities) - 1}", "gate", "first stages"), ("gate", "fused", "")]
    boxes.append(Box("output", (f"{classes} classes", "softmax"), column + 2.5, middle))
    return draw(boxes, [*arrows, ("fused", "output", "")], title)


def pooled(options: PlainUNetOptions, modalities: Sequence[str], classes: int) -> str:
    """One network, read once per sequence."""
    features = plan(options)
    boxes = [
        Box("input", (" or ".join(modalities[:3]) + (" ..." if len(modalities) > 3 else ""), "one image"), 0, 0),
        Box("net", ("U-Net", f"{features[0]} to {features[-1]} features"), 1, 0, "first"),
        Box("output", (f"{classes} classes", "mean over sequences"), 2, 0),
    ]
    return draw(boxes, [("input", "net", ""), ("net", "output", "")], "Pooled U-Net")
