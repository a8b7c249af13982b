"""The decoder of BrainFM-MRI's pretraining."""

from __future__ import annotations

import pytest
import torch
from brainfm_masks import build, images
from torch import nn

from workbench.models.brainfm.facts import BrainFMPretrainOptions


@pytest.mark.parametrize("decoder", ["published", "cross_attention", "light"])
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


@pytest.mark.parametrize("decoder", ["published", "cross_attention", "light"])
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
    positions = torch.randn(2, 5, 24)
    whole = found(visible, shown, where, positions)
    torch.testing.assert_close(whole[0, 4], visible[0, 1] + positions[0, 4], msg="a visible token: its position alone")
    torch.testing.assert_close(whole[0, 2], found.mask + where[0, 2])


def test_published_gives_the_sequence_to_masked_tokens_alone_and_computes_relu() -> None:
    volumes, present, given = images(2), torch.ones(2, 4).bool(), {}
    for decoder in ("published", "cross_attention"):
        model = build(decoder=decoder)
        with torch.no_grad():
            model.decoder.mask.zero_()
            model.encoder.positions.zero_()
        called = []
        model.decoder.laid_out = lambda *values, into=called: into.append(values) or torch.zeros_like(values[2])  # type: ignore
        model.reconstruct(volumes, present, 0.0)
        given[decoder] = called[0][3]
        hidden = model.decoder.layers[0].mlp.fn(torch.tensor([-1.0, 1.0]))
        assert (float(hidden[0].detach()) == 0) == (decoder == "published")
    assert given["cross_attention"] is None
    assert not bool(given["published"].any()), "no position here, and no sequence"


def test_a_published_decoder_of_an_earlier_run_is_cross_attention() -> None:
    """Its record names the decoder, and not what `published` stands for."""
    options = BrainFMPretrainOptions(**BrainFMPretrainOptions.unsaid(), decoder="published", regularisation="dev")
    assert (options.decoder_form, options.published_as) == ("cross_attention", "earlier")
    assert "published_as" not in options.without_later(options.model_dump())
    fresh = BrainFMPretrainOptions(decoder="published")
    assert fresh.decoder_form == "published"
    assert fresh.without_later(fresh.model_dump())["published_as"] == "released"
    light = BrainFMPretrainOptions(decoder="light")
    assert "published_as" not in light.without_later(light.model_dump()), "nothing of it is published: the id stays"
