"""The diagram of M4oE."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.diagram import Box, draw
from workbench.models.m4oe.facts import PATCH, M4oEOptions


def m4oe(options: M4oEOptions, modalities: Sequence[str], classes: int, sizes: Sequence[int]) -> str:
    """Levels as columns, encoder above, decoder below, the mixture beside them; `sizes`: features of each level."""
    count = len(modalities)
    blocks, drawn = ("identity for its blocks", False) if options.identity_blocks else ("2 blocks", True)
    gate = "of the experts there" if options.gate == "expert" else "of the features"
    boxes = [Box("input", (", ".join(modalities), "zeros where absent"), 0, 0)]
    boxes += [
        Box(f"down{k}", (f"{size} features", f"1/{PATCH << k}, {blocks}"), k + 1, 0, "first") for k, size in enumerate(sizes)
    ]
    boxes += [Box(f"up{k}", (f"{size} features", f"1/{PATCH << k}"), k + 1, 1, "second") for k, size in enumerate(sizes[:-1])]
    boxes += [
        Box("output", (f"{classes} classes", "softmax"), 0, 1),
        Box("gate", ("gate of every block", gate), 1, 2, "third", drawn=drawn),
        Box("experts", (f"{count} experts", ", ".join(modalities)), 2, 2, "fourth", drawn=drawn),
    ]
    arrows = ["input > down0 > down1 > down2 > down3 > up2 > up1 > up0 > output", "gate > experts"]
    return draw(boxes, [*arrows, "down0 > up0: skip", "down1 > up1", "down2 > up2"], "M4oE in 3-D")
