"""The diagrams of the networks that are no plain columns of levels (`networks.draw_levels`)."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.baselines.facts import TOKEN, DenseNetOptions, UNETROptions
from workbench.models.diagram import Box, draw


def densenet(options: DenseNetOptions, modalities: Sequence[str], markers: Sequence[str], layers: Sequence[int]) -> str:
    """A chain from the images to one classifier per marker; `layers` of each dense block."""
    width, growth = options.width, options.growth
    boxes = [
        Box("input", (", ".join(modalities), "zeros where absent"), 0, 0),
        Box("stem", (f"7³ convolution, {width}", "stride 2, max pooling"), 1, 0, "first"),
    ]
    arrows, before = [("input", "stem", "")], "stem"
    for index, count in enumerate(layers):
        width = width + count * growth
        boxes.append(
            Box(f"block{index}", (f"{count} dense layers", f"{width} features, 1/{4 * 2**index}"), index + 2, 0, "first")
        )
        arrows.append((before, f"block{index}", ""))
        before, width = f"block{index}", width if index == 3 else width // 2
    boxes.append(Box("pool", ("average pooling", f"{width} features"), 5, 1, "second"))
    arrows.append((before, "pool", ""))
    for index, marker in enumerate(markers):
        boxes.append(
            Box(
                marker,
                (marker, "3 logits" if marker == "grade" and options.grade_classes == 3 else "1 logit"),
                4,
                1 + index,
                "third",
            )
        )
        arrows.append(("pool", marker, ""))
    return draw(boxes, arrows, "DenseNet-121 (3-D)")


def unetr(options: UNETROptions, modalities: Sequence[str], classes: int) -> str:
    """The transformer as a chain, the decoder below."""
    width, hidden = options.width, options.hidden
    boxes = [
        Box("input", (", ".join(modalities), "zeros where absent"), 0, 0),
        Box("tokens", (f"tokens of {TOKEN}³ voxels", f"linear to {hidden} + positions"), 1, 0, "first"),
        *(
            Box(f"vit{k}", (f"ViT layers {first}-{last}", f"{options.heads} heads"), k / 3 + 1, 0, "first")
            for k, first, last in ((3, 1, 4), (6, 5, 7), (9, 8, 10), (12, 11, 12))
        ),
        Box("stem", (f"{width} features", "residual block"), 1, 1, "second"),
        *(
            Box(f"up{k}", (f"{width * 2**n} features", f"1/{2**n}"), k / 3 + 1, 1, "second")
            for k, n in ((3, 1), (6, 2), (9, 3))
        ),
        Box("output", (f"{classes} classes", "softmax"), 0, 1),
    ]  # fmt: skip
    arrows = [
        ("input", "tokens", ""),
        ("input", "stem", ""),
        ("tokens", "vit3", ""),
        ("vit3", "vit6", ""),
        ("vit6", "vit9", ""),
    ]
    arrows += [("vit9", "vit12", ""), *((f"vit{k}", f"up{k}", "") for k in (3, 6, 9)), ("vit12", "up9", "upsample")]
    arrows += [("up9", "up6", ""), ("up6", "up3", ""), ("up3", "stem", ""), ("stem", "output", "")]
    return draw(boxes, arrows, "UNETR")
