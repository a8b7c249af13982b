"""`PretrainingModule`: what every self-supervised method adds to `MethodModule`.

It learns from images alone, on any cohort: no mask, no marker, any sequences, any of them missing. In training
its `forward` draws the pretext tasks (from torch's global generator, which the training loop seeds by the step) and puts what the
loss needs into `auxiliary`; in evaluation it reads the images as they are. `examine` poses the tasks to given cases with a seed
of its own, so that scores of different steps and runs are of the same questions. What is kept at the end is the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from workbench.contracts import PRETRAINING, Stage
from workbench.models.method import MethodModule
from workbench.models.options_base import MethodOptions


@dataclass(frozen=True)
class Examination:
    """How a pretraining method answers its own questions about some cases."""

    metrics: dict[str, Tensor]
    """Name -> (B,), one value per case; NaN where a case cannot be asked."""
    voxels: Tensor
    """(B,) brain voxels that the metrics were measured on."""
    pictures: dict[str, Tensor]
    """Title -> (B, M, X, Y, Z): what was shown, what came back, what was wanted."""


class PretrainingModule(MethodModule):
    """Base of the self-supervised methods. A subclass implements `forward_arranged`, `loss`, `examine`, `encoder_state` and
    `encoder_description`.

    Args:
        modalities: the sequences it is built for, in the order of its input channels.
        classes: ignored; it segments nothing.
        markers: ignored; it predicts none.
        options: the method's own settings.
    """

    score_metric: ClassVar[str] = "reconstruction_l1"
    """The metric of `examine` by which the checkpoint is chosen."""
    higher_is_better: ClassVar[bool] = False
    picture_metric: ClassVar[str] = "hidden_l1"
    """The metric of `examine` that stands over a case's pictures."""

    def __init__(
        self, *, modalities: Sequence[str], classes: int = 2, markers: Sequence[str] = (), options: MethodOptions
    ) -> None:
        super().__init__(modalities=modalities, classes=2, markers=(), options=options)

    def stages(self) -> list[Stage]:
        """One stage of pretext tasks."""
        return [Stage("pretraining", 1.0, (PRETRAINING,))]

    def examine(self, images: Tensor, present: Tensor, modalities: Sequence[str] | None = None, *, seed: int) -> Examination:
        """Pose the pretext tasks to cases.

        Args:
            images: (B, M, X, Y, Z).
            present: (B, M).
            modalities: names of the M channels; None = `self.modalities`.
            seed: of everything that is drawn; the global random state is left as it was.
        """
        raise TypeError(f"{type(self).__name__} must implement examine")

    def token_features(self, images: Tensor, present: Tensor) -> Tensor | None:
        """(B, T, D): features of places of each case, for the collapse monitors; None = it has none.

        Images (B, M, X, Y, Z) and present (B, M) are arranged, as `forward_arranged` gets them.
        """
        return None

    def encoder_state(self) -> dict[str, Tensor]:
        """Name -> tensor of what other methods start from."""
        raise TypeError(f"{type(self).__name__} must implement encoder_state")

    def encoder_description(self) -> Mapping[str, Any]:
        """JSON-able: `architecture` (what can load the encoder), `method`, `modalities` and what else must agree."""
        raise TypeError(f"{type(self).__name__} must implement encoder_description")


def case_l1(difference: Tensor, where: Tensor) -> Tensor:
    """(B,) mean |difference| over `where`; NaN where a case has no such voxel."""
    weight = where.expand_as(difference).float()
    return (difference.abs() * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)


def reconstruction_examined(
    images: Tensor, present: Tensor, hidden: Tensor, shown: Tensor, back: Tensor, **others: Tensor
) -> Examination:
    """What came `back` of images shown without what is `hidden`, measured inside the brain; `others` are further metrics."""
    brain = (images != 0).any(1, keepdim=True)
    counted = brain & present[:, :, None, None, None]
    metrics = {
        "reconstruction_l1": case_l1(back - images, counted),
        "hidden_l1": case_l1(back - images, counted & hidden),
        "zero_l1": case_l1(images, counted & hidden),
    }
    return Examination(metrics | others, brain.flatten(1).sum(1), {"shown": shown, "reconstructed": back, "wanted": images})
