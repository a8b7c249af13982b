"""M4oE's mixture and loss against its public code (JefferyJiang-YF/M4oE)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from public_arrays import Reference

from workbench.models.losses import segmentation_loss
from workbench.models.m4oe.blocks import Experts
from workbench.models.pretrained.released import named


@pytest.fixture(scope="module")
def m4oe(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("m4oe")


@torch.no_grad()
def test_released_mixture(m4oe: Reference) -> None:
    """The same whatever sequences are there: it selects nothing."""
    experts = Experts(24, 4, released=True)
    rules = [(r"^gate\.", "gating_network."), (r"linear1\.", "0."), (r"linear2\.", "2.")]
    sources = named(experts.state_dict(), rules)
    assert {source.names[0] for source in sources.values()} == set(m4oe.weights)
    experts.load_state_dict({name: m4oe.weights[source.names[0]] for name, source in sources.items()})
    tokens = m4oe.inputs["tokens"].unflatten(1, (3, 3, 3))
    for present in (torch.ones(2, 4).bool(), torch.tensor([[True, False, False, True], [False, True, False, False]])):
        output, gate = experts(tokens, present)
        m4oe.check("output", output.flatten(1, 3))
        m4oe.check("gate", gate.flatten(1, 3))
    each = torch.stack([expert(tokens).flatten(1, 3) for expert in experts.experts], dim=2)
    m4oe.check("experts", each)


def test_loss(m4oe: Reference) -> None:
    logits, labels = m4oe.inputs["loss_logits"][..., None], m4oe.inputs["loss_labels"].long()[..., None]

    def loss(rows: slice, dice: float, cross_entropy: float) -> torch.Tensor:
        sets = ("glioma",) * len(labels[rows])
        return segmentation_loss(
            logits[rows], labels[rows], sets, dice=dice, cross_entropy=cross_entropy, batch_dice=False, background=True,
            squared=True,
        )  # fmt: skip

    samples = [slice(0, 1), slice(1, 2)]
    m4oe.check("dice", torch.stack([loss(rows, 1.0, 0.0) for rows in samples]))
    m4oe.check("cross_entropy", torch.stack([loss(rows, 0.0, 1.0) for rows in samples]))
    m4oe.check("loss", loss(slice(None), 0.7, 0.4)[None])
