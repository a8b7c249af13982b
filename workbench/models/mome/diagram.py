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
    middle, column = (len(modalities) - 1) / 2, 2 if before else 1
    start, last = "dispatch" if before else "input", f"expert{len(modalities) - 1}"
    gate = ("gating network", "softmax" if options.gate_normalisation == "softmax" else "not normalised")
    boxes = [
        Box("input", source, 0, middle),
        Box("dispatch", (before, "replaces what is missing"), 1, middle, "fourth", drawn=bool(before)),
        Box("fused", ("sum of gate x logits", f"at {options.levels - 1} levels"), column + 1.5, middle, "third"),
        Box("gate", gate, column, len(modalities), "second", drawn=options.gating != "average"),
        Box("output", (f"{classes} classes", "softmax"), column + 2.5, middle),
    ]
    arrows = ["input > dispatch", f"{start} > gate", f"{last} > gate: first stages", "gate > fused > output"]
    for row, name in enumerate(modalities):
        text = (f"expert {name}", f"{features[0]} to {features[-1]} features")
        boxes.append(Box(f"expert{row}", text, column, row, "first"))
        arrows.append(f"{start} > expert{row} > fused")
    return draw(boxes, arrows, title)


def pooled(options: PlainUNetOptions, modalities: Sequence[str], classes: int) -> str:
    """One network, read once per sequence."""
    features = plan(options)
    boxes = [
        Box("input", (" or ".join(modalities[:3]) + (" ..." if len(modalities) > 3 else ""), "one image"), 0, 0),
        Box("net", ("U-Net", f"{features[0]} to {features[-1]} features"), 1, 0, "first"),
        Box("output", (f"{classes} classes", "mean over sequences"), 2, 0),
    ]
    return draw(boxes, ["input > net > output"], "Pooled U-Net")
