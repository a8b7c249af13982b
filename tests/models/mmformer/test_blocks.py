"""Encoder, Transformer and the two layouts of tokens of mmFormer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.models.mmformer.blocks import Encoder, Transformer, tokens_read, tokens_to_volume

GIVEN = ("flair", "t1c", "t1", "t2")


def test_encoder_blocks_are_the_public_codes() -> None:
    encoder = Encoder(8)
    states = encoder(torch.randn(1, 1, 32, 48, 32))
    assert [tuple(state.shape[1:]) for state in states] == [
        (8, 32, 48, 32), (16, 16, 24, 16), (32, 8, 12, 8), (64, 4, 6, 4), (128, 2, 3, 2)
    ]  # fmt: skip
    kinds = [type(module) for module in encoder.pair[0][0]]  # type: ignore[index]
    assert kinds == [nn.InstanceNorm3d, nn.LeakyReLU, nn.Conv3d], "norm and activation come before the convolution"
    assert {m.negative_slope for m in encoder.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert {m.affine for m in encoder.modules() if isinstance(m, nn.InstanceNorm3d)} == {False}
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv3d)]
    assert {m.padding_mode for m in convolutions} == {"reflect"}
    assert len(convolutions) == 15
    norms = [m.num_features for m in encoder.modules() if isinstance(m, nn.InstanceNorm3d)]
    assert norms[:4] == [8, 16, 32, 64], "of the channels that come in: the public code warns of the other number"


def test_positions_are_added_again_before_every_layer() -> None:
    transformer = Transformer(8, 3, 2, 8, 0.0)
    for name, parameter in transformer.named_parameters():
        if "project" in name or "linear2" in name:
            nn.init.zeros_(parameter)  # each layer then adds nothing but the positions
    tokens, positions = torch.randn(2, 5, 8), torch.randn(1, 5, 8)
    found, _ = transformer(tokens, positions)
    torch.testing.assert_close(found, tokens + 3 * positions)


def marked(modalities: int, tokens: int) -> Tensor:
    """Each token says 'sequence x 1000 + number'."""
    return (torch.arange(modalities)[:, None] * 1000 + torch.arange(tokens))[None, :, :, None].float()


def test_aligned_gives_a_voxel_its_own_token_of_every_sequence() -> None:
    volume = tokens_to_volume(marked(4, 512), (8, 8, 8), "aligned")
    assert volume.shape == (1, 4, 8, 8, 8)
    for x, y, z in ((0, 0, 0), (0, 0, 1), (3, 5, 7), (7, 7, 7)):
        v = 64 * x + 8 * y + z
        assert volume[0, :, x, y, z].tolist() == [v, 1000 + v, 2000 + v, 3000 + v]


def test_published_gives_a_voxel_four_neighbouring_tokens_of_one_sequence() -> None:
    volume = tokens_to_volume(marked(4, 512), (8, 8, 8), "published").flatten(2)[0].T  # (voxels, 4)
    for v in range(512):
        first = 1000 * (v // 128) + 4 * (v % 128)
        assert volume[v].tolist() == [first, first + 1, first + 2, first + 3]
    assert set((volume[:128] // 1000).flatten().tolist()) == {0}, "voxels 0 to 127 see the first sequence only"


def test_features_of_a_token_stay_together_in_both_layouts() -> None:
    """The public arithmetic on a plain array: (B, M N, D) viewed as (B, x, y, z, M D)."""
    tokens = torch.randn(2, 3, 12, 5)
    found = tokens_to_volume(tokens, (2, 3, 2), "published")
    assert torch.equal(found, tokens.reshape(2, 36, 5).view(2, 2, 3, 2, 15).permute(0, 4, 1, 2, 3))
    aligned = tokens_to_volume(tokens, (2, 3, 2), "aligned")
    assert torch.equal(aligned[1, 5:10, 1, 2, 0], tokens[1, 1, 10])


def test_the_table_for_readers_says_the_same() -> None:
    table = tokens_read(GIVEN, 512, (0, 128))
    assert table.loc[128, "published"] == "t1c 0, t1c 1, t1c 2, t1c 3"
    assert table.loc[128, "aligned"] == "flair 128, t1c 128, t1 128, t2 128"
