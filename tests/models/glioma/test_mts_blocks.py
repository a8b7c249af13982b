"""CMD and its attention."""

from __future__ import annotations

import pytest
import torch
from mts_cases import images

from workbench.models.glioma.mts_blocks import CrossModalityDifferential, SpatialAttention


@pytest.mark.parametrize("form", ["v1", "cbam"])
def test_attention_cannot_suppress_as_published_and_can_when_corrected(form: str) -> None:
    lowest = {}
    for published in (True, False):
        torch.manual_seed(0)
        cmd = CrossModalityDifferential(16, 2.0, form, published)
        if cmd.channel is not None:  # look at the spatial branch alone
            cmd.channel.forward = lambda difference: torch.ones_like(difference[:, :, :1, :1, :1])  # type: ignore[method-assign]
        with torch.no_grad():
            features, attention = cmd(*images())
        assert features.shape == (2, 32)
        assert bool((attention <= 1).all())
        lowest[published] = float(attention.min())
    assert lowest[True] == pytest.approx(0.5)
    assert lowest[False] < 0.4


def test_equal_images_differ_by_nothing_with_the_shared_convolution_only() -> None:
    t2, _ = images()
    torch.manual_seed(0)
    for form, nothing in (("cbam", True), ("v1", False)):
        difference, f_t2, f_flair = CrossModalityDifferential(8, 2.0, form, False).difference(t2, t2)
        assert bool((difference == 0).all()) == nothing
        assert f_t2.shape == (2, 8, 6, 6, 6)
        assert torch.equal(f_t2, f_flair) == nothing


def test_gamma_amplifies_the_difference_and_nothing_else() -> None:
    torch.manual_seed(0)
    one, three = (CrossModalityDifferential(8, gamma, "v1", False) for gamma in (1.0, 3.0))
    three.load_state_dict(one.state_dict())
    (d1, t1, _), (d3, t3, _) = one.difference(*images()), three.difference(*images())
    torch.testing.assert_close(3 * d1, d3)
    assert torch.equal(t1, t3)


def test_features_are_the_attended_images_pooled() -> None:
    torch.manual_seed(0)
    cmd = CrossModalityDifferential(4, 2.0, "v1", False)
    features, attention = cmd(*images())
    _, f_t2, f_flair = cmd.difference(*images())
    expected = torch.cat([(f * (1 + attention)).mean((2, 3, 4)) for f in (f_t2, f_flair)], 1)
    torch.testing.assert_close(features, expected)


def test_spatial_attention_reads_the_channels_maximum_and_mean() -> None:
    attention = SpatialAttention(published=False)
    difference = torch.randn(1, 6, 5, 5, 5)
    torch.testing.assert_close(attention(difference), attention(difference[:, torch.randperm(6)]))
