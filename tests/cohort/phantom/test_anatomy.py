from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from workbench.cohort.phantom.anatomy import Box, template
from workbench.cohort.phantom.options import PhantomOptions

OPTIONS = PhantomOptions()


def test_tissue_fractions_fill_the_brain_and_no_more() -> None:
    head = template()
    total = head.grey + head.white
    assert total.min() >= 0
    assert total.max() <= 1.001
    assert total[head.brain == 0].max() < 1e-6
    assert head.brain.sum() / 1000 == pytest.approx(1886, abs=60)
    assert (head.white > 0.5).sum() < (head.grey > 0.5).sum()


def test_resampling_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    source = Box((9, 11, 8), 4.0, (-10.0, 3.0, 5.0))
    target = Box((18, 17, 14), 1.7, (-8.0, 4.5, 6.0))
    field = rng.random(source.shape).astype(np.float32)
    index = np.stack(np.broadcast_arrays(*[(p - o) / 4.0 for p, o in zip(target.points(), source.origin, strict=True)]))
    assert np.allclose(target.resample(field, source), ndimage.map_coordinates(field, index, order=1, mode="nearest"), atol=1e-5)
    beyond = Box((3, 3, 3), 2.0, (500.0, 3.0, 5.0))
    assert beyond.resample(field, source).max() == 0
    assert np.allclose(beyond.resample(field, source, outside="nearest")[:, 0, 0], field[-1, 0, 0])
