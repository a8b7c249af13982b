"""AMAES' released checkpoints of its pretraining (asbjrnmunk/amaes, no licence): the names of its public code."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.models.pretrained.released import ReleasedWeights, Source, named, swapped_halves
from workbench.models.pretrained.seen import Seen

_NO_EFFECT = "bias of a convolution, which instance norm takes away"
WEIGHTS = ReleasedWeights(
    kind="amaes",
    title="AMAES' released U-Net",
    anchor="encoder.in_conv.conv1.conv.weight",
    seen=Seen(collections=("brats2021", "msd-brain", "isles2022", "wmh2017", "msseg", "oasis", "adni", "ppmi")),  # BRAINS-45K
    unused=(
        (r"^(rec_head|pred_head)\.", "decoder: it starts from random weights, as published"),
        (r"\.conv\.bias$", _NO_EFFECT),
        (r"^encoder\.in_conv\.conv1\.conv\.weight$", "input convolution: it has one channel, random weights stay (stem)"),
    ),
)

_RULES = [
    (r"^encoder\.levels\.0\.", "encoder.in_conv."),
    (r"^encoder\.levels\.(\d)\.convs\.", r"encoder.encoder_conv\1."),
    *((rf"^decoder\.steps\.{2 * step}\.", f"rec_head.upsample{step + 1}.") for step in range(4)),
    *((rf"^decoder\.steps\.{2 * step + 1}\.", f"rec_head.decoder_conv{step + 1}.conv1.") for step in range(4)),
    *((rf"^decoder\.ups\.{step}\.upsample\.deconv\.", f"pred_head.upsample{step + 1}.") for step in range(4)),
    *((rf"^decoder\.ups\.{step}\.convs\.", f"pred_head.decoder_conv{step + 1}.") for step in range(4)),
    (r"conv_0\.", "conv1."),
    (r"conv_1\.", "conv2."),
    (r"\.adn\.N\.", ".norm."),
]


def published_names(own: Iterable[str], prefix: str = "") -> dict[str, Source]:
    """Our names -> the public code's, of the encoder and of either decoder.

    Its segmentation decoder concatenates (up, skip), MONAI's (skip, up): halves are exchanged.

    Args:
        own: names of the pretraining or of the segmentation network.
        prefix: what to put before them first.
    """
    full = {f"{prefix}{name}": name for name in own}
    rules = [*_RULES, (r"^decoder\.head\.", "pred_head.out_conv." if _segments(full) else "rec_head.out_conv.")]
    found = named(full, rules)
    for name, source in found.items():
        if name.startswith("decoder.ups.") and name.endswith("conv_0.conv.weight"):
            found[name] = Source(source.names, swapped_halves)
    return {full[name]: source for name, source in found.items()}


def _segments(names: Iterable[str]) -> bool:
    return any(name.startswith("decoder.ups.") for name in names)
