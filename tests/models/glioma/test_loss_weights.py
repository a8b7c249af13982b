"""Weights of the loss terms and the gate's region: what each changes, and that it changes nothing else."""

from __future__ import annotations

from typing import Any

import mgmt_cases
import pytest
import torch
from torch import Tensor

from workbench.contracts import Batch, Prediction
from workbench.errors import ParameterError
from workbench.models.glioma.mgmt_net import tumour_gate
from workbench.models.losses import segmentation_loss
from workbench.models.method import MethodModule
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")
TINY = {"feature_size": 12, "window": 4, "cmd_channels": 4, "backbones": 1, "checkpointing": False}


def build(method: str, markers: tuple[str, ...] = ("idh", "codel"), **options: Any) -> MethodModule:
    if method == "mgmt_net":
        return mgmt_cases.build(markers, **options)
    return create_model(method, modalities=GIVEN, classes=4, markers=markers, **(TINY | options))


def terms(model: MethodModule) -> tuple[dict[str, Tensor], Tensor, Batch]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 4, 4, 4, generator=generator)
    found = {name: torch.randn(1, 1, generator=generator) for name in ("idh", "codel")}
    labels = torch.randint(0, 4, (1, 4, 4, 4), generator=generator)
    known = {"idh": torch.ones(1), "codel": torch.zeros(1)}
    batch = Batch(GIVEN, torch.zeros(1, 4, 4, 4, 4), torch.ones(1, 4).bool(), labels, ("glioma",), known)
    return model.loss(Prediction(logits, found), batch, 0.5), logits, batch


@pytest.mark.parametrize("method", ["mts_unet", "mgmt_net"])
def test_lambdas_weigh_dice_and_cross_entropy(method: str) -> None:
    found, logits, batch = terms(build(method, dice_weight=0.25, cross_entropy_weight=2.0))
    dice = segmentation_loss(logits, batch.labels, batch.label_set, cross_entropy=0.0)
    entropy = segmentation_loss(logits, batch.labels, batch.label_set, dice=0.0)
    torch.testing.assert_close(found["segmentation"], 0.25 * dice + 2 * entropy)
    plain = terms(build(method))[0]
    assert torch.equal(plain["segmentation"], segmentation_loss(logits, batch.labels, batch.label_set))
    assert all(torch.equal(found[name], plain[name]) for name in ("idh", "codel"))


@pytest.mark.parametrize("method", ["mts_unet", "mgmt_net"])
def test_each_marker_has_a_weight_of_its_own(method: str) -> None:
    plain, weighted = terms(build(method))[0], terms(build(method, beta=0.5, beta_idh=3.0, beta_codel=0.0))[0]
    torch.testing.assert_close(weighted["idh"], 1.5 * plain["idh"])
    assert float(weighted["codel"]) == 0 < float(plain["codel"])
    assert torch.equal(weighted["segmentation"], plain["segmentation"])


def test_alpha_counts_for_each_backbone() -> None:
    model = build("mts_unet", alpha=0.5)
    _, logits, batch = terms(model)
    both = model.loss(Prediction(logits, {}, auxiliary={"gate_segmentation": logits}), batch, 0.5)
    whole = segmentation_loss(logits, batch.labels, batch.label_set)
    torch.testing.assert_close(both["segmentation"] + both["gate_segmentation"], whole)


@pytest.mark.parametrize("method", ["mts_unet", "mgmt_net"])
def test_what_cannot_be_meant_is_refused_or_said(method: str) -> None:
    with pytest.raises(ParameterError, match="'dice_weight' and 'cross_entropy_weight' are both 0"):
        build(method, dice_weight=0.0, cross_entropy_weight=0.0)
    with pytest.raises(ParameterError, match=r"'beta_idh' of .* greater than or equal to 0"):
        build(method, beta_idh=-1.0)
    assert build(method, beta_grade=2.0, beta_idh=2.0).notes == ("beta_grade=2 changes nothing: no grade is predicted",)


def voxels(*classes: int) -> Tensor:
    """(1, 5, 8, 8, 8): logits of one cell whose first voxels are surely of these classes, the others background."""
    labels = torch.zeros(512, dtype=torch.long)
    labels[: len(classes)] = torch.tensor(classes)
    return 60.0 * torch.nn.functional.one_hot(labels, 5).T.reshape(1, 5, 8, 8, 8).float()


@pytest.mark.parametrize(("region", "counted"), [("tumour", (1, 2, 3, 4)), ("no_oedema", (1, 3, 4))])
def test_the_gate_reads_the_region_that_it_names(region: str, counted: tuple[int, ...]) -> None:
    model = mgmt_cases.build(classes=5, gate_region=region)
    for label in (1, 2, 3, 4):
        soft = tumour_gate(voxels(label, label), "soft", left_out=model.left_out)
        assert float(soft) == pytest.approx((2 / 512) * (label in counted), abs=1e-6)
    # beside a cell with oedema alone, hard gates the cell that holds something else
    both = torch.cat([voxels(2), voxels(3)], dim=2)
    hard = tumour_gate(both, "hard", left_out=model.left_out).flatten().tolist()
    assert hard == ([1, 1] if region == "tumour" else [0, 1])


def test_the_gates_region_changes_the_markers_alone() -> None:
    images, present = mgmt_cases.noise(1, 4, 16, 16, 16), mgmt_cases.everything()
    all_, core = (mgmt_cases.build(gate_region=region).eval() for region in ("tumour", "no_oedema"))
    core.load_state_dict(all_.state_dict())
    with torch.no_grad():
        one, two = all_(images, present), core(images, present)
    assert torch.equal(one.segmentation, two.segmentation)
    assert not any(torch.equal(one.markers[name], two.markers[name]) for name in one.markers)


def test_a_region_that_the_masks_or_the_gate_do_not_have_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"'gate_region' no_oedema needs masks that tell oedema"):
        mgmt_cases.build(classes=2, gate_region="no_oedema")
    with pytest.raises(ParameterError, match=r"'gate' none has none"):
        mgmt_cases.build(gate="none", gate_region="no_oedema")
