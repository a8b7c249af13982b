"""The encoder of BrainFM-MRI: its norms, buckets, tokens and places."""

from __future__ import annotations

import pytest
import torch
from brainfm_cases import SIZES, build, pretrain
from torch import nn
from torch.nn import functional as F

from workbench.errors import ParameterError
from workbench.models.brainfm.encoder import Attention, ConditionalLayerNorm, buckets, sinusoids


@pytest.mark.parametrize("method", ["brainfm", "brainfm_pretrain"])
def test_conditional_layer_norm_is_layer_norm_in_a_built_model(method: str) -> None:
    """A global initialisation that goes over all linear layers undid this in the published code."""
    model = build() if method == "brainfm" else pretrain()
    norms = [part for part in model.modules() if isinstance(part, ConditionalLayerNorm)]
    assert len(norms) == 2 * SIZES["depth"]  # type: ignore[operator]
    tokens, condition = torch.randn(2, 5, 24) * 3 + 1, torch.randn(4, 24)
    kinds = torch.tensor([[0, 1, 2, 3, 0], [3, 3, 2, 1, 0]])
    for norm in norms:
        torch.testing.assert_close(norm(tokens, condition, kinds), F.layer_norm(tokens, (24,)), rtol=0, atol=0)
    assert all(bool(part.weight.any()) for part in model.encoder.modules() if isinstance(part, nn.Linear) and part not in
               {linear for norm in norms for linear in (norm.gamma, norm.beta)})  # fmt: skip


def test_conditional_layer_norm_is_its_equation() -> None:
    norm = ConditionalLayerNorm(6)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    tokens, condition = torch.randn(1, 3, 6), torch.randn(2, 6)
    found = norm(tokens, condition, torch.tensor([[1, 0, 1]]))
    for place, kind in enumerate((1, 0, 1)):
        h, e = tokens[0, place], condition[kind]
        normed = (h - h.mean()) / torch.sqrt(h.var(unbiased=False) + 1e-5)
        wanted = (1 + norm.gamma.weight @ e + norm.gamma.bias) * normed + norm.beta.weight @ e + norm.beta.bias
        torch.testing.assert_close(found[0, place], wanted)


def test_plain_layer_norm_knows_no_sequence() -> None:
    tokens, kinds = torch.randn(1, 4, 24) * 3 + 1, torch.tensor([[0, 1, 1, 0]])
    for norm in ("layer", "conditional"):
        encoder = build(norm=norm).encoder
        for name, parameter in encoder.blocks.named_parameters():
            if "norm" in name:
                nn.init.normal_(parameter)
        same = torch.equal(*(encoder(tokens, torch.full((2, 24), value), kinds)[0] for value in (0.0, 1.0)))
        assert same == (norm == "layer")
    (first,) = {type(part) for part in build(norm="layer").encoder.modules() if isinstance(part, nn.LayerNorm)}
    torch.testing.assert_close(first(24)(tokens, tokens[0], kinds), F.layer_norm(tokens, (24,)))


def test_buckets_gather_what_each_sample_has() -> None:
    present = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]]).bool()
    found = list(buckets(present))
    assert [bucket.samples.tolist() for bucket in found] == [[1], [0, 2], [3]]
    assert found[1].channels.tolist() == [[0, 2], [1, 3]]
    with pytest.raises(ParameterError, match="sample 1 of the batch has no sequence"):
        list(buckets(torch.tensor([[1, 0], [0, 0]]).bool()))


def test_tokens_and_volumes_are_inverse_and_places_end_with_the_table() -> None:
    encoder = build().encoder
    volume = torch.arange(2 * 16 * 24 * 8.0).view(2, 16, 24, 8)
    patches = encoder.patches(volume)
    assert patches.shape == (2, 2 * 3 * 1, 512)
    assert torch.equal(patches[0, 1].view(8, 8, 8), volume[0, :8, 8:16, :8])
    assert torch.equal(encoder.volumes(patches, (2, 3, 1)), volume)
    places = encoder.places((2, 3, 1)).view(2, 3, 1, 24)
    assert torch.equal(places[1, 1, 0], encoder.positions[1, 1, 0])
    assert not bool(places[:, 2].any()), "beyond the table there is no position"


def test_sinusoids_name_every_place() -> None:
    table = sinusoids(5, 24).view(-1, 24)
    assert len(torch.unique(table.round(decimals=4), dim=0)) == 125
    assert torch.equal(build(positions_start="sinusoidal").encoder.positions.detach().view(-1, 24), sinusoids(2, 24).view(-1, 24))


def test_dropout_is_off_in_evaluation() -> None:
    """MONAI's block drops attention weights in evaluation, too, with the fast attention."""
    attention = Attention(24, 2, 0.5).eval()
    tokens = torch.randn(2, 9, 24)
    assert torch.equal(attention(tokens, tokens), attention(tokens, tokens))
    attention.train()
    assert not torch.equal(attention(tokens, tokens), attention(tokens, tokens))
