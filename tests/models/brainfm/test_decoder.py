"""The decoder of BrainFM-MRI's pretraining."""

from __future__ import annotations

import pytest
import torch
from brainfm_masks import build, images
from torch import nn


@pytest.mark.parametrize("decoder", ["published", "light"])
def test_what_is_masked_is_not_seen(decoder: str) -> None:
    model, volumes = build(decoder=decoder), images(2)
    present = torch.ones(2, 4).bool()
    torch.manual_seed(0)
    first = model.reconstruct(volumes, present, 0.3)
    torch.manual_seed(0)
    again = model.reconstruct(torch.where(first["masked"], 9.0, volumes), present, 0.3)
    assert torch.equal(first["reconstruction"], again["reconstruction"])
    torch.manual_seed(0)
    changed = model.reconstruct(torch.where(first["masked"], volumes, 9.0), present, 0.3)
    assert not torch.allclose(first["reconstruction"], changed["reconstruction"])


@pytest.mark.parametrize("decoder", ["published", "light"])
def test_the_decoder_lays_visible_tokens_where_they_were_and_mask_tokens_elsewhere(decoder: str) -> None:
    found = build(decoder=decoder).decoder
    assert (found.layers[0].cross is None) == (decoder == "light")
    found.layers, found.norm, found.voxels, found.narrow = nn.ModuleList(), nn.Identity(), nn.Identity(), nn.Identity()
    visible, shown, where = torch.randn(2, 2, 24), torch.tensor([[1, 4], [0, 3]]), torch.randn(2, 5, 24)
    whole = found(visible, shown, where)
    for sample in range(2):
        for place in range(5):
            there = shown[sample].tolist()
            token = visible[sample, there.index(place)] if place in there else found.mask
            torch.testing.assert_close(whole[sample, place], token + where[sample, place])
