"""The diagrams of MTS-UNET and MGMT-Net as built: what an option leaves out is not drawn."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.diagram import Box, draw
from workbench.models.glioma.facts import MgmtNetOptions, MtsUNetOptions


def mts_unet(options: MtsUNetOptions, modalities: Sequence[str], classes: int, markers: Sequence[str], streams: str) -> str:
    """Both streams; `streams`: those that IDH is read from."""
    cmd = "idh" in markers and streams != "tafe"
    shared = not cmd or options.backbones == 1
    others = ", ".join(marker for marker in markers if marker != "idh")
    boxes = [
        Box("input", (", ".join(modalities), "zeros where absent"), 0, 0, "data"),
        Box("encoder", ("Swin encoder", f"{options.feature_size} features, 4 stages"), 1, 0, "first"),
        Box("decoder", ("decoder", "SwinUNETR"), 2, 0, "first"),
        Box("mask", ("segmentation", f"{classes} classes"), 4, 0, "data"),
    ]
    arrows = [("input", "encoder", ""), ("encoder", "decoder", ""), ("decoder", "mask", "")]
    if markers:
        boxes.append(Box("tafe", ("TAFE", f"mean of {options.tafe_stages} stage(s)"), 2, 1, "second"))
        arrows.append(("encoder", "tafe", ""))
    if others:
        boxes.append(Box("others", (others, "heads on TAFE"), 4, 1, "data"))
        arrows.append(("tafe", "others", ""))
    if "idh" in markers:
        boxes.append(Box("idh", ("idh",), 4, 2, "data"))
    if cmd:
        boxes += [
            Box("gate", ("gate", f"{options.min_gate:g} + {1 - options.min_gate:g} P(tumour)"), 1, 2, "third"),
            Box("cmd", ("CMD", f"{options.gamma:g} (conv T2 - conv FLAIR)"), 2, 2, "third"),
            Box("fusion", ("DSF" if streams == "dsf" else "CMD head", "no T2/FLAIR: TAFE alone"), 3, 2, "fourth"),
        ]
        source = "decoder" if shared else "second"
        if not shared:
            boxes.append(Box("second", ("second SwinUNETR", "for the gate"), 0, 2, "first"))
            arrows.append(("input", "second", ""))
        arrows += [
            (source, "gate", ""),
            ("gate", "cmd", ""),
            ("cmd", "fusion", ""),
            ("tafe", "fusion", ""),
            ("fusion", "idh", ""),
        ]
    elif "idh" in markers:
        arrows.append(("tafe", "idh", ""))
    return draw(boxes, arrows, "MTS-UNET" + (" (shared backbone, ours)" if shared and cmd else ""))


def mgmt_net(options: MgmtNetOptions, modalities: Sequence[str], classes: int, markers: Sequence[str]) -> str:
    """Fusion, both branches, decoder and gated pooling."""
    o = options
    cmaf = ("CMAF", "voxel-wise weights, sum 1") if o.fusion == "cmaf" else ("concatenation", "ablation of CMAF")
    blocks = 2 if o.branch == "swin" else 4
    boxes = [
        Box("input", (", ".join(modalities), "any of them absent"), 0, 0.5, "data"),
        Box("fusion", cmaf, 1, 0.5, "third"),
        Box("cnn", ("CNN branch", f"3 x {blocks} residual blocks"), 2, 0, "first"),
        Box("join", ("F_ENC", f"{4 * o.width} channels at 1/8"), 3, 0.5, "fourth"),
        Box("decoder", ("decoder", "squeeze-excitation" if o.squeeze_excitation else "residual"), 4, 0, "second"),
        Box("mask", ("segmentation", f"{classes} classes"), 5, 0, "data"),
    ]
    arrows = [
        ("input", "fusion", ""), ("fusion", "cnn", ""), ("cnn", "join", ""), ("join", "decoder", ""), ("decoder", "mask", "")
    ]  # fmt: skip
    if o.branch == "swin":
        boxes.append(Box("swin", ("Swin branch", f"windows {o.window}^3, 4 stages"), 2, 1, "first"))
        arrows += [("fusion", "swin", ""), ("swin", "join", "")]
    if markers:
        pooling = ("attention pooling" if o.pooling == "attention" else "average pooling", "over the cells of F_ENC")
        boxes += [
            Box("pooling", pooling, 4, 1.6, "fourth"),
            Box("heads", (", ".join(markers), "one head each"), 5, 1.6, "data"),
        ]
        arrows += [("join", "pooling", ""), ("pooling", "heads", "")]
        if o.gate != "none":
            gate = "log(m + eps)" if o.gate == "soft" else "0 or -inf"
            boxes.append(Box("gate", (f"{o.gate} gate", gate), 5, 0.8, "third"))
            arrows += [("mask", "gate", ""), ("gate", "pooling", "")]
    return draw(boxes, arrows, "MGMT-Net")
