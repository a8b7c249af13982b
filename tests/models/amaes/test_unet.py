"""The U-Net of AMAES and its light decoder."""

from __future__ import annotations

import torch
from amaes_cases import GIVEN, tuning
from torch import nn

from workbench.models.amaes.unet import LightDecoder
from workbench.models.registry import create_model


def test_sizes_are_the_papers(meta: torch.device) -> None:
    with meta:
        base, extra = (create_model("amaes", modalities=("t1",), classes=2, width=width) for width in (32, 64))
        pretrained = create_model("amaes_pretrain", modalities=GIVEN)
        one = create_model("amaes_pretrain", modalities=("t1",))
    assert (base.parameter_count(), extra.parameter_count()) == (22_578_306, 90_298_626)  # the paper: 22 M and 90 M
    assert pretrained.parameter_count() == one.parameter_count() == 17_877_153, "one channel, whatever the sequences are"
    assert pretrained.parameters_by_component() == {"encoder": 14_132_960, "decoder": 3_744_193}


def test_the_light_decoder_has_one_convolution_per_level_and_no_skip() -> None:
    decoder = LightDecoder(4)
    kinds = [type(module).__name__ for module in decoder.steps]
    assert kinds == ["ConvTranspose3d", "Convolution"] * 4
    assert [module.in_channels for module in decoder.modules() if isinstance(module, nn.Conv3d)] == [32, 16, 8, 4, 4]
    model = tuning()
    assert [type(module).__name__ for module in model.decoder.ups] == ["UpCat"] * 4
    assert sum(isinstance(module, nn.Conv3d) for module in model.decoder.modules()) == 4 * 2 + 1
    assert [tuple(state.shape[1:3]) for state in model.encoder(torch.randn(1, 4, 32, 32, 32))] == [
        (4, 32), (8, 16), (16, 8), (32, 4), (64, 2)
    ]  # fmt: skip
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.01}
