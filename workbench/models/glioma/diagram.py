"""The diagrams of MTS-UNET and MGMT-Net as built: what an option leaves out is not drawn."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.diagram import Box, draw
from workbench.models.glioma.facts import MgmtNetOptions, MtsUNetOptions


def mts_unet(options: MtsUNetOptions, modalities: Sequence[str], classes: int, markers: Sequence[str], streams: str) -> str:
    """Both streams; `streams`: those that IDH is read from."""
    o, idh = options, "idh" in markers
    cmd = idh and streams != "tafe"
    second, own = cmd and o.backbones == 2, cmd and o.gate == "own"
    others = ", ".join(marker for marker in markers if marker != "idh")
    boxes = [
        Box("input", (", ".join(modalities), "zeros where absent"), 0, 0),
        Box(
            "encoder",
            ("encoder without Swin blocks" if o.identity_blocks else "Swin encoder", f"{o.feature_size} features, 4 stages"),
            1,
            0,
            "first",
        ),
        Box("decoder", ("decoder", "SwinUNETR"), 2, 0, "first"),
        Box("mask", ("segmentation", f"{classes} classes"), 4, 0),
        Box("tafe", ("TAFE", f"mean of {o.tafe_stages} stage(s)"), 2, 1, "second", drawn=bool(markers)),
        Box("others", (others, "heads on TAFE"), 4, 1, drawn=bool(others)),
        Box("idh", ("idh",), 4, 2, drawn=idh),
        Box("second", ("second SwinUNETR", "for the gate"), 0, 2, "first", drawn=second),
        Box("own", ("own gate", "from T2 and FLAIR"), 0, 2, "first", drawn=own),
        Box("gate", ("gate", f"{o.min_gate:g} + {1 - o.min_gate:g} P({'own' if own else 'tumour'})"), 1, 2, "third", drawn=cmd),
        Box("cmd", ("CMD", f"{o.gamma:g} (conv T2 - conv FLAIR)"), 2, 2, "third", drawn=cmd),
        Box("fusion", ("DSF" if streams == "dsf" else "CMD head", "no T2/FLAIR: TAFE alone"), 3, 2, "fourth", drawn=cmd),
    ]
    arrows = ["input > encoder > decoder > mask", "encoder > tafe > others", "input > second > gate > cmd > fusion > idh"]
    arrows += ["tafe > fusion"] if cmd else ["tafe > idh"]
    arrows += ["input > own > gate"] if own else [] if second else ["decoder > gate"]
    ours = " (gate of its own, ours)" if own else " (shared backbone, ours)" if cmd and not second else ""
    return draw(boxes, arrows, "MTS-UNET" + ours)


def mgmt_net(options: MgmtNetOptions, modalities: Sequence[str], classes: int, markers: Sequence[str]) -> str:
    """Fusion, both branches, decoder and gated pooling."""
    o, swin, marking = options, options.branch == "swin", bool(markers)
    windows = "identity for its blocks" if o.identity_blocks else f"windows {o.window}^3, 4 stages"
    fusion = ("CMAF", "voxel-wise weights, sum 1") if o.fusion == "cmaf" else ("concatenation", "ablation of CMAF")
    boxes = [
        Box("input", (", ".join(modalities), "any of them absent"), 0, 0.5),
        Box("fusion", fusion, 1, 0.5, "third"),
        Box("cnn", ("CNN branch", f"3 x {2 if swin else 4} residual blocks"), 2, 0, "first"),
        Box("swin", ("Swin branch", windows), 2, 1, "first", drawn=swin),
        Box("join", ("F_ENC", f"{4 * o.width} channels at 1/8"), 3, 0.5, "fourth"),
        Box("decoder", ("decoder", "squeeze-excitation" if o.squeeze_excitation else "residual"), 4, 0, "second"),
        Box("mask", ("segmentation", f"{classes} classes"), 5, 0),
        Box("pooling", (f"{o.pooling} pooling", "over the cells of F_ENC"), 4, 1.6, "fourth", drawn=marking),
        Box("heads", (", ".join(markers), "one head each"), 5, 1.6, drawn=marking),
        Box("gate", (f"{o.gate} gate" + (" without oedema" if o.gate_region == "no_oedema" else ""),
                     "log(m + eps)" if o.gate == "soft" else "0 or -inf"), 5, 0.8, "third",
            drawn=marking and o.gate != "none"),
    ]  # fmt: skip
    arrows = ["input > fusion > cnn > join", "fusion > swin > join"]
    return draw(boxes, [*arrows, "join > decoder > mask > gate > pooling > heads", "join > pooling"], "MGMT-Net")
