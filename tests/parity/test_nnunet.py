"""nnU-Net's two U-Nets and its loss with deep supervision against its own packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from public_arrays import Reference, sums, third
from torch import Tensor

from workbench.contracts import Batch
from workbench.models.losses import downsample_labels, segmentation_loss
from workbench.models.mome.released import published_names
from workbench.models.networks import level_weights, supervise
from workbench.models.plain_unet import PlainUNet, ResidualEncoderUNet
from workbench.models.pretrained.released import Source, named

FEATURES, BLOCKS = (4, 8, 16, 32, 40), (1, 2, 2, 1, 1)
SETS = ("glioma", "glioma")


@pytest.fixture(scope="module")
def nnunet(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("nnunet")


def residual_names(own: Sequence[str]) -> dict[str, Source]:
    rules = [
        (r"^encoder\.0\.0\.", "encoder.stem.convs.0."),
        *((rf"^encoder\.0\.{k}\.", f"encoder.stages.0.blocks.{k - 1}.") for k in range(1, 3)),
        (r"^encoder\.(\d)\.(\d)\.", r"encoder.stages.\1.blocks.\2."),
        (r"^decoder\.(\d)\.0\.", r"decoder.stages.\1.convs.0."),
        (r"^up\.(\d)\.", r"decoder.transpconvs.\1."),
        *((rf"^heads\.{k}\.", f"decoder.seg_layers.{3 - k}.") for k in range(4)),
        (r"\.first\.", ".conv1."),
        (r"\.second\.", ".conv2."),
        (r"\.project\.", ".skip.1."),
        (r"\.adn\.N\.", ".norm."),
    ]
    return named(own, rules)


def build(reference: Reference, kind: str) -> PlainUNet:
    reference.needs(f"{kind}.")
    network = PlainUNet(4, 4, FEATURES) if kind == "plain" else ResidualEncoderUNet(4, 4, FEATURES, BLOCKS)
    own = list(network.state_dict())
    sources = published_names(own) if kind == "plain" else residual_names(own)
    theirs = reference.part(f"{kind}.")
    assert {source.names[0] for source in sources.values()} == set(theirs)
    network.load_state_dict({name: theirs[source.names[0]] for name, source in sources.items()})
    return network.eval()


@pytest.mark.parametrize("kind", ["plain", "residual"])
@torch.no_grad()
def test_network_and_losses(nnunet: Reference, kind: str) -> None:
    """Its Dice is minus Dice: ours is one more, the weights of the levels adding up to 1."""
    found = build(nnunet, kind)(nnunet.inputs["images"])
    for level, logits in enumerate(found.logits):
        nnunet.check(f"{kind}_logits_level{level}", third(logits))
        nnunet.check(f"{kind}_sums_level{level}", sums(logits))
    nnunet.check(f"{kind}_bottleneck", found.bottom)
    labels = nnunet.inputs["labels"].long()
    batch = Batch(("t1", "t1c", "t2", "flair"), nnunet.inputs["images"], torch.ones(2, 4).bool(), labels, SETS, {})
    for name, over_batch in (("batch_dice", True), ("sample_dice", False)):
        total = supervise(found.logits, batch, lowest=0.0, batch_dice=over_batch) - 1
        nnunet.check(f"{kind}_loss_{name}", total[None])
        nnunet.check(f"{kind}_dice_ce_{name}", _terms(found.logits, labels, over_batch))


def _terms(logits: Sequence[Tensor], labels: Tensor, over_batch: bool) -> Tensor:
    """(level, 2): minus Dice, and cross-entropy."""
    rows = []
    for level in logits:
        small = downsample_labels(labels, level.shape[2:])
        dice = segmentation_loss(level, small, SETS, cross_entropy=0.0, batch_dice=over_batch) - 1
        rows.append(torch.stack([dice, segmentation_loss(level, small, SETS, dice=0.0)]))
    return torch.stack(rows)


def test_labels_and_weights_of_the_levels(nnunet: Reference) -> None:
    labels = nnunet.inputs["labels"]
    for level in (1, 2, 3):
        nnunet.check(f"labels_level{level}", downsample_labels(labels, (32 >> level,) * 3).to(labels.dtype))
    nnunet.check("level_weights", np.array(level_weights(4, 0.0)), exact=True)
    nnunet.check("level_weights_six_stages", np.array(level_weights(5, 0.0)), exact=True)
