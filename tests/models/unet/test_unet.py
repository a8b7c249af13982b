from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from workbench.contracts import SEGMENTATION, Batch
from workbench.models.losses import segmentation_loss
from workbench.models.registry import create_model
from workbench.models.unet.unet import UNet

GIVEN = ("t1c", "flair")


@pytest.fixture(scope="module")
def model() -> UNet:
    built = create_model("unet", modalities=GIVEN, classes=4, markers=("idh",), width=4, levels=5)
    assert isinstance(built, UNet)
    return built


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 2, 32, 48, 32, generator=generator)
    labels = torch.randint(0, 4, (1, 32, 48, 32), generator=generator)
    return Batch(GIVEN, images, torch.ones(1, 2, dtype=torch.bool), labels, ("glioma",), {"idh": torch.ones(1)})


def test_levels_features_and_sizes_follow_the_recipe(model: UNet) -> None:
    assert model.features == (4, 8, 16, 32, 40)  # doubling, at most ten times the first: 32 ... 320 at the paper's width
    assert (model.divisor, model.minimum) == (16, 32)
    assert model.markers == ()
    strides = [m.stride for m in model.modules() if isinstance(m, torch.nn.Conv3d) and m.stride != (1, 1, 1)]
    assert strides == [(2, 2, 2)] * 4
    slopes = {m.negative_slope for m in model.modules() if isinstance(m, torch.nn.LeakyReLU)}
    assert slopes == {0.01}
    assert not any(m.inplace for m in model.modules() if isinstance(m, torch.nn.LeakyReLU))


def test_deep_supervision_weights_halve_and_add_up_to_one(model: UNet) -> None:
    given = batch()
    assert given.labels is not None
    prediction = model.train()(given.images, given.present)
    outputs = [prediction.segmentation, *prediction.auxiliary.values()]
    assert [tuple(o.shape[2:]) for o in outputs] == [(32, 48, 32), (16, 24, 16), (8, 12, 8), (4, 6, 4)]
    expected = 0.0
    for level, logits in enumerate(outputs):
        step = 2**level
        coarse = F.interpolate(given.labels[:, None].float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()
        assert coarse.shape[1] == 32 // step
        expected += 0.5**level / 1.875 * float(segmentation_loss(logits, coarse, ("glioma",)).detach())
    terms = model.loss(prediction, given, 0.0)
    assert set(terms) == {"segmentation"}
    assert float(terms["segmentation"].detach()) == pytest.approx(expected, rel=1e-6)


def test_no_graph_is_kept_between_steps(model: UNet) -> None:
    given = batch()
    model.train()(given.images, given.present)
    assert all(not tensor.requires_grad for tensor in model.coarse)


def test_without_deep_supervision_there_is_one_output() -> None:
    model = create_model("unet", modalities=GIVEN, width=4, levels=3, deep_supervision=False)
    given = batch()
    prediction = model.train()(given.images, given.present)
    assert not prediction.auxiliary
    terms = model.loss(prediction, given, 0.0)
    torch.testing.assert_close(terms["segmentation"], segmentation_loss(prediction.segmentation, given.labels, ("glioma",)))


def test_only_segmentation_is_ever_computed(model: UNet) -> None:
    given = batch()
    prediction = model.eval()(given.images, given.present, tasks=("markers",))
    assert prediction.segmentation is None
    assert model.loss(prediction, given, 0.0) == {}
    assert model.stages()[0].tasks == (SEGMENTATION,)
