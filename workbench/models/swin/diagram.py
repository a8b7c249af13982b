"""The diagram of the Swin pretraining."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.diagram import Box, draw
from workbench.models.swin.facts import PretrainSwinOptions


def pretraining(options: PretrainSwinOptions, modalities: Sequence[str]) -> str:
    """Two views, one encoder, three questions."""
    width = options.feature_size * 16
    token = "token" if options.tokens == "published" else "mean of tokens"
    boxes = [
        Box("input", (", ".join(modalities), "zeros where absent"), 0, 1, "data"),
        Box("turn", ("quarter turns", "two views"), 1, 1, "third"),
        Box("corrupt", ("corrupted cuboids", f"up to {100 * options.corruption:g} %"), 2, 1, "third"),
        Box("encoder", ("Swin encoder", f"{options.encoder}, {options.feature_size} features"), 3, 1, "first"),
        Box("rotation", ("rotation", f"{token + ' 0' if token == 'token' else token} to 4"), 4, 0, "second"),
        Box("contrast", ("contrast", f"{token + ' 1' if token == 'token' else token} to {options.projection}"), 4, 1, "second"),
        Box("decode", ("reconstruction", f"{width} to {width // 16} features"), 4, 2, "second"),
        Box("wanted", ("turned, uncorrupted",), 2, 2, "data"),
    ]
    arrows = [
        ("input", "turn", ""), ("turn", "corrupt", ""), ("corrupt", "encoder", ""), ("encoder", "rotation", ""),
        ("encoder", "contrast", ""), ("encoder", "decode", ""), ("turn", "wanted", ""), ("wanted", "decode", "L1"),
    ]  # fmt: skip
    return draw(boxes, arrows, "Swin pretraining (BrainSegFounder)")
