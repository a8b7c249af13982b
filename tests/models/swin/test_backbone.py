"""The Swin backbone: BrainSegFounder's sizes, and the two forms of patch merging."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets.swin_unetr import PatchMerging, SwinUNETR

from workbench.models.swin.backbone import LEGACY_ORDER, LegacyPatchMerging, SwinBackbone


@pytest.fixture
def meta_backbone(meta: torch.device) -> Any:
    """A backbone at the paper's size without filling its weights."""

    def make(encoder: str) -> SwinBackbone:
        with meta:
            return SwinBackbone(4, 4, 48, 7, True, encoder)

    return make


@pytest.mark.parametrize(("encoder", "count"), [("tiny", 62_191_990), ("small", 64_076_902), ("big", 69_731_638)])
def test_brainsegfounders_three_sizes(meta_backbone: Any, encoder: str, count: int) -> None:
    assert sum(parameter.numel() for parameter in meta_backbone(encoder).parameters()) == count


def backbone(merging: str) -> SwinBackbone:
    torch.manual_seed(0)
    return SwinBackbone(2, 2, 12, 4, False, merging=merging).eval()


@torch.no_grad()
def test_both_mergings_have_the_same_keys_and_other_outputs() -> None:
    legacy, current = backbone("legacy"), backbone("current")
    missing, unexpected = legacy.load_state_dict(current.state_dict())
    assert not missing
    assert not unexpected
    images = torch.randn(1, 2, 64, 64, 64, generator=torch.Generator().manual_seed(1))
    old, new = legacy(images), current(images)
    assert float((old - new).abs().max()) > 1e-2
    torch.testing.assert_close(new, SwinUNETR.forward(current, images), rtol=1e-4, atol=1e-4)
    ours, theirs = legacy.encode(images), current.encode(images)
    assert torch.equal(ours[0], theirs[0]), "the first state comes before any merging"
    assert not torch.allclose(ours[1], theirs[1], atol=1e-2)


@torch.no_grad()
def test_legacy_merging_reads_two_tokens_twice_and_two_never() -> None:
    assert len(set(LEGACY_ORDER)) == 6
    torch.manual_seed(0)
    legacy, current = LegacyPatchMerging(3), PatchMerging(3)
    current.load_state_dict(legacy.state_dict())
    for first in ((x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)):
        tokens = torch.zeros(1, 4, 4, 4, 3)
        tokens[:, first[0] :: 2, first[1] :: 2, first[2] :: 2] = torch.tensor([1.0, 2.0, -1.0])
        read = not torch.equal(legacy(tokens), legacy(torch.zeros_like(tokens)))
        assert read == (first not in {(1, 1, 0), (0, 1, 1)})
        assert not torch.equal(current(tokens), current(torch.zeros_like(tokens)))
    assert legacy(torch.zeros(1, 5, 3, 4, 3)).shape == (1, 3, 2, 2, 6)
