"""SegResNet: MONAI's network as the paper has it."""

from __future__ import annotations

import torch
from torch import nn

from workbench.models.registry import create_model


def test_features_after_the_first_convolution_are_dropped_in_training_only() -> None:
    images, present = torch.randn(1, 1, 16, 16, 16), torch.ones(1, 1, dtype=torch.bool)
    model = create_model("segresnet", modalities=("t1",), width=8, stem_dropout=0.5)
    with torch.no_grad():
        drawn = [model.train()(images, present).segmentation for _ in range(2)]
        still = [model.eval()(images, present).segmentation for _ in range(2)]
    assert not torch.equal(*drawn)
    assert torch.equal(*still)
    plain = create_model("segresnet", modalities=("t1",), width=8, stem_dropout=0)
    assert not [part for part in plain.modules() if isinstance(part, nn.Dropout3d)]


def test_features_are_normalised_in_eight_groups_and_read_for_maps_at_an_eighth() -> None:
    model = create_model("segresnet", modalities=("t1",), width=8).eval()
    assert {part.num_groups for part in model.modules() if isinstance(part, nn.GroupNorm)} == {8}
    sides = []
    for name in model.cam_layers():
        model.get_submodule(name).register_forward_hook(lambda module, given, output: sides.append(output.shape[-1]))
    with torch.no_grad():
        model(torch.randn(1, 1, 32, 32, 32), torch.ones(1, 1, dtype=torch.bool))
    assert sorted(sides) == [4, 8]
