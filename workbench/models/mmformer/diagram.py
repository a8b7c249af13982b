"""The diagram of mmFormer."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.diagram import Box, draw
from workbench.models.mmformer.blocks import LEVELS
from workbench.models.mmformer.facts import TOKEN, MMFormerOptions


def mmformer(options: MMFormerOptions, modalities: Sequence[str], classes: int) -> str:
    """The network as built: what an option leaves out is not drawn."""
    o, count = options, len(modalities)
    widths = "-".join(str(o.width << level) for level in range(LEVELS))
    tokens = "absent tokens masked" if o.absent_tokens == "masked" else "absent tokens zero"
    boxes = [
        Box("input", (", ".join(modalities), "any of them absent"), 0, 1),
        Box("encoders", (f"{count} CNN encoders", widths), 1, 1, "first"),
        Box("decoder", ("decoder", "fuses levels 1 to 5"), 4, 1, "second"),
        Box("output", (f"{classes} classes", "softmax" if o.auxiliary == "off" else "and coarser levels"), 5, 1),
        Box("tokens", (f"tokens of {TOKEN}³ voxels", f"width {o.embedding}, {o.layout}"), 2, 0, "third"),
        Box("intra", (f"{count} intra-modal", f"Transformers, depth {o.depth}"), 3, 0, "fourth", drawn=o.intra),
        Box("inter", ("inter-modal", tokens), 4, 0, "fourth", drawn=o.inter),
        Box("separate", ("shared decoder", "each sequence alone"), 2, 2, "second", drawn=o.auxiliary != "off"),
    ]
    arrows = [
        "input > encoders",
        "encoders > tokens: 1/16",
        "encoders > decoder: skips",
        "decoder > output",
        "encoders > separate",
    ]
    chain = ["tokens", *(["intra"] if o.intra else []), *(["inter"] if o.inter else []), "decoder"]
    return draw(boxes, [*arrows, " > ".join(chain)], "mmFormer")
