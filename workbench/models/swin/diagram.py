"""The diagram of the Swin pretraining."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.diagram import Box, draw
from workbench.models.swin.facts import PretrainSwinOptions


def pretraining(options: PretrainSwinOptions, modalities: Sequence[str]) -> str:
    """Two views, one encoder, three questions."""
    width = options.feature_size
    first, second = ("token 0", "token 1") if options.tokens == "published" else ("mean of tokens", "mean of tokens")
    boxes = [
        Box("input", (", ".join(modalities), "zeros where absent"), 0, 1),
        Box("turn", ("quarter turns", "two views"), 1, 1, "third"),
        Box("corrupt", ("corrupted cuboids", f"up to {100 * options.corruption:g} %"), 2, 1, "third"),
        Box("encoder", ("Swin encoder", f"{options.encoder}, {width} features"), 3, 1, "first"),
        Box("rotation", ("rotation", f"{first} to 4"), 4, 0, "second"),
        Box("contrast", ("contrast", f"{second} to {options.projection}"), 4, 1, "second"),
        Box("decode", ("reconstruction", f"{16 * width} to {width} features"), 4, 2, "second"),
        Box("wanted", ("turned, uncorrupted",), 2, 2),
    ]
    arrows = ["input > turn > corrupt > encoder > rotation", "encoder > contrast", "encoder > decode", "turn > wanted"]
    return draw(boxes, [*arrows, "wanted > decode: L1"], "Swin pretraining (BrainSegFounder)")
