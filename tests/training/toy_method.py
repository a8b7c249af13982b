"""A method small enough to be trained in milliseconds, and batches that are functions of their index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from workbench.contracts import Batch, Prediction, Stage
from workbench.seeding import derive_seed, stream

SHAPE = (6, 5, 4)
MODALITIES = ("t1", "t2")


class ToyMethod(nn.Module):
    """Two convolutions with drop-out and batch norm, and a marker head: segmentation and one binary marker."""

    name = "toy"
    modalities = MODALITIES
    markers = ("idh",)
    classes = 2
    divisor = 1
    minimum = 1
    clipped: tuple[str, ...] = ()

    def __init__(self, width: int = 4, dropout: float = 0.2, stages: list[Stage] | None = None, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "toy"))
            self.encoder = nn.Conv3d(2, width, 3, padding=1)
            self.norm = nn.BatchNorm3d(width) if dropout else nn.Identity()
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Conv3d(width, 2, 1)
            self.marker = nn.Linear(width, 1)
        self.recipe = stages or [Stage("joint")]

    def forward(self, images, present, modalities=None, *, tasks=("segmentation", "markers"), maps=False) -> Prediction:
        features = self.dropout(torch.relu(self.norm(self.encoder(images * present[:, :, None, None, None]))))
        segmentation = self.head(features) if "segmentation" in tasks else None
        markers = {"idh": self.marker(features.mean((2, 3, 4)))} if "markers" in tasks else {}
        return Prediction(segmentation=segmentation, markers=markers)

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        terms = {}
        if prediction.segmentation is not None:
            terms["segmentation/ce"] = nn.functional.cross_entropy(prediction.segmentation, batch.labels)
        if prediction.markers:
            logits = prediction.markers["idh"][:, 0]
            terms["markers/idh"] = nn.functional.binary_cross_entropy_with_logits(logits, batch.markers["idh"])
        return terms

    def stages(self) -> list[Stage]:
        return self.recipe

    def enter_stage(self, stage: Stage) -> tuple[str, ...]:
        return ()


def toy_batches(batch_size: int = 2, seed: int = 0) -> Callable[[int], Batch]:
    """index -> batch; the samples of consecutive indices follow one another, whatever the batch size."""

    def batch(index: int) -> Batch:
        images, labels, idh = [], [], []
        for number in range(index * batch_size, (index + 1) * batch_size):
            rng = stream(seed, "toy sample", number)
            image = rng.normal(size=(2, *SHAPE)).astype(np.float32)
            images.append(image)
            labels.append(image.mean(0) > 0.3)
            idh.append(float(image.mean() > 0))
        return Batch(
            modalities=MODALITIES,
            images=torch.from_numpy(np.stack(images)),
            present=torch.ones(batch_size, 2, dtype=torch.bool),
            labels=torch.from_numpy(np.stack(labels)).long(),
            label_set=("WT",) * batch_size,
            markers={"idh": torch.tensor(idh)},
            cases=tuple(f"toy-{index * batch_size + i}" for i in range(batch_size)),
        )

    return batch
