"""Sub-regions of a tumour: they nest, at any spacing."""

from __future__ import annotations

import numpy as np
from grown_heads import drawn

from workbench.cohort.phantom.subregions import soft
from workbench.labels import ED, ET, NCR


def test_sub_regions_of_a_ring_nest() -> None:
    shares = {}
    for spacing in (1.5, 2.0, 3.0):
        labels = drawn("ring", spacing)
        shares[spacing] = [(labels == value).sum() / (labels > 0).sum() for value in (NCR, ED, ET)]
    assert np.allclose(shares[1.5], shares[2.0], atol=0.03)
    assert np.allclose(shares[1.5], shares[3.0], atol=0.05)
    assert min(shares[1.5]) > 0.05
    labels = drawn("ring", 1.5)
    beside = np.zeros_like(labels, bool)
    for axis in range(3):
        for step in (-1, 1):
            beside |= np.roll(labels == NCR, step, axis)
    assert (beside & (labels == 0)).sum() < 0.05 * (beside & (labels == ET)).sum()
    assert (beside & (labels == ET)).sum() > 5 * (beside & (labels == ED)).sum()


def test_a_soft_border_keeps_the_volume_and_does_not_depend_on_the_spacing() -> None:
    profiles = {}
    for h in (0.5, 1.0):
        mask = np.zeros((round(40 / h), 5, 5), bool)
        mask[round(10 / h) : round(30 / h)] = True
        fractions = soft(mask, h)
        assert fractions.sum() == np.float32(mask.sum())
        assert (fractions.min(), fractions.max()) == (0.0, 1.0)
        profiles[h] = ((fractions[:, 2, 2] > 0.05) & (fractions[:, 2, 2] < 0.95)).sum() * h
    assert abs(profiles[0.5] - profiles[1.0]) <= 1.0, "the border is as wide in mm"
    assert not soft(np.zeros((4, 4, 4), bool), 1.0).any()
