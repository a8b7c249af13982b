"""Every subset in one go is what each subset alone is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from workbench.contracts import Prediction
from workbench.errors import ParameterError
from workbench.inference.predict import predict_case
from workbench.inference.subsets import predict_subsets
from workbench.models.method import MethodModule
from workbench.models.options_base import MethodOptions
from workbench.prepare.store import PreparedCohort
from workbench.sampling.dropout import subsets

NAMES = ("t1", "t1c", "t2", "flair")


class Pointwise(MethodModule):
    """Each voxel's logits depend on that voxel and on which sequences are shown; the marker reads the window's mean."""

    name = "pointwise"
    divisor = 4
    minimum = 8

    def __init__(self) -> None:
        super().__init__(modalities=NAMES, classes=4, markers=("idh",), options=MethodOptions())
        self.layer = torch.nn.Conv3d(8, 4, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 32).reshape(4, 8, 1, 1, 1))
        self.passes = 0

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        self.passes += 1
        assert not images[~present].any()
        flags = present[:, :, None, None, None].to(images).expand_as(images)
        segmentation = self.layer(torch.cat([images, flags], 1)) if "segmentation" in tasks else None
        markers = {"idh": images.mean((1, 2, 3, 4))[:, None]} if "markers" in tasks else {}
        return Prediction(segmentation, markers)


@pytest.mark.parametrize("whole", [False, True])
def test_each_set_is_what_it_is_alone(prepared: PreparedCohort, whole: bool) -> None:
    case, model = prepared.case("TINY-00001-000"), Pointwise().train()  # it has no flair
    sets = subsets(("t1", "t1c", "t2"))
    found = list(predict_subsets(model, case, sets, modalities=NAMES, patch=(16, 16, 16), whole=whole))
    assert model.training, "its mode is left as it was"
    assert [p.present for p in found] == sets
    for chosen, together in zip(sets, found, strict=True):
        alone = predict_case(model, case, modalities=NAMES, patch=(16, 16, 16), present=chosen, whole=whole)
        np.testing.assert_allclose(together.logits, alone.logits, rtol=1e-4, atol=1e-4)
        assert (together.centre, together.centre_from, together.present) == (alone.centre, alone.centre_from, alone.present)
        np.testing.assert_allclose(together.markers["idh"], alone.markers["idh"], rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[0].logits, found[-1].logits)


class Sided(Pointwise):
    """Sees where a voxel lies in its window: what its mirror image says differs."""

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        slope = torch.linspace(0, 1, images.shape[2])[:, None, None]
        return super().forward_arranged(images * slope, present, tasks=tasks, maps=maps)


@pytest.mark.parametrize("whole", [False, True])
def test_mirrored_windows_several_at_a_time_are_what_they_are_alone(prepared: PreparedCohort, whole: bool) -> None:
    case, model = prepared.case("TINY-00001-000"), Sided().eval()
    common: dict[str, Any] = {"modalities": NAMES, "patch": (16, 16, 16), "whole": whole}
    sets = [("t1",), ("t1", "t2")]
    for chosen, together in zip(sets, predict_subsets(model, case, sets, mirror=(0,), window_batch=2, **common), strict=True):
        alone = predict_case(model, case, present=chosen, mirror=(0,), window_batch=3, **common)
        np.testing.assert_allclose(together.logits, alone.logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(together.markers["idh"], alone.markers["idh"], rtol=1e-4, atol=1e-5)
        plain = predict_case(model, case, present=chosen, **common)
        assert not np.allclose(plain.logits, alone.logits, atol=1e-2)
        assert not np.allclose(plain.markers["idh"], alone.markers["idh"], rtol=0.1, atol=1e-6)


def test_sets_that_the_case_cannot_show_are_refused(prepared: PreparedCohort) -> None:
    case = prepared.case("TINY-00001-000")
    for wrong in (("t1", "flair"), (), ("dwi",)):
        with pytest.raises(ParameterError, match=r"TINY-00001-000.*some of t1, t1c, t2"):
            list(predict_subsets(Pointwise(), case, [("t1",), wrong], modalities=NAMES, patch=(16, 16, 16)))


def test_names_not_of_the_model_are_arranged_and_left_out() -> None:
    model = Pointwise().eval()
    images = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    shown = torch.tensor([[True, True, False], [False, True, True]])
    first, second = model.forward_subsets(images, shown, ("flair", "t1", "dwi"))
    alone = model(images[:, :2], torch.ones(1, 2, dtype=torch.bool), ("flair", "t1"), tasks=("segmentation",)).segmentation
    torch.testing.assert_close(first, alone)
    alone = model(images[:, 1:2], torch.ones(1, 1, dtype=torch.bool), ("t1",), tasks=("segmentation",)).segmentation
    torch.testing.assert_close(second, alone)


@pytest.mark.parametrize("shown", [torch.zeros(0, 2, dtype=torch.bool), torch.tensor([[True, False], [False, False]])])
def test_a_set_that_shows_nothing_is_refused(shown: torch.Tensor) -> None:
    model = Pointwise()
    with pytest.raises(ParameterError, match="must show at least one"):
        model.forward_subsets(torch.zeros(1, 2, 16, 16, 16), shown)
