"""Masking of tokens, and the variance and covariance terms, of BrainFM-MRI's pretraining."""

from __future__ import annotations

import torch
from torch import Tensor

_DEV_BATCHES = 139_000  # 13,900 sessions in batches of 4, 40 epochs: what the published steps are shares of


def keep_count(tokens: int, mask_ratio: float) -> int:
    """Visible tokens of a case with so many: round((1 - ratio) x tokens), at least 1 and not all."""
    return min(max(1, round((1 - mask_ratio) * tokens)), tokens - 1)


def draw_visible(count: int, sequences: int, tokens: int, keep: int, imputation: float, device: torch.device) -> Tensor:
    """(count, keep) long, ascending: places of the visible tokens among `sequences` x `tokens`, each set equally likely.

    With probability `imputation` a sample with two or more sequences has one of them masked entirely; as many tokens stay
    visible. Draws come from torch's global CPU generator, so that the masks of a step are the same on every device.
    """
    noise = torch.rand(count, sequences, tokens)
    whole, which = torch.rand(count) < imputation, torch.randint(0, sequences, (count,))
    if sequences > 1:
        noise[whole, which[whole]] = float("inf")
    return noise.flatten(1).argsort(1)[:, :keep].sort(1).values.to(device)


def variance_term(tokens: Tensor, *, biased: bool = False) -> Tensor:
    """mean over features of ReLU(1 - std), std = sqrt(var + 1e-4), over all N tokens of the batch (N, D).

    The variance divides by N - 1, as VICReg's own code (Bardes et al., ICLR 2022); `biased`: by N, as BrainFM-MRI's.

    The paper prints the epsilon outside the root; the code has it inside, where the gradient at var = 0 is finite.
    """
    return torch.relu(1 - torch.sqrt(tokens.float().var(0, correction=0 if biased else 1) + 1e-4)).mean()


def covariance_term(tokens: Tensor) -> Tensor:
    """(1 / D) x sum over i != j of Cov_ij^2 of the features of (N, D) tokens."""
    covariance = torch.cov(tokens.float().T)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / tokens.shape[1]


def regularisation_weights(progress: float, preset: str, warmup: float = 0.125) -> tuple[float, float]:
    """Weights of the variance and the covariance term when `progress` (0 to 1) of the run is done.

    paper   0.1 and 0.003, rising linearly from 0 over the first share (5 of 40 epochs)
    dev     1.0 and 0.03: off for 10,000 steps, rising for 4,000, times 0.7 after 60 % of the run; the published step numbers
            are taken as shares of its 139,000 batches (own choice: other runs have other lengths)
    none    0 and 0 (the published main branch)
    """
    if preset == "none":
        return 0.0, 0.0
    if preset == "paper":
        factor = min(1.0, progress / warmup)
        return 0.1 * factor, 0.003 * factor
    off, ramp = 10_000 / _DEV_BATCHES, 4_000 / _DEV_BATCHES
    factor = min(1.0, max(0.0, (progress - off) / ramp)) * (0.7 if progress > 0.6 else 1.0)
    return 1.0 * factor, 0.03 * factor
