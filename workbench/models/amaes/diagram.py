"""The diagram of AMAES's pretraining."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.amaes.facts import AmaesPretrainOptions
from workbench.models.diagram import Box, draw


def pretraining(options: AmaesPretrainOptions, features: Sequence[int]) -> str:
    """What is shown, and what is wanted back; `features` of each level."""
    sizes = "-".join(map(str, features))
    boxes = [
        Box("space", ("one sequence", "flipped, turned, scaled"), 0, 0.5, "data"),
        Box("intensity", ("intensities changed", "this is to be undone"), 1, 0, "third"),
        Box("hidden", (f"{100 * options.masked_share:g} % hidden", f"units of {options.mask_unit}³ voxels"), 2, 0, "third"),
        Box("encoder", ("encoder, kept", sizes), 3, 0, "first"),
        Box("decoder", ("light decoder", "no skips"), 4, 0, "second"),
        Box("loss", ("mean squared error", "hidden voxels" if options.masked_only else "all voxels"), 4, 1, "fourth"),
    ]
    wanted = "space" if options.reversal else "intensity"
    arrows = ["space > intensity > hidden > encoder", "encoder > decoder: 1/16", "decoder > loss", f"{wanted} > loss: wanted"]
    return draw(boxes, arrows, "AMAES pretraining")
