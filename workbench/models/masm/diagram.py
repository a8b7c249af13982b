"""The diagram of MASM."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.diagram import Box, draw
from workbench.models.masm.facts import MasmOptions


def masm(options: MasmOptions, modalities: Sequence[str], classes: int, levels: int, pairs: Sequence[str]) -> str:
    """The network as built; `pairs` as t1-t1c."""
    o, last = options, levels - 1
    upper = {"aware_shift": "MA", "aware": "MA", "shift": "MS", "none": ""}[o.mixers]
    deepest = {"aware_shift": "MS", "aware": "MA", "shift": "MS", "none": ""}[o.mixers]
    if o.identity_blocks:
        deepest = upper if deepest == "MA" else ""
    text = {
        "MA": (
            "Modality-Aware",
            "refilled, no attention"
            if o.identity_blocks
            else "tokens kept or dropped"
            if o.masking == "gumbel"
            else "all tokens kept",
        ),
        "MS": ("Modality-Shift", {"mosaic": "mosaic, no parameters", "learned": "learnt shift", "none": "no shift"}[o.shift]),
        "": ("no mixer", "features as they are"),
    }
    separate = o.fusion == "separate"
    boxes = [
        Box("input", (", ".join(modalities), "any of them absent"), 0, 0.5),
        Box(
            "encoder", (f"{o.backbone} encoder", f"{'one sequence' if separate else 'all sequences'} at a time"), 1, 0.5, "first"
        ),
        Box("upper", (f"{text[upper][0]}, levels 1-{last}", text[upper][1]), 2, 0, "third", drawn=separate),
        Box("deepest", (f"{text[deepest][0]}, level {last + 1}", text[deepest][1]), 2, 1, "fourth", drawn=separate),
        Box(
            "join",
            ("joined", "map each, mean of present" if o.join == "concat" else "mean of those present"),
            3,
            0.5,
            "third",
            drawn=separate,
        ),
        Box("decoder", (f"{o.backbone} decoder", "upsample, concatenate"), 4, 0.5, "second"),
        Box("output", (f"{classes} classes", "softmax"), 5, 0.5),
        Box("pairs", (f"{o.pairing} pairs", "; ".join(pairs) or "none"), 2, -1, drawn="MA" in (upper, deepest)),
    ]
    arrows = ["input > encoder", "encoder > upper: skips", "encoder > deepest > join", "upper > join > decoder > output"]
    arrows += [] if separate else ["encoder > decoder: skips"]
    return draw(
        boxes, [*arrows, f"pairs > {'upper' if upper == 'MA' else 'deepest'}"], "MASM (re-implementation without public code)"
    )
