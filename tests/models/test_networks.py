"""What the plain networks share: deep supervision and the drawing of levels."""

from __future__ import annotations

import pytest
import torch

from workbench.contracts import Batch
from workbench.models.losses import segmentation_loss
from workbench.models.networks import draw_levels, level_weights, supervise
from workbench.models.registry import create_model


def test_weights_halve_per_level_and_add_up_to_one() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    labels[:, :2] = 1  # whole blocks, which shrink to themselves
    batch = Batch(("t1",), torch.zeros(1, 1, 4, 4, 4), torch.ones(1, 1).bool(), labels, ("lesion",), {})
    outputs = [torch.randn(1, 2, side, side, side, generator=generator) for side in (4, 2)]
    fine = segmentation_loss(outputs[0], labels, ("lesion",))
    coarse = segmentation_loss(outputs[1], labels[:, ::2, ::2, ::2], ("lesion",))
    assert float(supervise(outputs, batch)) == pytest.approx(float(2 / 3 * fine + 1 / 3 * coarse))
    assert float(supervise(outputs[:1], batch)) == pytest.approx(float(fine))


def test_deep_supervision_leaves_the_coarsest_level_out() -> None:
    assert level_weights(5, 0.0) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])
    assert level_weights(1, 0.0) == [1.0]
    assert sum(level_weights(4, 0.1)) == pytest.approx(1)
    assert level_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7]), "unless nothing is said of it"


def test_levels_are_columns_joined_by_skips() -> None:
    model = create_model("segresnet", modalities=("t1", "flair"), classes=4, width=8)
    svg = draw_levels("Drawn", model, [("8 down",), ("16 down",)], ("32 bottom",), [("8 up",), ("16 up",)], skip="gated")
    assert all(f">{text}</text>" in svg for text in ("t1, flair", "8 down", "16 up", "32 bottom", "4 classes", "gated"))
    assert svg.count("<path d=") == 1 + 8  # the arrow head; in, two skips, down, down, up, up, out
