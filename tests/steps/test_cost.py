"""What a step costs, counted without values: held against what real tensors say."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from workbench.contracts import Batch
from workbench.models.registry import create_model
from workbench.steps.cost import FLOAT, cost_table, planned_cost, task_networks

PLAN = {"width": 4, "levels": 3}
HOW = {"modalities": ("t1", "flair"), "classes": 2, "side": 16, "batch": 2}


def test_counted_activations_are_those_that_a_real_step_keeps() -> None:
    model = create_model("pooled_unet", modalities=("t1", "flair"), classes=2, **PLAN).train()
    given = Batch(
        ("t1", "flair"), torch.randn(2, 2, 16, 16, 16), torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 16, 16, 16).long(),
        ("lesion", "lesion"), {},
    )  # fmt: skip
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(model(given.images, given.present), given, 0.9)["segmentation"]
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert loss.requires_grad
    cost = planned_cost("pooled_unet", PLAN, **HOW)
    assert cost.kept == pytest.approx(real, rel=0.02)
    assert cost.parameters == cost.trained == model.parameter_count()
    assert cost.memory == 3 * FLOAT * model.parameter_count() + cost.kept
    assert cost.peak == 0


def test_six_networks_keep_about_six_times_as_much_and_the_options_save_it() -> None:
    five = {"modalities": ("a", "b", "c", "d", "e"), "classes": 2, "side": 16, "batch": 1}
    one = planned_cost("pooled_unet", PLAN, **five)
    whole, again, frozen = (
        planned_cost("mome", PLAN | {"experts": how}, **five) for how in ("trained", "checkpointed", "frozen")
    )
    assert 5 < whole.kept / one.kept < 8
    assert 5 < whole.flops / one.flops < 8
    assert again.kept < 0.5 * whole.kept
    assert again.flops > 1.15 * whole.flops, "the experts' forward passes are made twice"
    assert frozen.kept < 0.5 * whole.kept
    assert frozen.trained == whole.parameters - 5 * one.parameters


def test_a_task_specific_set_is_one_network_for_each_site_and_sequence() -> None:
    cases = pd.DataFrame({"site": ["b", "a", "b"], "t1": ["x", None, "y"], "flair": ["x", "y", None], "dwi": [None] * 3})
    networks = task_networks(cases, ("t1", "flair", "dwi"))
    assert networks == [("a", "flair"), ("b", "t1"), ("b", "flair")]
    table = cost_table(("t1", "flair"), 2, len(networks), options=PLAN, side=16, batch=1)
    one, three = table.loc["pooled U-Net"], table.loc["task-specific U-Nets (3)"]
    assert three["parameters (M)"] == pytest.approx(3 * one["parameters (M)"])
    assert three["TFLOP a step"] == pytest.approx(3 * one["TFLOP a step"])
    assert three["memory at least (GiB)"] == one["memory at least (GiB)"], "one at a time"
