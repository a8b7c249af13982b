"""The diagrams of the networks that are no plain columns of levels (`networks.draw_levels`)."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.baselines.facts import TOKEN, DenseNetOptions, UNETROptions
from workbench.models.diagram import Box, draw


def densenet(options: DenseNetOptions, modalities: Sequence[str], markers: Sequence[str], layers: Sequence[int]) -> str:
    """A chain from the images to one classifier per marker; `layers` of each dense block."""
    width = options.width
    boxes = [
        Box("input", (", ".join(modalities), "zeros where absent"), 0, 0),
        Box("stem", (f"7³ convolution, {width}", "stride 2, max pooling"), 1, 0, "first"),
    ]
    for index, count in enumerate(layers):
        width = width + count * options.growth
        text = (f"{count} dense layers", f"{width} features, 1/{4 * 2**index}")
        boxes.append(Box(f"block{index}", text, index + 2, 0, "first"))
        width = width if index == 3 else width // 2
    boxes.append(Box("pool", ("average pooling", f"{width} features"), 5, 1, "second"))
    for index, marker in enumerate(markers):
        logits = "3 logits" if marker == "grade" and options.grade_classes == 3 else "1 logit"
        boxes.append(Box(marker, (marker, logits), 4, 1 + index, "third"))
    arrows = ["input > stem > block0 > block1 > block2 > block3 > pool", *(f"pool > {marker}" for marker in markers)]
    return draw(boxes, arrows, "DenseNet-121 (3-D)")


def unetr(options: UNETROptions, modalities: Sequence[str], classes: int) -> str:
    """The transformer as a chain, the decoder below."""
    layers, scales = ((3, 1, 4), (6, 5, 7), (9, 8, 10), (12, 11, 12)), ((3, 1), (6, 2), (9, 3))
    boxes = [
        Box("input", (", ".join(modalities), "zeros where absent"), 0, 0),
        Box("tokens", (f"tokens of {TOKEN}³ voxels", f"linear to {options.hidden} + positions"), 1, 0, "first"),
        *(Box(f"vit{k}", (f"ViT layers {a}-{b}", f"{options.heads} heads"), k / 3 + 1, 0, "first") for k, a, b in layers),
        Box("stem", (f"{options.width} features", "residual block"), 1, 1, "second"),
        *(Box(f"up{k}", (f"{options.width << n} features", f"1/{1 << n}"), k / 3 + 1, 1, "second") for k, n in scales),
        Box("output", (f"{classes} classes", "softmax"), 0, 1),
    ]
    arrows = ["input > tokens", "input > stem", "tokens > vit3 > vit6 > vit9 > vit12", "vit3 > up3", "vit6 > up6", "vit9 > up9"]
    return draw(boxes, [*arrows, "vit12 > up9: upsample", "up9 > up6 > up3 > stem > output"], "UNETR")
