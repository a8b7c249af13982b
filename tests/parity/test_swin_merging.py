"""Swin's patch merging as in MONAI up to 1.4, alone and in a whole encoder, and as in MONAI's later `mergingv2`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinTransformer
from public_arrays import Reference, third
from torch import nn

from workbench.models.swin.backbone import LegacyPatchMerging

FORMS = {"legacy": LegacyPatchMerging, "mergingv2": PatchMergingV2}


@pytest.fixture(scope="module")
def swin(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("swin_merging")


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_merging(swin: Reference, form: str) -> None:
    merging = FORMS[form](6, nn.LayerNorm, 3)
    merging.load_state_dict(swin.part("merging."))
    swin.check(f"{form}_merged", merging(swin.inputs["tokens"]))
    swin.check(f"{form}_merged_odd", merging(swin.inputs["odd_tokens"]))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_encoder(swin: Reference, form: str) -> None:
    encoder = SwinTransformer(
        in_chans=2, embed_dim=6, window_size=(4, 4, 4), patch_size=(2, 2, 2), depths=(2, 2, 2, 2), num_heads=(3, 6, 12, 24),
        spatial_dims=3, downsample=FORMS[form],
    ).eval()  # fmt: skip
    missing, unexpected = encoder.load_state_dict(swin.part("transformer."), strict=False)
    assert not unexpected
    assert all(name.endswith("relative_position_index") for name in missing), "a constant of each module"
    for normalize, ending in ((False, ""), (True, "_normalised")):
        for level, state in enumerate(encoder(swin.inputs["images"], normalize)):
            swin.check(f"{form}_state{level}{ending}", third(state))
