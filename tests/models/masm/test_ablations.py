"""Two ablations of MASM: mixers whose blocks are the identity, and sequences fused early."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from masm_cases import GIVEN, build, noise, shown
from torch import nn

from workbench.errors import ParameterError
from workbench.models.masm.tokens import MaskedAttention

BACKBONES: dict[str, tuple[dict[str, Any], int]] = {
    "unet": ({}, 16),
    "unetr": ({"backbone": "unetr", "token_width": 24}, 16),
    "swin_unetr": ({"backbone": "swin_unetr", "width": 12}, 64),
}


def test_identity_takes_the_blocks_and_keeps_decisions_and_all_other_first_weights() -> None:
    paper, ablated = build(), build(identity_blocks=True)
    assert not any(isinstance(module, MaskedAttention) for module in ablated.modules())
    before, after = dict(paper.named_parameters()), dict(ablated.named_parameters())
    parts = ("positions.", "norm.", "attention.", "mlp.")
    gone = {n for n in before if n.startswith("shifted.") or (n.startswith("aware.") and n.split(".", 2)[2].startswith(parts))}
    assert set(before) - set(after) == gone
    assert {n.split(".")[2] for n in after if n.startswith("aware.")} == {"decision"}
    assert set(after) <= set(before)
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_without_blocks_dropped_places_are_refilled_and_nothing_else_changes() -> None:
    model = build(identity_blocks=True, seed=2).eval()
    images, present = noise(2, 4, 8, 8, 8), torch.tensor([[True] * 4, [True, False, True, True]])
    with torch.no_grad():
        for module in model._aware_modules():  # so that about half is kept
            assert module.decision is not None
            module.decision.logits[-1].bias.zero_()
            module.decision.logits[0].weight.mul_(8)
        levels = model.encode(images, present)
        mixed, kept, asked = model.mix(levels, present)
    assert asked is None
    assert torch.equal(mixed[-1], levels[-1]), "Modality-Shift moves there and back"
    keep, (x, y, z) = kept[1]  # 4^3 tokens of one voxel
    keep = keep.view(2, 4, x, y, z) > 0
    assert 0 < int(keep[0].sum()) < keep[0].numel()
    partner = model.partner.tolist()
    for index, mate in enumerate(partner):
        refilled = (~keep[0, index] & keep[0, mate])[None]
        expected = torch.where(refilled, levels[1][0, mate], levels[1][0, index])
        torch.testing.assert_close(mixed[1][0, index], expected)
    assert torch.equal(mixed[1][1, 0], levels[1][1, 0]), "T1 without T1c is not refilled"


def test_the_decision_still_learns_without_blocks() -> None:
    model = build(identity_blocks=True).train()
    torch.manual_seed(0)
    model(noise(1, 4, 16, 16, 16), shown(*GIVEN)).segmentation.square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not [name for name in silent if "decision.logits" in name]


@pytest.mark.parametrize("name", BACKBONES)
def test_early_fusion_is_the_backbone_with_sequences_as_channels(name: str) -> None:
    options, side = BACKBONES[name]
    separate, early = (build(mixers="none", **options, fusion=fusion) for fusion in ("separate", "early"))
    assert set(early.parameters_by_component()) == {"backbone"}
    wider = {n: p.shape for n, p in separate.backbone.named_parameters()}
    changed = {n for n, p in early.backbone.named_parameters() if p.shape != wider[n]}
    assert changed, "the convolutions that read the images"
    assert all(early.backbone.get_parameter(n).shape[1] == 4 * wider[n][1] == 4 for n in changed)
    with torch.no_grad():
        logits = early.eval()(noise(1, 4, side, side, side), shown(*GIVEN)).segmentation
    assert logits.shape == (1, 4, side, side, side)


def test_fused_early_an_absent_sequence_is_a_channel_of_zeros() -> None:
    model, images = build(mixers="none", fusion="early").eval(), noise(1, 4, 16, 16, 16)
    zeros, other = images.clone(), images.clone()
    zeros[:, 3], other[:, 3] = 0, 7
    with torch.no_grad():
        some = [model(given, shown("t1", "t1c", "t2")).segmentation for given in (images, other)]
        assert torch.equal(*some)
        assert torch.equal(some[0], model(zeros, shown(*GIVEN)).segmentation)
        assert not torch.allclose(some[0], model(images, shown(*GIVEN)).segmentation)


def test_early_fusion_answers_subsets_features_and_recomputes_its_activations() -> None:
    model = build(mixers="none", fusion="early").eval()
    images, rows = noise(2, 4, 16, 8, 8), torch.tensor([[True] * 4, [True, False, False, True]])
    with torch.no_grad():
        for row, logits in zip(rows, model.forward_subsets(images, rows), strict=True):
            torch.testing.assert_close(logits, model(images, row.expand(2, -1)).segmentation)
        assert model.pooled_features(images, rows).shape == (2, 16)
    for layer in model.cam_layers():
        assert isinstance(model.get_submodule(layer), nn.Module)
    found = []
    for checkpointing in (False, True):
        again = build(mixers="none", fusion="early", checkpointing=checkpointing).train()
        again(images, rows).segmentation.square().mean().backward()
        found.append([p.grad for p in again.parameters()])
    torch.testing.assert_close(*found)


def test_they_are_drawn_and_said() -> None:
    early = build(mixers="none", fusion="early")
    assert "fused early" in early.notes[0]
    assert "all sequences at a time" in early.diagram()
    assert "joined" not in early.diagram()
    assert "refilled, no attention" in build(identity_blocks=True).diagram()
    assert "refilled" not in build().diagram()


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ParameterError, match="set 'mixers' to none"):
        build(fusion="early")
    for options in ({"mixers": "shift"}, {"mixers": "none"}, {"masking": "none"}):
        with pytest.raises(ParameterError, match="that is 'mixers' none"):
            build(identity_blocks=True, **options)
