from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from workbench.errors import InputError, ParameterError
from workbench.inference.predict import predict_case
from workbench.prepare.store import PreparedCohort

PATCH = (16, 16, 16)
ALL = ("t1", "t1c", "t2", "flair")


def assert_equal_in_the_brain(found: np.ndarray, expected: np.ndarray, case) -> None:
    """Equal inside the brain, certain background outside it, where a network sees nothing."""
    brain = case.brain()
    assert brain.any()
    assert not brain.all()
    np.testing.assert_allclose(found[:, brain], expected[:, brain], atol=1e-4)
    assert (softmax(found, axis=0)[0][~brain] > 0.999999).all()


def test_voxel_logits_equal_one_pass(prepared: PreparedCohort, point_net: Callable) -> None:
    case, net = prepared.case("TINY-00000-000"), point_net(ALL)
    net.train()
    found = predict_case(net, case, modalities=ALL, patch=PATCH, window_batch=3)
    assert net.training  # as it was
    images = torch.from_numpy(case.images().astype(np.float32))[None]
    expected = net.logits(images)[0].detach().numpy()
    assert found.logits is not None
    assert found.logits.dtype == np.float32
    assert_equal_in_the_brain(found.logits, expected, case)
    np.testing.assert_array_equal(found.labels(), found.logits.argmax(0))
    np.testing.assert_allclose(found.probabilities(), softmax(found.logits, axis=0), atol=1e-5)
    assert (found.centre, found.centre_from, found.markers) == (None, "", {})
    assert {call[1] for call in net.calls} == {("segmentation",)}


def test_markers_are_read_around_the_predicted_tumour(prepared: PreparedCohort, point_net: Callable) -> None:
    case, net = prepared.case("TINY-00000-000"), point_net(ALL, ("idh", "grade"))
    blob = np.zeros(case.shape, bool)
    blob[20:25, 8:13, 3:8] = True
    blob[2:4, 2:4, 2:4] = True
    # the net calls tumour what is painted into T1
    net.logits = lambda images: torch.cat([torch.zeros_like(images[:, :1]), images[:, :1] - 50, images[:, :1] * 0 - 9], 1)
    painted = case.images().astype(np.float32)
    painted[0][blob] = 100
    case = Painted(case, painted)
    found = predict_case(net, case, modalities=ALL, patch=PATCH)
    assert (found.centre, found.centre_from) == ((22, 10, 5), "tumour")
    # the crop begins at (14, 2, -3): it reaches below the volume along z, and beyond it along x
    window = np.zeros((4, *PATCH), np.float32)
    window[:, :15, :, 3:] = painted[:, 14:29, 2:18, 0:13]
    assert net.calls[-1] == ((1, 4, *PATCH), ("segmentation", "markers"))
    np.testing.assert_array_equal(net.seen[-1][0].numpy(), window)
    pooled = window.mean((1, 2, 3))
    np.testing.assert_allclose(found.markers["idh"], [pooled.sum()], rtol=1e-5)
    np.testing.assert_allclose(found.markers["grade"], pooled[:2], rtol=1e-5)
    np.testing.assert_allclose(found.marker_probabilities()["idh"], expit(pooled.sum(keepdims=True)), rtol=1e-5)
    assert found.marker_probabilities()["grade"].sum() == pytest.approx(1)


class Painted:
    """A prepared case whose images are given."""

    def __init__(self, case, images: np.ndarray) -> None:
        self.case, self.array = case, images

    def __getattr__(self, name: str):
        return getattr(self.case, name)

    def images(self, slices=None, modalities=None) -> np.ndarray:
        return self.array

    def brain(self, slices=None) -> np.ndarray:
        return np.ones(self.case.shape, dtype=bool)


def test_without_a_predicted_tumour_the_brain_is_the_centre(prepared: PreparedCohort, point_net: Callable) -> None:
    case, net = prepared.case("TINY-00000-000"), point_net(ALL, ("idh",))
    net.logits = lambda images: torch.cat([images[:, :1] * 0 + 1, images[:, :2] * 0], 1)
    found = predict_case(net, case, modalities=ALL, patch=PATCH)
    assert (found.centre, found.centre_from) == (case.brain_centre, "brain")
    assert not found.labels().any()


def test_a_model_that_does_not_segment(prepared: PreparedCohort, point_net: Callable) -> None:
    case, net = prepared.case("TINY-00000-000"), point_net(ALL, ("idh",), segments=False)
    found = predict_case(net, case, modalities=ALL, patch=PATCH)
    assert (found.logits, found.labels(), found.probabilities()) == (None, None, None)
    assert (found.centre, found.centre_from) == (case.brain_centre, "brain")
    assert list(found.markers) == ["idh"]
    assert len(net.calls) == 2  # one window shows that there is no segmentation, the other reads the marker


def test_whole_case_in_one_window(prepared: PreparedCohort, point_net: Callable) -> None:
    case, net = prepared.case("TINY-00000-000"), point_net(ALL, ("idh",))
    found = predict_case(net, case, modalities=ALL, patch=PATCH, whole=True)
    assert [call[0][2:] for call in net.calls] == [(32, 40, 32)]  # 29 x 37 x 32 up to multiples of 4, not below the patch
    images = torch.from_numpy(case.images().astype(np.float32))[None]
    assert_equal_in_the_brain(found.logits, net.logits(images)[0].detach().numpy(), case)
    assert found.markers["idh"] == pytest.approx(float(images.sum() / (32 * 40 * 32)), abs=1e-5)
    assert (found.centre, found.centre_from) == (None, "whole")


def test_only_what_is_present_is_shown(prepared: PreparedCohort, point_net: Callable) -> None:
    net = point_net(ALL)
    assert predict_case(net, prepared.case("TINY-00001-000"), modalities=ALL, patch=PATCH).present == ("t1", "t1c", "t2")
    case = prepared.case("TINY-00000-000")
    net.seen.clear()
    found = predict_case(net, case, modalities=ALL, patch=PATCH, present=("flair", "t1"))
    assert found.present == ("t1", "flair")
    assert not any(window[:, 1:3].any() for window in net.seen)
    assert any(window[:, 3].any() for window in net.seen)
    # another order of channels, by name
    other = point_net(("flair", "t1"))
    predict_case(other, case, modalities=("flair", "t1"), patch=PATCH, whole=True)
    flair = case.images()[3].astype(np.float32)
    assert float(other.seen[0][0, 0].abs().sum()) == pytest.approx(float(np.abs(flair).sum()), rel=1e-4)


def test_nothing_left_to_show(prepared: PreparedCohort, point_net: Callable) -> None:
    net = point_net(ALL)
    with pytest.raises(InputError, match=r"TINY-00001-000.*no modality is left.*it has t1, t1c, t2, asked for were flair"):
        predict_case(net, prepared.case("TINY-00001-000"), modalities=ALL, patch=PATCH, present=("flair",))
    with pytest.raises(ParameterError, match="dwi is not among the channels"):
        predict_case(net, prepared.case("TINY-00001-000"), modalities=ALL, patch=PATCH, present=("dwi",))


def test_mirroring_reaches_segmentation_and_markers(prepared: PreparedCohort, point_net: Callable) -> None:
    case, net = prepared.case("TINY-00000-000"), point_net(ALL, ("idh",))
    plain = predict_case(net, case, modalities=ALL, patch=PATCH)
    calls = len(net.calls)
    found = predict_case(net, case, modalities=ALL, patch=PATCH, mirror=(0, 1, 2))
    np.testing.assert_allclose(found.logits, plain.logits, atol=1e-5)  # a pointwise net does not care
    np.testing.assert_allclose(found.markers["idh"], plain.markers["idh"], atol=1e-5)
    assert len(net.calls) - calls == 8 * calls, "one pass over a flip gives segmentation and markers"


def test_half_precision_is_close_and_float32(prepared: PreparedCohort, point_net: Callable) -> None:
    case, net = prepared.case("TINY-00000-000"), point_net(ALL)
    plain = predict_case(net, case, modalities=ALL, patch=PATCH)
    found = predict_case(net, case, modalities=ALL, patch=PATCH, precision="bf16")
    assert found.logits.dtype == np.float32
    assert 0 < np.abs(found.logits - plain.logits).max() < 0.1
