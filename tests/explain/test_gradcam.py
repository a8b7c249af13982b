from __future__ import annotations

import numpy as np
import pytest
import torch
from known_method import GIVEN, PRESENT, Known, volume

from workbench.errors import ParameterError
from workbench.explain.gradcam import gradcam


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


def test_mistakes_are_named() -> None:
    with pytest.raises(ParameterError, match="predicts idh; 'codel'"):
        gradcam(Known(), volume(), PRESENT, GIVEN, "codel")
    with pytest.raises(ParameterError, match="no layer 'deep'; suited are features"):
        gradcam(Known(), volume(), PRESENT, GIVEN, "idh", layer="deep")
    with pytest.raises(ParameterError, match="one case at a time"):
        gradcam(Known(), volume().repeat(2, 1, 1, 1, 1), PRESENT.repeat(2, 1), GIVEN, "idh")
