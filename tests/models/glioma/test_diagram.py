"""The diagrams of the glioma methods show what is built."""

from __future__ import annotations

from mgmt_cases import build

from workbench.models.glioma.diagram import mts_unet
from workbench.models.glioma.facts import MtsUNetOptions

GIVEN = ("t1", "t1c", "t2", "flair")


def test_mgmt_net_is_drawn_as_it_is_built() -> None:
    paper, ablated = build().diagram(), build(fusion="concat", branch="cnn", pooling="average", gate="none").diagram()
    for text, here in (("CMAF", True), ("Swin branch", True), ("attention pooling", True), ("soft gate", True)):
        assert (text in paper) == here
    for text in ("Swin branch", "attention pooling", "gate"):
        assert text not in ablated
    for text in ("concatenation", "3 x 4 residual blocks", "average pooling"):
        assert text in ablated


def test_mts_unet_is_drawn_as_it_is_built() -> None:
    both = mts_unet(MtsUNetOptions(), GIVEN, 4, ("idh", "grade"), "dsf")
    assert all(part in both for part in ("TAFE", "CMD", "DSF", "second SwinUNETR", ">idh<", ">grade<"))
    light = mts_unet(MtsUNetOptions(backbones=1), GIVEN, 4, ("idh",), "cmd")
    assert "CMD head" in light
    assert "shared backbone, ours" in light
    assert not any(part in light for part in ("DSF", "second SwinUNETR", "heads on TAFE"))
    alone = mts_unet(MtsUNetOptions(), GIVEN, 4, (), "dsf")
    assert not any(part in alone for part in ("TAFE", "CMD", "idh"))
