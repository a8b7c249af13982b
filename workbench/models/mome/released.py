"""MoME's and MoME+'s released weights (ZhangxinruBIT/MoME, Apache-2.0): the names of their public code, and what they need.

The authors keep each network in a file of its own. All go into one file here, a dictionary of state dicts or a flat one: the
experts as `network1`, `network2`, ... in the order of the sequences, the gating network as `network`, and MoME+'s dispatch
network as `dispatch_network`.
"""

from __future__ import annotations

from collections.abc import Iterable

from workbench.models.pretrained.released import ReleasedWeights, Source, named
from workbench.models.pretrained.seen import Seen

_MIXTURE = {"gating": "hierarchical", "gate_normalisation": "none"}
_UNUSED = ((r"\.all_modules\.|\.decoder\.encoder\.", "second name of a tensor"),)

WEIGHTS = {
    "mome": ReleasedWeights(
        kind="mome", title="MoME's released weights", anchor="network1.encoder.stages.0.0.convs.0.conv.weight",
        seen=Seen(collections=("brats2021", "atlas", "oasis", "wmh2017", "isles2022", "msseg")),
        modalities=("t1", "t1c", "t2", "flair", "dwi"), required=_MIXTURE, unused=_UNUSED,
    ),
    "mome_plus": ReleasedWeights(
        kind="mome_plus", title="MoME+'s released weights", anchor="network1.encoder.stages.0.0.convs.0.conv.weight",
        seen=Seen(collections=("brats2021",)), modalities=("t1", "t1c", "t2", "flair"),
        required=_MIXTURE | {"dispatch": "learned"}, unused=_UNUSED,
    ),
}  # fmt: skip


def published_names(own: Iterable[str], prefix: str = "") -> dict[str, Source]:
    """Our names -> nnU-Net's below the trainer's names of the networks; our heads go from the finest, its from the coarsest.

    Args:
        own: names of a mixture, or of one `PlainUNet`.
        prefix: of one `PlainUNet`, what stands before its names there.
    """
    names = list(own)
    heads = 1 + max(int(name.split("heads.")[1].split(".")[0]) for name in names if "heads." in name)
    rules = [
        (r"^mixture\.gate\.", "network."),
        *((rf"^mixture\.experts\.{index}\.", f"network{index + 1}.") for index in range(16)),
        (r"^dispatch\.network\.", "dispatch_network.mlp."),
        (r"^(encoder|decoder|up|heads)\.", rf"{prefix}\1."),
        (r"(^|\.)encoder\.(\d+)\.(\d+)\.", r"\1encoder.stages.\2.0.convs.\3."),
        (r"(^|\.)decoder\.(\d+)\.(\d+)\.", r"\1decoder.stages.\2.convs.\3."),
        (r"(^|\.)up\.(\d+)\.", r"\1decoder.transpconvs.\2."),
        *((rf"(^|\.)heads\.{k}\.", rf"\1decoder.seg_layers.{heads - 1 - k}.") for k in range(heads)),
        (r"\.adn\.N\.", ".norm."),
    ]
    return named(names, rules)
