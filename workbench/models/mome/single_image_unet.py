"""Networks that read one image of one sequence at a time, and the U-Nets that MoME is compared with (arXiv 2405.10246).

`pooled_unet` is one U-Net for every sequence, which is not told which one it reads. A task-specific U-Net is the same network on
the images of one sequence of one collection: filter the cohort (`workbench cohort filter`) and name one of `modalities`. A full
task-specific set is one network for each collection and sequence: 14 of them, 437 M parameters, for the paper's six collections;
`steps.cost` counts any set.

How a network of one image meets cases of several sequences:

1. In training one present sequence is drawn per sample, each with the same chance, by torch's global generator, which the loop
   seeds by step. With `balance=images` a case comes up as often as it has sequences, so that every image has the same chance (the
   published sampling); `cases` and `datasets` are ours.
2. A case is predicted from each of its present sequences separately, and the logits are averaged (own choice: the paper has one
   result per image; `several_images=probabilities` averages these instead). What all its subsets need is thus computed once.
3. Grad-CAM reads one map per case, and there is one per sequence here: no layer is named for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.errors import ParameterError
from workbench.models.method import MethodModule
from workbench.models.mome import diagram
from workbench.models.mome.blocks import PlainUNet, deep_loss, plan
from workbench.models.mome.facts import PlainUNetOptions, PooledUNetOptions, SingleImageOptions


class PlanMethod(MethodModule):
    """What the methods of the comparison share: nnU-Net's plan, and refusing samples that show none of their sequences."""

    options: PlainUNetOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: PlainUNetOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        self.divisor = 2 ** (options.levels - 1)
        self.minimum = 2 * self.divisor  # instance norm needs more than one voxel at the bottom

    def arrange(self, images: Tensor, present: Tensor, given: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """As everywhere; a sample without any sequence that the method knows is refused.

        Raises:
            ParameterError: no given name is known, or a sample shows none of the known ones.
        """
        names = self.modalities if given is None else tuple(given)
        known = ", ".join(self.modalities)
        if not set(names) & set(self.modalities):
            raise ParameterError(f"{self.name} was built for {known} and given only {', '.join(names)}: {self.unknown}")
        images, present = super().arrange(images, present, given)
        if present.is_meta:  # counted, not computed: nothing to read
            return images, present
        empty = [str(index) for index, shown in enumerate(present.any(1).tolist()) if not shown]
        if empty:
            raise ParameterError(f"sample {', '.join(empty)} of the batch shows none of {known}, of which {self.name} needs one")
        return images, present


@dataclass(frozen=True)
class Reading:
    """What was made of the images of one sequence."""

    index: int
    """The sequence's place in `modalities`."""
    rows: Tensor
    """(b,) long: the samples that show it."""
    logits: Tensor
    """(b, C, X, Y, Z)."""
    maps: dict[str, Tensor] = field(default_factory=dict)


class SingleImageMethod(PlanMethod):
    """A method that reads one image: a subclass implements `learn`, `read` and `pooled`."""

    options: SingleImageOptions
    draws_subsets = True  # one image at a time

    def learn(self, image: Tensor, which: Tensor, tasks: tuple[str, ...]) -> Prediction:
        """Training: images (B, 1, X, Y, Z) of sequences `which` (B,), as indices of `modalities`."""
        raise TypeError(f"{type(self).__name__} must implement learn")

    def read(self, image: Tensor, maps: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 1, X, Y, Z) -> logits (B, C, X, Y, Z) and, if asked, maps."""
        raise TypeError(f"{type(self).__name__} must implement read")

    def pooled(self, image: Tensor) -> Tensor:
        """(B, 1, X, Y, Z) -> (B, D): the bottleneck averaged over its voxels."""
        raise TypeError(f"{type(self).__name__} must implement pooled")

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """In training one present image per sample; else each present image, averaged."""
        if self.training:
            image, which = draw_image(images, present)
            return self.learn(image, which, tasks)
        if SEGMENTATION not in tasks:
            return Prediction()
        if present.is_meta:  # what operations are counted of is one image, whatever the number of sequences
            return Prediction(self.read(images[:, :1])[0])
        found = self.readings(images, present, maps)
        drawn = {name: average([(f, f.maps[name]) for f in found], present) for name in found[0].maps}
        return Prediction(segmentation=self._combined(found, present), maps=drawn)

    def subset_logits(self, images: Tensor, shown: Tensor) -> list[Tensor]:
        """Each sequence is read once; every set is an average."""
        sets = [row[None].expand(len(images), -1) for row in shown]
        found = self.readings(images, shown.any(0)[None].expand(len(images), -1))
        return [self._combined(found, present) for present in sets]

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, D): the bottleneck averaged over its voxels and over the sequences shown."""
        found = []
        for index, rows in _shown(present):
            reading = Reading(index, rows, self.pooled(images[rows, index, None]).float())
            found.append((reading, reading.logits))
        return average(found, present)

    def readings(self, images: Tensor, present: Tensor, maps: bool = False) -> list[Reading]:
        """Every image that is there, one pass per sequence; what is absent is not read."""
        return [Reading(index, rows, *self.read(images[rows, index, None], maps)) for index, rows in _shown(present)]

    def _combined(self, found: Sequence[Reading], present: Tensor) -> Tensor:
        if self.options.several_images == "logits":
            return average([(f, f.logits.float()) for f in found], present)
        mean = average([(f, f.logits.float().softmax(1)) for f in found], present)
        return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()


def draw_image(images: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """One present image per sample, each with the same chance: (B, 1, X, Y, Z) and its sequence (B,) long.

    Drawn on the CPU from torch's global generator, so that a device does not change what is drawn.
    """
    chance = torch.rand(present.shape).to(present.device)
    which = torch.where(present, chance, torch.full_like(chance, -1.0)).argmax(1)
    return images[torch.arange(len(images), device=images.device), which][:, None], which


def average(values: Sequence[tuple[Reading, Tensor]], present: Tensor) -> Tensor:
    """Mean per sample over its present sequences of what was made of each; (B, ...)."""
    first = values[0][1]
    total = first.new_zeros((len(present), *first.shape[1:]))
    for reading, value in values:
        kept = present[reading.rows, reading.index]
        total = total.index_add(0, reading.rows[kept], value[kept])
    return total / present.sum(1).view(-1, *[1] * (total.ndim - 1))


def _shown(present: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(place of a sequence, the samples (b,) that show it) for every sequence that some sample shows."""
    for index in range(present.shape[1]):
        rows = present[:, index].nonzero()[:, 0]
        if len(rows):
            yield index, rows


class PooledUNet(SingleImageMethod):
    """One nnU-Net for all sequences, not told which it reads; built for one sequence it is a task-specific network.

    Args:
        modalities, classes, markers, options: as everywhere.
        net: a network that is there already, e.g. one expert of a mixture.
    """

    name = "pooled_unet"
    options: PooledUNetOptions

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        classes: int,
        markers: Sequence[str],
        options: SingleImageOptions,
        net: PlainUNet | None = None,
    ) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        self.net = PlainUNet(1, self.classes, plan(options)) if net is None else net

    def learn(self, image: Tensor, which: Tensor, tasks: tuple[str, ...]) -> Prediction:
        """Logits at all decoder levels."""
        if SEGMENTATION not in tasks:
            return Prediction()
        finest, *coarser = self.net(image).logits
        return Prediction(finest, auxiliary={f"level{index}": logits for index, logits in enumerate(coarser, start=1)})

    def read(self, image: Tensor, maps: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """The finest logits; no maps."""
        return self.net(image, coarse=False).logits[0], {}

    def pooled(self, image: Tensor) -> Tensor:
        """The bottleneck, averaged."""
        bottom: Tensor = self.net(image, coarse=False).bottom
        return bottom.mean((2, 3, 4))

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """nnU-Net's: soft Dice plus cross-entropy at all levels but the coarsest."""
        if prediction.segmentation is None:
            return {}
        outputs = [prediction.segmentation, *prediction.auxiliary.values()]
        return {"segmentation": deep_loss(outputs, batch, self.options.lowest_weight, self.options.batch_dice)}

    def diagram(self) -> str:
        """One network, read once per sequence."""
        return diagram.pooled(self.options, self.modalities, self.classes)
