"""Swin UNETR: the backbone on its own."""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR

from workbench.models.registry import create_model


@torch.no_grad()
def test_it_is_monais_network_under_the_same_names() -> None:
    model = create_model("swin_unetr", modalities=("t1", "flair"), classes=4, feature_size=12, window=7, checkpointing=False)
    monais = MonaiSwinUNETR(in_channels=2, out_channels=4, feature_size=12)
    monais.load_state_dict({name.removeprefix("net."): value for name, value in model.state_dict().items()})
    images, present = torch.randn(1, 2, 64, 64, 64, generator=torch.Generator().manual_seed(0)), torch.ones(1, 2).bool()
    torch.testing.assert_close(model.eval()(images, present).segmentation, monais.eval()(images), rtol=1e-4, atol=1e-4)
