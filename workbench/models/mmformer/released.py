"""mmFormer's released weights: the names of its public code (YaoZhang93/mmFormer, Apache-2.0), and what they need."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from workbench.models.pretrained.released import ReleasedWeights, Source, named, swapped_halves
from workbench.models.pretrained.seen import Seen

THEIRS = {"flair": "flair", "t1c": "t1ce", "t1": "t1", "t2": "t2"}
"""Our sequences, in their order, and what they call them."""

WEIGHTS = ReleasedWeights(
    kind="mmformer",
    title="mmFormer's released weights",
    anchor="flair_encoder.e1_c1.weight",
    seen=Seen(collections=("brats2021",)),  # BraTS 2018
    modalities=tuple(THEIRS),
    required={
        "layout": "published", "absent_tokens": "zero", "fusion_borders": "zeros", "intra": True, "inter": True,
    },
    unused=(
        (r"^(flair|t1ce|t1|t2)_decode_conv\.", "a convolution that no forward pass of the public code uses"),
        (r"^decoder_(sep|fuse)\.", "a decoder's head that this model is built without (auxiliary)"),
    ),
)  # fmt: skip


def published_names(own: Iterable[str]) -> dict[str, Source]:
    """Our names -> the public code's.

    Its decoder of single sequences concatenates (up, skip), ours (skip, up) as its fusing one: halves are exchanged.
    """
    rules = [(rf"^{part}\.{m}\.", rf"{name}_{theirs}.") for m, name in enumerate(THEIRS.values()) for part, theirs in _PARTS]
    found = named(own, [*rules, *_RULES])
    for name, source in found.items():
        if name.startswith("separate.joins.") and name.endswith(".0.2.weight"):
            found[name] = Source(source.names, swapped_halves)
    if "positions" in found:
        found["positions"] = Source(tuple(f"{name}_pos" for name in THEIRS.values()), _joined)
    return found


_PARTS = (("encoders", "encoder"), ("embed", "encode_conv"), ("intra", "transformer"))
_LEVEL = {str(level): str(level + 1) for level in range(5)}


def _joined(*positions: Tensor) -> Tensor:
    return torch.cat(positions)


def _rules() -> list[tuple[str, str]]:
    rules = [
        (r"^inter\.", "multimodal_transformer."),
        (r"^project\.", "multimodal_decode_conv."),
        (r"^decoder\.", "decoder_fuse."),
        (r"^separate\.", "decoder_sep."),
        (r"heads\.0\.", "seg_layer."),
        (r"\.attentions\.(\d+)\.qkv\.", r".cross_attention_list.\1.fn.fn.qkv."),
        (r"\.attentions\.(\d+)\.project\.0\.", r".cross_attention_list.\1.fn.fn.proj."),
        (r"\.mlps\.(\d+)\.linear1\.", r".cross_ffn_list.\1.fn.fn.net.0."),
        (r"\.mlps\.(\d+)\.linear2\.", r".cross_ffn_list.\1.fn.fn.net.3."),
    ]
    for layer in range(12):  # two norms per layer, the first before attention
        rules += [
            (rf"\.norms\.{2 * layer}\.", f".cross_attention_list.{layer}.fn.norm."),
            (rf"\.norms\.{2 * layer + 1}\.", f".cross_ffn_list.{layer}.fn.norm."),
        ]
    for level, number in _LEVEL.items():
        rules += [
            (rf"\.first\.{level}(\.2)?\.", rf".e{number}_c1{'' if level == '0' else '.conv'}."),
            (rf"\.pair\.{level}\.0\.2\.", f".e{number}_c2.conv."),
            (rf"\.pair\.{level}\.1\.2\.", f".e{number}_c3.conv."),
            (rf"\.ups\.{level}\.2\.", f".d{number}_c1.conv."),
            (rf"\.joins\.{level}\.0\.2\.", f".d{number}_c2.conv."),
            (rf"\.joins\.{level}\.1\.2\.", f".d{number}_out.conv."),
            (rf"\.fusions\.{level}\.(\d)\.2\.", rf".RFM{number}.fusion_layer.\1.conv."),
            (rf"\.heads\.{level}\.", f".seg_d{level}."),
        ]
    return rules


_RULES = _rules()
