"""Swin UNETR: the backbone on its own."""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR

from workbench.models.registry import create_model


def test_it_has_monais_parameters_under_the_same_names(meta: torch.device) -> None:
    with meta:
        model = create_model("swin_unetr", modalities=("t1", "flair"), classes=4, feature_size=12)
        monais = MonaiSwinUNETR(in_channels=2, out_channels=4, feature_size=12)
    own = {name.removeprefix("net."): value.shape for name, value in model.named_parameters()}
    assert own == {name: value.shape for name, value in monais.named_parameters()}
    assert all(model.get_submodule(name) for name in model.cam_layers())
