"""A method whose maps can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workbench.contracts import Prediction
from workbench.models.method import MethodModule
from workbench.models.options_base import MethodOptions

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

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        features = self.features(images)
        first, second = features.mean((2, 3, 4)).unbind(1)
        background = features[:, 1:]
        segmentation = torch.cat([background, features[:, :1], *[torch.full_like(background, -30.0)] * 2], 1)
        return Prediction(segmentation, {"idh": (first - second)[:, None]}, {"weights": images[:, :2]} if maps else {})


def volume() -> Tensor:
    return torch.randn(1, 2, 5, 6, 7, generator=torch.Generator().manual_seed(0))


PRESENT = torch.ones(1, 2, dtype=torch.bool)
