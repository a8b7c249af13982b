"""The value types that pass between the rooms. Nothing here computes; torch is imported for type checking only.

Dimension letters: B batch, M modality, C class, X Y Z space (RAS+), k map channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

MIN_SUBJECTS, ROUGH_BELOW = 6, 15
"""Subjects below which a number has no interval, and below which its interval is rough: the nominal 95 % may be 85 %."""

MARKERS: tuple[str, ...] = ("idh", "codel", "tert", "mgmt", "grade")
"""Molecular markers and grade. All binary (0/1) except grade (2/3/4)."""

MARKER_TITLES: dict[str, str] = {
    "idh": "IDH mutation",
    "codel": "1p/19q co-deletion",
    "tert": "TERT promoter mutation",
    "mgmt": "MGMT promoter methylation",
    "grade": "WHO grade",
}

MARKER_POSITIVE: dict[str, str] = {"idh": "mutant", "codel": "co-deleted", "tert": "mutant", "mgmt": "methylated"}
"""Name of class 1 of each binary marker: the `class` column of markers.parquet. Grade rows carry '2', '3' or '4',
or only '4' where a method separates grade 4 from the rest."""

MODALITY_TITLES: dict[str, str] = {
    "t1": "T1",
    "t1c": "T1c",
    "t2": "T2",
    "flair": "FLAIR",
    "dwi": "DWI",
    "adc": "ADC",
    "cbv": "rCBV",
    "swi": "SWI",
    "pd": "PD",
}

SEGMENTATION, MARKER_TASK, PRETRAINING = "segmentation", "markers", "pretraining"
"""What a method may be for. A pretraining method learns from images alone; what it leaves is an encoder."""

HELD_OUT = ("validation", "test", "external")
"""The splits that training does not see."""
JUDGED = ("test", "external")
"""Those by whose cases nothing was chosen either: on them a method is judged."""


@dataclass(frozen=True)
class Batch:
    """One batch as `sampling` makes it and `models` take it."""

    modalities: tuple[str, ...]
    """Names of the M channels, in order."""
    images: Tensor
    """(B, M, X, Y, Z) float; absent modalities are zero, and so is everything outside the brain."""
    present: Tensor
    """(B, M) bool: which modalities of each sample are there."""
    labels: Tensor | None
    """(B, X, Y, Z) long, canonical labels; None where no case of the batch has a mask."""
    label_set: tuple[str, ...]
    """Per sample, what its annotators could draw (a key of `labels.LABEL_SETS`); '' = this case has no mask."""
    markers: dict[str, Tensor]
    """Marker -> (B,) float, NaN where unknown; grade is 2, 3 or 4."""
    cases: tuple[str, ...] = ()
    """Case names, for messages and records."""
    target: Tensor | None = None
    """(B, M, X, Y, Z): what self-supervision reconstructs, the images before intensity augmentation."""
    centre: Tensor | None = None
    """(B, 3) long: voxel of the prepared array at the patch's centre."""
    record: dict[str, Any] = field(default_factory=dict)
    """What was drawn at random to make this batch: JSON-able, enough to make it again."""

    def to(self, device: Any, **options: Any) -> Batch:
        """The same batch with its tensors on `device`."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, **options)

        return replace(
            self,
            images=self.images.to(device, **options),
            present=self.present.to(device, **options),
            labels=move(self.labels),
            markers={name: value.to(device, **options) for name, value in self.markers.items()},
            target=move(self.target),
            centre=move(self.centre),
        )


@dataclass(frozen=True)
class Prediction:
    """What a method returns. Logits throughout; probabilities are made in inference and evaluation."""

    segmentation: Tensor | None = None
    """(B, C, X, Y, Z) softmax logits over canonical labels 0..C-1, or None."""
    markers: dict[str, Tensor] = field(default_factory=dict)
    """Marker -> (B, 1) logit for a binary marker, (B, classes) for grade: 1 = grade 4 against the rest, 3 = grades 2, 3, 4."""
    maps: dict[str, Tensor] = field(default_factory=dict)
    """Name -> (B, k, x, y, z), only when asked for: gates, attention, modality weights."""
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
    """Whatever the method's loss needs besides, e.g. deep-supervision outputs."""


@dataclass(frozen=True)
class Stage:
    """One stage of a method's recipe, e.g. segmentation first, then joint."""

    name: str
    share: float = 1.0
    """Share of the run's optimiser steps; the shares of a method's stages add up to 1."""
    tasks: tuple[str, ...] = (SEGMENTATION, MARKER_TASK)
    """The tasks whose loss terms count in this stage."""
    trainable: tuple[str, ...] = ()
    """Prefixes of the parameters that are trained; empty = all."""
    learning_rate: float = 1.0
    """Factor on the run's learning rate."""


class Method(Protocol):
    """What every registered method is: a torch module with these members (see `models.method.MethodModule`)."""

    modalities: tuple[str, ...]
    divisor: int
    minimum: int
    clipped: tuple[str, ...]

    def __call__(
        self,
        images: Tensor,
        present: Tensor,
        modalities: tuple[str, ...] | None = None,
        *,
        tasks: tuple[str, ...] = (SEGMENTATION, MARKER_TASK),
        maps: bool = False,
    ) -> Prediction:
        """Tensors in, prediction out; see `models.method`."""
        ...

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named terms; the objective is their sum. A term no sample of the batch supports is a zero that keeps the graph."""
        ...

    def stages(self) -> list[Stage]:
        """The recipe in stages, in order."""
        ...

    def enter_stage(self, stage: Stage) -> tuple[str, ...]:
        """Called before a stage's first step; the prefixes of the parameters that it made start anew."""
        ...


class Recorder(Protocol):
    """Where training puts what it has to say: the one thing it knows about the world outside.

    `records.run_folder.RunFolder` is one.
    """

    def scalar(self, name: str, value: float, step: int) -> None:
        """Record one number; after a resume the last value per (name, step) counts."""
        ...

    def checkpoint(self, name: str) -> Path:
        """Folder-less path stem under which training keeps the checkpoint of this name ('last', 'best')."""
        ...

    def should_stop(self) -> bool:
        """Whether somebody asked the run to stop; training then saves a checkpoint and returns."""
        ...
