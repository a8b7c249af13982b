"""Pretext tasks of self-supervision on volumes, and their losses: quarter turns, corrupted cuboids, contrast of two views.

As in the self-supervised Swin UNETR (Tang et al., CVPR 2022, arXiv 2111.14791) that BrainSegFounder builds on. Random draws come
from torch's global generators: seed them for a repeatable draw.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TURN_AXES = (2, 3)
"""Axes of a volume (C, X, Y, Z) that a quarter turn exchanges: Y and Z, the sagittal plane."""


def draw_turns(count: int, device: torch.device) -> Tensor:
    """(count,) long: a number of quarter turns, 0 to 3, each equally likely."""
    return torch.randint(0, 4, (count,)).to(device)


def quarter_turns(volumes: Tensor, turns: Tensor) -> Tensor:
    """Turn each volume of (B, C, X, Y, Y) by its number of quarter turns in the Y-Z plane."""
    return torch.stack([torch.rot90(volume, int(turn), TURN_AXES) for volume, turn in zip(volumes, turns.tolist(), strict=True)])


def corrupt(
    volumes: Tensor, share: float = 0.3, smallest: float = 0.05, largest: float = 0.25, tries: int = 1000
) -> tuple[Tensor, Tensor]:
    """Fill random cuboids with noise or with the same place of another sample.

    Args:
        volumes: (B, M, X, Y, Z); a channel that is all zeros (an absent modality) stays so.
        share: cuboids are laid until the next one would take their volumes above this share of the voxels; they may overlap.
        smallest: shortest side, as a share of the volume's side.
        largest: longest side.
        tries: upper limit of cuboids.

    Returns:
        The corrupted volumes, and (B, 1, X, Y, Z) bool: where they are corrupted. Noise is Gaussian, brought to the channel's own
        range between smallest and largest value; another sample fills half of the cuboids where there is another.
    """
    count, shape = len(volumes), volumes.shape[2:]
    noise = torch.randn_like(volumes)
    flat = noise.flatten(2)
    unit = (noise - flat.amin(2)[..., None, None, None]) / (flat.amax(2) - flat.amin(2)).clamp_min(1e-6)[..., None, None, None]
    values = volumes.flatten(2)
    low, high = values.amin(2)[..., None, None, None], values.amax(2)[..., None, None, None]
    noise = low + unit * (high - low)
    others = (torch.arange(count) + torch.randint(1, max(count, 2), (count,))) % count
    corrupted, hidden = volumes.clone(), torch.zeros((count, 1, *shape), dtype=torch.bool, device=volumes.device)
    for index in range(count):
        draws = torch.rand(tries, 7).tolist()
        taken = 0.0
        for draw in draws:
            sides = [max(1, round((smallest + u * (largest - smallest)) * n)) for u, n in zip(draw[:3], shape, strict=True)]
            taken += sides[0] * sides[1] * sides[2] / (shape[0] * shape[1] * shape[2])
            if taken > share:
                break
            starts = [int(u * (n - side + 1)) for u, n, side in zip(draw[3:6], shape, sides, strict=True)]
            x, y, z = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
            filling = volumes[int(others[index])] if draw[6] < 0.5 and count > 1 else noise[index]
            corrupted[index, :, x, y, z] = filling[:, x, y, z]
            hidden[index, :, x, y, z] = True
    there = (volumes != 0).flatten(2).any(2)[:, :, None, None, None]
    return torch.where(there, corrupted, torch.zeros((), dtype=volumes.dtype, device=volumes.device)), hidden


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.5) -> Tensor:
    """Normalised temperature-scaled cross-entropy of two views (Chen et al., SimCLR, arXiv 2002.05709).

        l(i, j) = -log( exp(s_ij / tau) / sum over k != i of exp(s_ik / tau) ),   s = cosine similarity

    Each of the 2 B projections has its other view as positive and the 2 B - 2 projections of the other samples as negatives; a
    batch of one has no negatives and loses nothing.

    Args:
        first: (B, D) projections of one view.
        second: (B, D) of the other.
        temperature: tau.
    """
    both = F.normalize(torch.cat([first, second]), dim=1)
    similarity = both @ both.T / temperature
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    positive = torch.arange(len(both), device=both.device).roll(len(first))
    return F.cross_entropy(similarity.masked_fill(itself, float("-inf")), positive)


def masked_l1(values: Tensor, target: Tensor, where: Tensor) -> Tensor:
    """Mean absolute difference over the voxels of `where` (broadcast); zero, with the graph kept, where there is none."""
    weight = where.expand_as(values).to(values.dtype)
    return ((values - target).abs() * weight).sum() / weight.sum().clamp_min(1)
