"""BrainFM-MRI's names in its public code (BrainFM/brainfm, branch dev, no licence), and what its weights need.

No trained weights have been published; whoever has trained with that code can start from theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from workbench.models.pretrained.released import ReleasedWeights, Source, named
from workbench.models.pretrained.seen import Seen

WEIGHTS = ReleasedWeights(
    kind="brainfm",
    title="weights of BrainFM-MRI's public code",
    anchor="pos_embed.pos_embed",
    seen=Seen(known=False),
    required={"norm": "conditional", "padding_mask": True, "modality_embedding": "text", "width": 768},
    unused=(
        (r"^(decoder|decoder_pred)\.|^mask_token$", "decoder of the pretraining"),
        (r"^(text_encoder|text_model|bert|modality_encoder)\.", "text model: its vectors come from the file of embeddings"),
    ),
)  # fmt: skip
"""`width` 768: text vectors are as long, and the public code has no projection of them."""

_RULES = [
    (r"^encoder\.embed\.", "patch_proj."),
    (r"^encoder\.positions$", "pos_embed.pos_embed"),
    (r"^encoder\.blocks\.", "encoder.layers."),
    (r"^decoder\.layers\.", "decoder.layers.layers."),
    (r"^decoder\.norm\.", "decoder.layers.norm."),
    (r"^decoder\.voxels\.", "decoder_pred."),
    (r"^decoder\.mask$", "mask_token"),
    (r"\.(gamma|beta)\.", r".\1_mlp."),
    (r"\.mlp\.(linear\d)\.", r".\1."),
    (r"\.attention\.", ".self_attn."),
    (r"\.cross\.", ".multihead_attn."),
    (r"_attn\.(query|memory)\.", r"_attn.in_proj_"),
    (r"_attn\.out\.", "_attn.out_proj."),
]


def published_names(own: Iterable[str]) -> dict[str, Source]:
    """Our names (`encoder.*`, `decoder.*`) -> the public code's; what a sequence is known by has no counterpart there."""
    found = named((name for name in own if not name.startswith("encoder.modality.")), _RULES)
    for name, source in found.items():
        if ".query." in name:
            found[name] = Source(source.names, _query)
        elif ".memory." in name:
            found[name] = Source(source.names, _memory)
        elif name == "encoder.positions":
            found[name] = Source(source.names, _first)
        elif name == "decoder.mask":
            found[name] = Source(source.names, _only)
    return found


def _query(tensor: Tensor) -> Tensor:
    """Of query, key and value together the first third."""
    return tensor[: len(tensor) // 3]


def _memory(tensor: Tensor) -> Tensor:
    return tensor[len(tensor) // 3 :]


def _first(tensor: Tensor) -> Tensor:
    return tensor[0]


def _only(tensor: Tensor) -> Tensor:
    return tensor[0, 0]
