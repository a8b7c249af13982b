"""nnU-Net's network and loss, and what became of the weights of its predecessor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import DynUNet
from torch.nn import functional as F

from workbench.contracts import SEGMENTATION, Batch
from workbench.errors import RunError
from workbench.models.losses import segmentation_loss
from workbench.models.registry import create_model
from workbench.models.unet.unet import UNet
from workbench.training.checkpoints import fit_state

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


@pytest.mark.parametrize(("coarsest", "weights"), [(False, (4 / 7, 2 / 7, 1 / 7, 0)), (True, (8 / 15, 4 / 15, 2 / 15, 1 / 15))])
def test_levels_are_supervised_with_weights_that_halve(model: UNet, coarsest: bool, weights: tuple[float, ...]) -> None:
    given = batch()
    assert given.labels is not None
    prediction = model.train()(given.images, given.present)
    outputs = [prediction.segmentation, *prediction.auxiliary.values()]
    assert [tuple(o.shape[2:]) for o in outputs] == [(32, 48, 32), (16, 24, 16), (8, 12, 8), (4, 6, 4)]
    expected = 0.0
    for logits, weight in zip(outputs, weights, strict=True):
        coarse = F.interpolate(given.labels[:, None].float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()
        expected += weight * float(segmentation_loss(logits, coarse, ("glioma",)).detach())
    chosen = create_model("unet", modalities=GIVEN, classes=4, width=4, levels=5, supervise_coarsest=coarsest)
    terms = chosen.loss(prediction, given, 0.0)
    assert set(terms) == {"segmentation"}
    assert float(terms["segmentation"].detach()) == pytest.approx(expected, rel=1e-6)


def test_convolutions_have_biases_the_transposed_ones_too(model: UNet) -> None:
    kinds = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)
    assert all(m.bias is not None for m in model.modules() if isinstance(m, kinds))


@pytest.mark.parametrize("deep", [True, False])
def test_weights_of_the_time_of_dynunet_say_the_same(deep: bool) -> None:
    """The network as it was: MONAI's DynUNet without biases, its blocks under two names of ours."""
    torch.manual_seed(3)
    old = DynUNet(
        spatial_dims=3, in_channels=2, out_channels=4, kernel_size=[3] * 4, strides=[1, 2, 2, 2], upsample_kernel_size=[2] * 3,
        filters=(4, 8, 16, 32), norm_name=("INSTANCE", {"affine": True}),
        act_name=("leakyrelu", {"inplace": False, "negative_slope": 0.01}), deep_supervision=deep, deep_supr_num=2,
    )  # fmt: skip
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    kept = torch.nn.ModuleDict({"body": old.skip_layers, "head": old.output_block}).state_dict()
    new = create_model("unet", modalities=GIVEN, classes=4, width=4, levels=4, deep_supervision=deep)
    assert isinstance(new, UNet)
    fit_state(new, kept, path=Path("old"))
    given = batch()
    found = new.eval()(given.images, given.present).segmentation
    torch.testing.assert_close(found, old.eval()(given.images), rtol=1e-4, atol=1e-4)
    if deep:
        old.train()(given.images)
        coarse = new.train()(given.images, given.present).auxiliary.values()
        for logits, expected in zip(coarse, old.heads, strict=True):
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    del kept["body.upsample.transp_conv.conv.weight"]
    with pytest.raises(RunError, match=r"missing: net\.up\.2\.weight"):
        fit_state(new, kept, path=Path("old"))


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


def test_residual_encoder_has_the_size_of_nnunets_and_learns(meta: torch.device) -> None:
    """102 M parameters are what its plans come to."""
    with meta:
        assert (
            create_model("unet", modalities=("t1", "t1c", "t2", "flair"), classes=4, encoder="residual").parameter_count()
            == 102_353_972
        )
    model = create_model("unet", modalities=("t1", "flair"), classes=4, encoder="residual", width=4, levels=3).train()
    images, present = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0)), torch.ones(1, 2).bool()
    batch = Batch(("t1", "flair"), images, present, (images[:, 0] > 1).long(), ("WT",), {})
    prediction = model(images, present)
    assert [len(prediction.auxiliary), *prediction.auxiliary["level1"].shape[2:]] == [1, 8, 8, 8]
    model.loss(prediction, batch, 0.0)["segmentation"].backward()
    heads = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not heads
    assert "3 residual blocks" in model.diagram()
    assert "residual" not in create_model("unet", modalities=("t1",), width=4, levels=3).diagram()
