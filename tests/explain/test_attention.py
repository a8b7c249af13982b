"""What a method attends to, as it says it itself, beside its Grad-CAM."""

from __future__ import annotations

import numpy as np
import torch
from known_method import GIVEN, PRESENT, Known, volume

from workbench.explain.attention import attention_maps
from workbench.explain.gradcam import gradcam
from workbench.models.registry import create_model


def test_own_maps_are_returned_by_channel() -> None:
    images = volume()
    maps = attention_maps(Known(), images, PRESENT, GIVEN)
    assert set(maps) == {"weights_0", "weights_1"}
    np.testing.assert_array_equal(maps["weights_1"], images[0, 1].numpy())


def test_unet_explains_its_segmentation() -> None:
    model = create_model("unet", modalities=GIVEN, width=4, levels=3)
    images = torch.randn(1, 2, 16, 24, 8, generator=torch.Generator().manual_seed(0))
    for layer in ("", *model.cam_layers()):
        found = gradcam(model, images, PRESENT, GIVEN, layer=layer)
        assert found.shape == (16, 24, 8)
        assert np.isfinite(found).all()
    assert not attention_maps(model, images, PRESENT, GIVEN)


def test_mts_unet_explains_each_marker_and_shows_its_gate() -> None:
    options = {"feature_size": 12, "window": 4, "cmd_channels": 4, "backbones": 1, "checkpointing": True}
    model = create_model("mts_unet", modalities=("t2", "flair"), markers=("idh", "codel"), **options)
    images = torch.randn(1, 2, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = attention_maps(model, images, PRESENT, ("t2", "flair"))
    assert set(maps) == {"gate", "cmd_attention"}
    maps["gradcam_idh"] = gradcam(model, images, PRESENT, ("t2", "flair"), "idh")
    assert all(values.shape == (64, 64, 64) and np.isfinite(values).all() for values in maps.values())
    assert maps["gate"].min() >= 0.1 - 1e-6
    deep = gradcam(model, images, PRESENT, ("t2", "flair"), "codel", layer=model.cam_layers()[1])
    assert deep.shape == (64, 64, 64)
