"""MoME against its public code (ZhangxinruBIT/MoME, MoME_foundation): five experts, gate, fused at three levels, losses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from public_arrays import Reference, sums, third

from workbench.contracts import SEGMENTATION, Batch
from workbench.models.losses import downsample_labels
from workbench.models.mome.blocks import Mixed, curriculum_weights
from workbench.models.mome.mome import MoME
from workbench.models.mome.released import WEIGHTS, published_names
from workbench.models.networks import level_weights
from workbench.models.registry import create_model

SEQUENCES = WEIGHTS["mome"].modalities
SETS = ("lesion", "lesion")


@pytest.fixture(scope="module")
def mome(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("mome")


def build(reference: Reference, **options: object) -> MoME:
    model = create_model("mome", modalities=SEQUENCES, classes=2, width=4, levels=4, **options)
    assert isinstance(model, MoME)
    sources = published_names(model.state_dict())
    model.load_state_dict({name: s.change(*(reference.weights[n] for n in s.names)) for name, s in sources.items()})
    return model


@pytest.fixture(scope="module")
def mixed(mome: Reference) -> Mixed:
    with torch.no_grad():
        return build(mome).eval().mix(mome.inputs["images"], coarse=True)


def test_every_weight_of_the_public_code_has_a_place(mome: Reference) -> None:
    used = {name for source in published_names(build(mome).state_dict()).values() for name in source.names}
    assert used == set(mome.weights)


def test_experts_gate_and_fused_at_every_level(mixed: Mixed, mome: Reference) -> None:
    for level in range(3):
        mome.check(f"expert_logits_level{level}", third(mixed.experts[level]))
        mome.check(f"expert_sums_level{level}", sums(mixed.experts[level].flatten(1, 2)))
        mome.check(f"gate_level{level}", third(mixed.gates[level].flatten(1, 2)))
        mome.check(f"fused_level{level}", third(mixed.fused[level]))
        mome.check(f"fused_sums_level{level}", sums(mixed.fused[level]))
    mome.check("gate_bottleneck_mean", mixed.bottom.mean((2, 3, 4)))


def test_labels_and_weights_of_the_levels(mome: Reference) -> None:
    labels = mome.inputs["labels"]
    for level in (1, 2):
        mome.check(f"labels_level{level}", downsample_labels(labels, (32 >> level,) * 3).to(labels.dtype))
    mome.check("level_weights", np.array(level_weights(3, 0.0)), exact=True)
    mome.check(
        "curriculum_weights", np.array([curriculum_weights("quadratic", r) for r in mome.inputs["r"].tolist()]), exact=True
    )


@pytest.mark.parametrize("kind", ["batch_dice", "sample_dice"])
def test_losses(mixed: Mixed, mome: Reference, kind: str) -> None:
    """Its Dice term is minus Dice: ours is one more per loss, the weights of the levels adding up to 1."""
    model = build(mome, batch_dice=kind == "batch_dice", expert_share=0.0)
    rows, which = torch.arange(2), mome.inputs["expert_of_sample"]
    present = torch.zeros(2, 5, dtype=torch.bool)
    present[rows, which] = True
    labels = mome.inputs["labels"].long()
    batch = Batch(SEQUENCES, torch.zeros(2, 5, 32, 32, 32), present, labels, SETS, {})
    own = [logits[rows, which] for logits in mixed.experts]
    experts = [float(term) for term in model.expert_losses(own, batch)]
    np.testing.assert_allclose(np.array(experts) - 1, mome.outputs[f"loss_experts_{kind}"], atol=1e-4)
    prediction = model.train().packed(mixed, own)
    for r, total in zip(mome.inputs["r"].tolist(), mome.outputs[f"loss_total_{kind}"], strict=True):
        terms = model.loss(prediction, batch, r)
        first, second = curriculum_weights("quadratic", r)
        assert float(sum(terms.values())) - 2 * first - second == pytest.approx(float(total), abs=1e-4)
    fused = float(model.loss(prediction, batch, 1.0)["fused"])
    assert fused - 1 == pytest.approx(float(mome.outputs[f"loss_fused_{kind}"][0]), abs=1e-4)


def test_whole_forward_pass_is_the_fused_output(mome: Reference) -> None:
    model = build(mome).eval()
    images = torch.zeros(2, 5, 32, 32, 32)
    present = torch.zeros(2, 5, dtype=torch.bool)
    images[torch.arange(2), mome.inputs["expert_of_sample"]] = mome.inputs["images"][:, 0]
    present[torch.arange(2), mome.inputs["expert_of_sample"]] = True
    with torch.no_grad():
        found = model(images, present, tasks=(SEGMENTATION,)).segmentation
    assert found is not None
    mome.check("fused_level0", third(found))
    mome.check("fused_sums_level0", sums(found))
