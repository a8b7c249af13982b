"""Method and loss as one module: the terms that count, and the precision in which they are computed."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from toy_method import ToyMethod, toy_batches

from workbench.contracts import MARKER_TASK, SEGMENTATION, Batch, Prediction, Stage
from workbench.training.objective import Objective


@pytest.mark.parametrize(
    ("tasks", "terms"),
    [((SEGMENTATION,), {"segmentation/ce"}), ((MARKER_TASK,), {"markers/idh"}),
     ((SEGMENTATION, MARKER_TASK), {"segmentation/ce", "markers/idh"})],
)  # fmt: skip
def test_a_stage_chooses_the_terms_and_their_sum_is_differentiable(tasks: tuple[str, ...], terms: set[str]) -> None:
    model = ToyMethod(dropout=0)
    found = Objective(model, nullcontext, channels_last=False)(toy_batches()(0), Stage("only", tasks=tasks), 0.0)
    assert set(found) == terms
    sum(found.values()).backward()
    assert (model.head.weight.grad is not None) == (SEGMENTATION in tasks)
    assert (model.marker.weight.grad is not None) == (MARKER_TASK in tasks)


class Witness(ToyMethod):
    """Says what its forward pass and its loss were given."""

    def forward(self, images, present, modalities=None, **options) -> Prediction:  # type: ignore[no-untyped-def]
        self.layout = images.is_contiguous(memory_format=torch.channels_last_3d)
        prediction = super().forward(images, present, modalities, **options)
        self.computed_in = prediction.segmentation.dtype
        return prediction

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        self.judged_in, self.autocast, self.progress = prediction.segmentation.dtype, torch.is_autocast_enabled("cpu"), progress
        return super().loss(prediction, batch, progress)


def test_the_network_computes_in_half_precision_and_the_loss_in_full() -> None:
    model = Witness(dropout=0)
    half = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    with half():  # accelerate wraps the whole
        Objective(model, half, channels_last=True)(toy_batches()(0), Stage("joint"), 0.25)
    assert (model.computed_in, model.judged_in) == (torch.bfloat16, torch.float32)
    assert not model.autocast
    assert model.layout
    assert model.progress == 0.25
