"""CMAF, gated attention pooling and the Swin branch of MGMT-Net, each by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mgmt_cases import build, everything, noise
from torch import Tensor

from workbench.models.glioma.mgmt_blocks import CrossModalityAttentionFusion, GatedPooling, SwinBranch
from workbench.models.glioma.mgmt_net import log_gate, tumour_gate


@pytest.fixture(scope="module", params=["instance", "batch"])
def fusion(request: pytest.FixtureRequest) -> CrossModalityAttentionFusion:
    torch.manual_seed(0)
    return CrossModalityAttentionFusion(4, 6, request.param, "cmaf", 0.2, False)


def test_weights_sum_to_one_and_mix_the_embedded_images(fusion: CrossModalityAttentionFusion) -> None:
    images, present = noise(2, 4, 6, 7, 5), everything(2)
    present[1, 2] = False
    fused, weights = fusion.eval()(images, present)
    assert weights is not None
    assert weights.shape == (2, 4, 6, 7, 5)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 6, 7, 5))
    assert bool((weights >= 0).all())
    embedded = fusion.embed(images, present)
    torch.testing.assert_close(fused, torch.einsum("bmxyz,bmcxyz->bcxyz", weights, embedded))
    assert bool((weights.flatten(2).std(2)[present] > 0).all()), "the weights differ from voxel to voxel"


@pytest.mark.parametrize("training", [True, False])
def test_an_absent_modality_has_weight_zero_and_no_gradient(fusion: CrossModalityAttentionFusion, training: bool) -> None:
    images, present = noise(2, 4, 6, 6, 6).requires_grad_(), everything(2)
    present[0, 1] = present[1, 3] = False
    fused, weights = fusion.train(training)(images, present)
    assert weights is not None
    assert bool((weights[0, 1] == 0).all())
    assert bool((weights[1, 3] == 0).all())
    assert bool((weights[0, 3] > 0).all())
    (gradient,) = torch.autograd.grad((fused**2).sum(), images)
    absent = gradient[~present]
    assert bool((absent == 0).all())
    assert bool((gradient[present].flatten(1).abs().sum(1) > 0).all())


def test_absent_modalities_are_not_in_batch_norms_statistics() -> None:
    torch.manual_seed(0)
    fusion = CrossModalityAttentionFusion(4, 3, "batch", "cmaf", 0.0, False).train()
    images, present = noise(2, 4, 5, 5, 5), everything(2)
    present[:, 0] = False
    embedded = fusion.embed(images, present)
    assert bool((embedded[:, 0] == 0).all())
    again = CrossModalityAttentionFusion(3, 3, "batch", "cmaf", 0.0, False).train()
    again.embedding.load_state_dict({k: v for k, v in fusion.embedding.state_dict().items() if "running" not in k}, strict=False)
    torch.testing.assert_close(embedded[:, 1:], again.embed(images[:, 1:], everything(2)[:, :3]))


def test_with_no_modality_at_all_nothing_is_nan(fusion: CrossModalityAttentionFusion) -> None:
    present = everything(2)
    present[0] = False
    images = torch.where(present[:, :, None, None, None], noise(2, 4, 6, 6, 6), 0.0).requires_grad_()
    fused, weights = fusion.eval()(images, present)
    assert weights is not None
    assert bool((weights[0] == 0).all())
    assert bool((fused[0] == 0).all())
    (gradient,) = torch.autograd.grad(fused.sum(), images)
    assert bool(torch.isfinite(gradient).all())


def test_one_embedding_serves_all_modalities(fusion: CrossModalityAttentionFusion) -> None:
    image = noise(1, 1, 6, 6, 6).expand(1, 4, 6, 6, 6)
    embedded = fusion.eval().embed(image, everything())
    assert bool((embedded == embedded[:, :1]).all())


def test_concatenation_has_no_weights_and_reads_no_absent_image() -> None:
    model = build(fusion="concat").eval()
    images, present = noise(1, 4, 16, 16, 16), everything()
    present[0, 2] = False
    prediction = model(images, present, maps=True)
    assert not [name for name in prediction.maps if name.startswith("weight_")]
    images[:, 2] = float("nan")
    again = model(images, present)
    assert torch.equal(prediction.segmentation, again.segmentation)


def blob() -> Tensor:
    """(1, 4, 32, 32, 32) logits that are sure of a tumour in one cell of 8^3, of background elsewhere."""
    logits = torch.zeros(1, 4, 32, 32, 32)
    logits[:, 0] = 30.0
    logits[:, :, 8:16, 16:24, 0:8] = 0.0
    logits[:, 3, 8:16, 16:24, 0:8] = 30.0
    return logits


@pytest.mark.parametrize("form", ["attention", "average"])
@pytest.mark.parametrize("mode", ["soft", "hard", "none"])
def test_pooling_weights_sum_to_one_and_stay_inside_the_gate(form: Any, mode: str) -> None:
    torch.manual_seed(0)
    pooling, features = GatedPooling(5, form), noise(1, 5, 4, 4, 4)
    gate = None if mode == "none" else log_gate(tumour_gate(blob(), mode), mode)
    pooled, weights = pooling(features, gate)
    assert weights.shape == (1, 1, 4, 4, 4)
    assert float(weights.sum().detach()) == pytest.approx(1, abs=1e-5)
    outside = torch.ones(1, 1, 4, 4, 4, dtype=torch.bool)
    outside[..., 1, 2, 0] = False
    if mode == "hard":
        assert bool((weights[outside] == 0).all())
    elif mode == "soft":
        assert float(weights[outside].sum().detach()) < 1e-3
    else:
        assert float(weights[outside].sum().detach()) > 0.5
    if mode != "none":
        torch.testing.assert_close(pooled, features[:, :, 1, 2, 0], rtol=1e-3, atol=1e-3)
    elif form == "average":
        torch.testing.assert_close(pooled, features.mean((2, 3, 4)))


def test_the_soft_gate_multiplies_the_weights() -> None:
    """softmax(a + log m) is w m / sum(w m): what multiplying the features by m would not give."""
    torch.manual_seed(0)
    pooling, features, gate = GatedPooling(5, "attention"), noise(2, 5, 3, 3, 3), torch.rand(2, 1, 3, 3, 3) * 0.9 + 0.1
    _, plain = pooling(features, None)
    _, gated = pooling(features, log_gate(gate, "soft"))
    expected = plain * gate / (plain * gate).sum((2, 3, 4), keepdim=True)
    torch.testing.assert_close(gated, expected, rtol=1e-4, atol=1e-6)


def test_a_hard_gate_that_finds_nothing_is_open() -> None:
    logits = torch.cat([blob(), blob()])
    logits[1] = 0.0
    logits[1, 0] = 30.0
    gate = tumour_gate(logits, "hard")
    assert float(gate[0].sum()) == 1
    assert bool((gate[1] == 1).all())
    assert bool(torch.isfinite(GatedPooling(3, "average")(noise(2, 3, 4, 4, 4), log_gate(gate, "hard"))[0]).all())


def test_small_maps_are_padded_to_a_window_not_the_window_shrunk() -> None:
    """Every window sees the whole table of position biases: MONAI would read the first rows of it for a smaller window."""
    torch.manual_seed(0)
    branch = SwinBranch(2, 3, 4, False).eval()
    seen: list[tuple[int, ...]] = []
    for stage in branch.stages:
        stage.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[2:])))  # type: ignore[arg-type]
    assert branch(noise(1, 2, 16, 16, 16)).shape == (1, 12, 2, 2, 2)
    assert seen == [(8, 8, 8), (4, 4, 4), (4, 4, 4), (4, 4, 4)]


def test_swin_branch_ends_in_a_layer_norm() -> None:
    out = SwinBranch(2, 3, 4, False).eval()(noise(1, 2, 16, 16, 16))
    torch.testing.assert_close(out.mean(1), torch.zeros(1, 2, 2, 2), rtol=0, atol=1e-5)
