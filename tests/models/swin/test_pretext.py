"""Quarter turns, corrupted cuboids and the losses of the Swin pretraining."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from workbench.models.swin.pretext import corrupt, masked_l1, nt_xent, quarter_turns


def test_quarter_turns_exchange_y_and_z_and_four_are_none() -> None:
    volume = torch.arange(2 * 3 * 4 * 4.0).view(1, 2, 3, 4, 4).expand(4, -1, -1, -1, -1)
    turned = quarter_turns(volume, torch.tensor([0, 1, 2, 3]))
    assert torch.equal(turned[0], volume[0])
    assert torch.equal(turned[1][:, :, 0, 0], volume[1][:, :, 0, 3]), "x stays, the first corner comes from the last column"
    assert torch.equal(turned[2], volume[2].flip(2, 3))
    again = turned[3:]
    for _ in range(5):
        again = quarter_turns(again, torch.tensor([1]))
    assert torch.equal(again[0], volume[0])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_cuboids_take_up_to_their_share_and_only_they_change(share: float) -> None:
    torch.manual_seed(0)
    volumes = torch.randn(3, 2, 40, 40, 40) + 5
    corrupted, hidden = corrupt(volumes, share)
    assert hidden.shape == (3, 1, 40, 40, 40)
    covered = hidden.float().mean((1, 2, 3, 4))
    assert bool((covered <= share).all())
    assert bool((covered >= 0.6 * share).all()), "cuboids overlap, but not by that much"
    assert torch.equal(corrupted[~hidden.expand_as(volumes)], volumes[~hidden.expand_as(volumes)])
    inside = hidden.expand_as(volumes)
    assert bool((corrupted[inside] != volumes[inside]).all())
    low, high = volumes.amin((2, 3, 4)), volumes.amax((2, 3, 4))
    assert bool((corrupted.amin((2, 3, 4)) >= torch.stack([low.amin(0)] * 3) - 1e-4).all()), "noise spans the channel's range"
    assert bool((corrupted.amax((2, 3, 4)) <= torch.stack([high.amax(0)] * 3) + 1e-4).all())


def test_half_of_the_cuboids_hold_another_samples_voxels() -> None:
    torch.manual_seed(1)
    volumes = torch.stack([torch.full((1, 40, 40, 40), 1.0), torch.full((1, 40, 40, 40), 2.0)])  # no range: noise is the value
    corrupted, hidden = corrupt(volumes, 0.3)
    swapped = (corrupted != volumes).float().sum() / hidden.float().sum()
    assert 0.2 < float(swapped) < 0.8
    alone, _ = corrupt(volumes[:1], 0.3)
    assert torch.equal(alone, volumes[:1]), "a batch of one has no other sample"


def test_an_absent_sequence_stays_absent() -> None:
    torch.manual_seed(0)
    volumes = torch.randn(2, 2, 32, 32, 32)
    volumes[1, 0] = 0
    corrupted, _ = corrupt(volumes, 0.3)
    assert not bool(corrupted[1, 0].any())
    assert bool((corrupted[0] != volumes[0]).any())


def test_nt_xent_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    both = torch.cat([first, second])
    terms = []
    for i in range(6):
        j = (i + 3) % 6
        similar = [float(torch.exp(F.cosine_similarity(both[i], both[k], dim=0) / 0.5)) for k in range(6)]
        terms.append(-torch.log(torch.tensor(similar[j] / (sum(similar) - similar[i]))))
    assert float(nt_xent(first, second, 0.5)) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-6)
    assert float(nt_xent(first, first)) < float(nt_xent(first, second))
    assert float(nt_xent(first[:1], second[:1])) == 0


def test_l1_counts_what_is_there() -> None:
    values, target = torch.zeros(2, 2, 2, 2, 2), torch.ones(2, 2, 2, 2, 2)
    target[0, 1] = 100.0
    there = torch.tensor([[True, False], [True, True]])[:, :, None, None, None]
    assert float(masked_l1(values, target, there)) == 1.0
    nothing = masked_l1(values.requires_grad_(), target, there & False)
    assert nothing.requires_grad
    assert float(nothing.detach()) == 0
