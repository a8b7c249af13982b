"""MedNeXt: deep supervision."""

from __future__ import annotations

import pytest
import torch

from workbench.contracts import Batch
from workbench.models.losses import segmentation_loss
from workbench.models.registry import create_model


def test_mednext_is_supervised_at_five_resolutions_with_halving_weights() -> None:
    model = create_model("mednext", modalities=("t1",), width=4, variant="S").train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 1, 32, 32, 32, generator=generator)
    labels = torch.randint(0, 4, (1, 32, 32, 32), generator=generator)
    batch = Batch(("t1",), images, torch.ones(1, 1, dtype=torch.bool), labels, ("glioma",), {})
    prediction = model(images, batch.present)
    outputs = [prediction.segmentation, *prediction.auxiliary.values()]
    assert [output.shape[-1] for output in outputs] == [32, 16, 8, 4, 2]
    expected = 0.0
    for level, output in enumerate(outputs):
        coarse = labels[:, :: 2**level, :: 2**level, :: 2**level] if level == 0 else None
        if coarse is None:
            coarse = torch.nn.functional.interpolate(labels[:, None].float(), size=output.shape[2:], mode="nearest-exact")[
                :, 0
            ].long()
        expected += 0.5**level / 1.9375 * float(segmentation_loss(output, coarse, ("glioma",)).detach())
    assert float(model.loss(prediction, batch, 0.0)["segmentation"].detach()) == pytest.approx(expected, rel=1e-5)
    plain = create_model("mednext", modalities=("t1",), width=4, variant="S", supervise_levels=False).train()
    assert not plain(images, batch.present).auxiliary
