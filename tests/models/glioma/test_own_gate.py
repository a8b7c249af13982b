"""CMD with a gate of its own: IDH is read without any segmentation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.contracts import MARKER_TASK, Batch
from workbench.errors import ParameterError
from workbench.models.glioma.mts_unet import MtsUNet
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")
TINY = {"feature_size": 12, "window": 4, "cmd_channels": 4, "backbones": 1, "checkpointing": False, "cmd_dropout": 0.0}


def build(**options: Any) -> MtsUNet:
    model = create_model("mts_unet", modalities=GIVEN, classes=4, markers=("idh",), **(TINY | {"gate": "own"} | options))
    assert isinstance(model, MtsUNet)
    return model


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_adds_the_gate_and_nothing_else() -> None:
    parts, before = build().parameters_by_component(), build(gate="attached").parameters_by_component()
    conv = [27 * a * b + b for a, b in ((2, 8), (8, 16), (16, 32), (32, 32))]
    assert parts.pop("own_gate") == sum(conv) + 2 * (8 + 16 + 32) + 33 == 45_593
    assert parts == before


def test_idh_is_read_and_learnt_without_the_segmentation() -> None:
    """The path of the IDH loss: with a gate from the segmentation it runs through the decoder, with its own it does not."""
    images, present = noise(1, 4, 64, 64, 64), torch.ones(1, 4).bool()
    batch = Batch(GIVEN, images, present, None, ("",), {"idh": torch.ones(1)})
    reached = {}
    for gate in ("own", "attached"):
        model = build(gate=gate, streams="cmd").train()
        term = model.loss(model(images, present), batch, 0.5)["idh"]
        gradients = torch.autograd.grad(term, list(model.parameters()), allow_unused=True)
        named = zip(model.named_parameters(), gradients, strict=True)
        reached[gate] = {name.split(".")[0] for (name, _), g in named if g is not None and bool((g != 0).any())}
    assert reached == {"own": {"own_gate", "cmd", "cmd_head"}, "attached": {"backbone", "cmd", "cmd_head"}}


def test_the_gate_lies_between_its_minimum_and_one_can_be_replaced_and_needs_no_decoder() -> None:
    model = build(min_gate=0.2).eval()
    images, present = noise(1, 4, 64, 64, 64), torch.ones(1, 4).bool()
    model.backbone.decode = None  # type: ignore[assignment, method-assign]
    with torch.no_grad():
        found = model(images, present, tasks=(MARKER_TASK,), maps=True)
        model.gate_change = torch.ones_like
        open_ = model(images, present, tasks=(MARKER_TASK,), maps=True)
    gate = found.maps["gate"]
    assert gate.shape == (1, 1, 64, 64, 64)
    assert 0.2 < float(gate.min()) < float(gate.max()) < 1
    assert bool((open_.maps["gate"] == 1).all())
    assert not torch.equal(found.markers["idh"], open_.markers["idh"])


def test_it_reads_t2_and_flair_wherever_they_stand() -> None:
    model = build().eval()
    images = noise(1, 4, 64, 64, 64)
    changed = images.clone()
    changed[:, :2] = noise(1, 2, 64, 64, 64, seed=1)
    with torch.no_grad():
        gates = [model._differential(given, None, True)[1]["gate"] for given in (images, changed, images.flip(1))]
    assert torch.equal(gates[0], gates[1]), "T1 and T1c are no concern of it"
    assert not torch.equal(gates[0], gates[2])


def test_it_is_drawn() -> None:
    drawn = build().diagram()
    assert "own gate" in drawn
    assert "gate of its own, ours" in drawn
    assert "P(tumour)" not in drawn


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ParameterError, match="set 'backbones' to 1"):
        build(backbones=2)
    with pytest.raises(ParameterError, match="'streams' tafe has no CMD"):
        build(streams="tafe")
