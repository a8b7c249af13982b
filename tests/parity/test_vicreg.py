"""The variance and covariance terms against VICReg's own code (facebookresearch/vicreg).

Its variance is half the sum over two branches, its covariance the sum over both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from public_arrays import Reference

from workbench.models.brainfm.pretext import covariance_term, variance_term


def test_terms(arrays: Callable[[str], Reference]) -> None:
    vicreg = arrays("vicreg")
    x, y, small = (vicreg.inputs[name] for name in ("x", "y", "small"))
    for name, (first, second) in {"pair": (x, y), "same": (x, x), "small": (small, small)}.items():
        variance = (variance_term(first) + variance_term(second)) / 2
        covariance = covariance_term(first) + covariance_term(second)
        invariance = (first - second).square().mean()
        vicreg.check(f"invariance_variance_covariance_{name}", torch.stack([invariance, variance, covariance]))
    total = (
        25 * (x - y).square().mean() + 25 * (variance_term(x) + variance_term(y)) / 2 + covariance_term(x) + covariance_term(y)
    )
    vicreg.check("total_25_25_1", total[None])
