"""MoME+ against its public code (ZhangxinruBIT/MoME, MoME_plus): dispatch of all 15 subsets, fused output, losses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from public_arrays import Reference, sums, third
from torch import nn

from workbench.contracts import Batch
from workbench.models.losses import downsample_labels
from workbench.models.mome.blocks import curriculum_weights
from workbench.models.mome.mome_plus import Dispatch, MoMEPlus
from workbench.models.mome.released import WEIGHTS, published_names
from workbench.models.registry import create_model

SEQUENCES = WEIGHTS["mome_plus"].modalities


@pytest.fixture(scope="module")
def mome_plus(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("mome_plus")


def build(reference: Reference, **options: object) -> MoMEPlus:
    """With what weights there are: of the shipped arrays the dispatch network's."""
    model = create_model("mome_plus", modalities=SEQUENCES, classes=4, width=4, levels=4, **options)
    assert isinstance(model, MoMEPlus)
    sources = published_names(model.state_dict())
    state = {name: s.names[0] for name, s in sources.items() if s.names[0] in reference.weights}
    assert len(state) == len(reference.weights)
    model.load_state_dict({name: reference.weights[theirs] for name, theirs in state.items()}, strict=False)
    return model.eval()


@torch.no_grad()
def test_dispatch_of_every_subset(mome_plus: Reference) -> None:
    model, subsets = build(mome_plus), mome_plus.inputs["subsets"]
    assert isinstance(model.dispatch, Dispatch)
    assert isinstance(model.dispatch.network, nn.Sequential)
    mome_plus.check("dispatch_raw", model.dispatch.network(subsets.float()).unflatten(1, (4, 4)))
    mome_plus.check("dispatch_matrix", model.dispatch(subsets))
    images = mome_plus.inputs["images"][:1].expand(15, -1, -1, -1, -1) * subsets[:, :, None, None, None]
    mome_plus.check("dispatched", third(model.dispatched(images, subsets)))


@torch.no_grad()
def test_fused_output_of_every_subset(mome_plus: Reference) -> None:
    mome_plus.needs("network.")
    model, subsets = build(mome_plus), mome_plus.inputs["subsets"]
    images = mome_plus.inputs["images"][:1].expand(15, -1, -1, -1, -1) * subsets[:, :, None, None, None]
    mixed = model.mix(images, subsets, coarse=True)
    for level in range(3):
        mome_plus.check(f"fused_level{level}", third(mixed.fused[level]))
    mome_plus.check("fused_sums", sums(mixed.fused[0]))
    pooled = mixed.bottom.mean((2, 3, 4))
    mome_plus.check("gate_bottleneck_mean", torch.cat([pooled, subsets.float()], dim=1))


@pytest.mark.parametrize("kind", ["batch_dice", "sample_dice"])
@torch.no_grad()
def test_losses(mome_plus: Reference, kind: str) -> None:
    """The released step takes the fused loss alone (`curriculum` none); what it computes before is compared too."""
    labels = mome_plus.inputs["labels"]
    for level in (1, 2):
        mome_plus.check(f"labels_level{level}", downsample_labels(labels, (16 >> level,) * 3).to(labels.dtype))
    mome_plus.needs("network.")
    options = {"batch_dice": kind == "batch_dice", "expert_share": 0.0}
    model, present = build(mome_plus, **options), mome_plus.inputs["loss_present"]
    images = mome_plus.inputs["images"] * present[:, :, None, None, None]
    batch = Batch(SEQUENCES, images, present, labels.long(), ("glioma", "glioma"), {})
    mixed = model.mix(images, present, coarse=True)
    mome_plus.check("fused_batch_level0", third(mixed.fused[0]))
    experts = np.array([float(term) for term in model.expert_losses(mixed.experts, batch)])
    np.testing.assert_allclose(experts - 1, mome_plus.outputs[f"loss_experts_{kind}"], atol=1e-4)
    prediction = model.train().packed(mixed, mixed.experts)
    for r, total in zip(mome_plus.inputs["r"].tolist(), mome_plus.outputs[f"loss_curriculum_{kind}"], strict=True):
        first, second = curriculum_weights("quadratic", r)
        found = float(sum(model.loss(prediction, batch, r).values())) - 2 * first - second
        assert found == pytest.approx(float(total), abs=1e-4)
    alone = build(mome_plus, curriculum="none", **options).train()
    terms = alone.loss(alone.packed(mixed, mixed.experts), batch, 0.5)
    assert set(terms) == {"fused"}
    assert float(terms["fused"]) - 1 == pytest.approx(float(mome_plus.outputs[f"loss_fused_{kind}"][0]), abs=1e-4)
