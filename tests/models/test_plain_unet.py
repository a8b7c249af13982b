"""nnU-Net's plain U-Net, which several methods are made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.models.plain_unet import PlainUNet, stage_features


def test_features_double_up_to_ten_times_the_first() -> None:
    assert stage_features(32, 6) == (32, 64, 128, 256, 320, 320)


def test_a_plain_unet_is_nnunets() -> None:
    net = PlainUNet(1, 2, (4, 8, 16))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert all(m.bias is not None and not m.bias.any() for m in convolutions), "biases, and all zero at first"
    assert [m.kernel_size[0] for m in convolutions].count(3) == 2 * 3 + 2 * 2
    assert all(m.affine and m.eps == 1e-5 for m in net.modules() if isinstance(m, nn.InstanceNorm3d))
    assert {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)} == {0.01}
    wide = PlainUNet(1, 2, (64, 64, 64)).encoder[1][0].conv.weight  # He: variance 2 / (fan_in (1 + slope^2))
    assert float(wide.detach().var()) == pytest.approx(2 / (64 * 27 * (1 + 1e-4)), rel=0.02)
    out = net(torch.randn(1, 1, 16, 8, 8))
    assert [tuple(logits.shape[2:]) for logits in out.logits] == [(16, 8, 8), (8, 4, 4)]
    assert out.first.shape == (1, 4, 16, 8, 8)
    assert out.bottom.shape == (1, 16, 4, 2, 2)
    assert torch.equal(net(torch.ones(1, 1, 16, 8, 8), coarse=False).logits[0], net(torch.ones(1, 1, 16, 8, 8)).logits[0])
