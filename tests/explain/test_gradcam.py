from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.contracts import Prediction
from workbench.errors import ParameterError
from workbench.explain.attention import attention_maps, explain_case
from workbench.explain.gradcam import gradcam
from workbench.models.method import MethodModule
from workbench.models.options_base import MethodOptions
from workbench.models.registry import create_model

GIVEN = ("t1", "flair")


class Known(MethodModule):
    """A marker that is the mean of one channel minus the mean of the other, so that its Grad-CAM can be worked out."""

    name = "known"

    def __init__(self, markers: Sequence[str] = ("idh",)) -> None:
        super().__init__(modalities=GIVEN, classes=4, markers=markers, options=MethodOptions())
        self.features = nn.Conv3d(2, 2, 1, bias=False)
        self.features.weight.data = torch.eye(2).view(2, 2, 1, 1, 1)

    def cam_layers(self) -> tuple[str, ...]:
        return ("features",)

    def predict(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        features = self.features(images)
        first, second = features.mean((2, 3, 4)).unbind(1)
        background = features[:, 1:]
        segmentation = torch.cat([background, features[:, :1], *[torch.full_like(background, -30.0)] * 2], 1)
        return Prediction(segmentation, {"idh": (first - second)[:, None]}, {"weights": images[:, :2]} if maps else {})


def volume() -> Tensor:
    return torch.randn(1, 2, 5, 6, 7, generator=torch.Generator().manual_seed(0))


PRESENT = torch.ones(1, 2, dtype=torch.bool)


def test_map_is_the_worked_out_one() -> None:
    images = volume()
    found = gradcam(Known(), images, PRESENT, GIVEN, "idh")
    evidence = (images[0, 0] - images[0, 1]).clamp(min=0)  # both weights are 1 / voxels, of opposite sign
    np.testing.assert_allclose(found, (evidence / evidence.max()).numpy(), atol=1e-5)
    assert found.dtype == np.float32


def test_gradcam_plus_plus_leaves_out_what_speaks_against() -> None:
    images = volume()
    found = gradcam(Known(), images, PRESENT, GIVEN, "idh", form="gradcam++")
    evidence = images[0, 0].clamp(min=0)  # the second channel's gradient is negative
    np.testing.assert_allclose(found, (evidence / evidence.max()).numpy(), atol=1e-5)


def test_map_of_the_tumour_is_high_where_the_tumour_is() -> None:
    images = torch.zeros(1, 2, 6, 6, 6)
    images[:, 1] = 1.0
    images[0, :, 2:4, 2:4, 2:4] = torch.tensor([4.0, -4.0])[:, None, None, None]
    found = gradcam(Known(()), images, PRESENT, GIVEN)
    assert found[2:4, 2:4, 2:4].min() == pytest.approx(1)
    assert found[0, 0, 0] == 0


def test_nothing_that_speaks_for_it_is_an_empty_map() -> None:
    images = torch.stack([-torch.ones(4, 4, 4), torch.ones(4, 4, 4)])[None]
    assert not gradcam(Known(), images, PRESENT, GIVEN, "idh").any()


def test_model_is_left_as_it_was_found() -> None:
    model = Known().train()
    model.features.weight.grad = torch.ones_like(model.features.weight)
    gradcam(model, volume(), PRESENT, GIVEN, "idh")
    assert model.training
    assert model.features.weight.requires_grad
    assert bool((model.features.weight.grad == 1).all())
    assert not model.features._forward_hooks
    assert not model.features._backward_hooks


def test_own_maps_are_returned_by_channel() -> None:
    images = volume()
    maps = explain_case(Known(), images, PRESENT, GIVEN, "idh")
    assert set(maps) == {"gradcam_idh", "weights_0", "weights_1"}
    np.testing.assert_array_equal(maps["weights_1"], images[0, 1].numpy())
    assert set(attention_maps(Known(), images, PRESENT, GIVEN)) == {"weights_0", "weights_1"}


def test_mistakes_are_named() -> None:
    with pytest.raises(ParameterError, match="predicts idh; 'codel'"):
        gradcam(Known(), volume(), PRESENT, GIVEN, "codel")
    with pytest.raises(ParameterError, match="no layer 'deep'; suited are features"):
        gradcam(Known(), volume(), PRESENT, GIVEN, "idh", layer="deep")
    with pytest.raises(ParameterError, match="one case at a time"):
        gradcam(Known(), volume().repeat(2, 1, 1, 1, 1), PRESENT.repeat(2, 1), GIVEN, "idh")


def test_unet_explains_its_segmentation() -> None:
    model = create_model("unet", modalities=GIVEN, width=4, levels=3)
    images = torch.randn(1, 2, 16, 24, 8, generator=torch.Generator().manual_seed(0))
    for layer in ("", *model.cam_layers()):
        found = gradcam(model, images, PRESENT, GIVEN, layer=layer)
        assert found.shape == (16, 24, 8)
        assert np.isfinite(found).all()
    assert set(explain_case(model, images, PRESENT, GIVEN)) == {"gradcam_tumour"}


def test_mts_unet_explains_each_marker_and_shows_its_gate() -> None:
    options = {"feature_size": 12, "window": 4, "cmd_channels": 4, "backbones": 1, "checkpointing": True}
    model = create_model("mts_unet", modalities=("t2", "flair"), markers=("idh", "codel"), **options)
    images = torch.randn(1, 2, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = explain_case(model, images, PRESENT, ("t2", "flair"), "idh")
    assert set(maps) == {"gradcam_idh", "gate", "cmd_attention"}
    assert all(values.shape == (64, 64, 64) and np.isfinite(values).all() for values in maps.values())
    assert maps["gate"].min() >= 0.1 - 1e-6
    deep = gradcam(model, images, PRESENT, ("t2", "flair"), "codel", layer=model.cam_layers()[1])
    assert deep.shape == (64, 64, 64)
