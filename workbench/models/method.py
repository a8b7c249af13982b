"""`MethodModule`: what every registered method shares. Tensors in, `Prediction` out; it knows no cohort and no run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.contracts import MARKERS, SEGMENTATION, Batch, Prediction, Stage
from workbench.errors import ParameterError
from workbench.models.losses import SUPPORTED_CLASSES, marker_loss, segmentation_loss
from workbench.models.method_facts import BOTH_TASKS
from workbench.models.options_base import MethodOptions
from workbench.models.pretrained.seen import Seen

if TYPE_CHECKING:
    from workbench.models.pretrained.coverage import Coverage

SETS_AT_ONCE = 4
"""Sets of sequences in one batch: on a CPU small networks take a fifth to a half less time so, large ones about the same."""


class MethodModule(nn.Module):
    """Base of all methods. A subclass sets `name`, has `forward_arranged`, and overrides `loss` or `stages` where its paper does.

    Args:
        modalities: the sequences it is built for, in the order of its input channels.
        classes: segmentation classes including background: 2, 4 or 5.
        markers: the markers it predicts.
        options: the method's own settings.
    """

    name: str = ""
    divisor: int = 1
    """Every side of the input must be a multiple of this."""
    minimum: int = 1
    """The smallest side it takes."""
    open_modalities: bool = False
    """Whether it takes sequences that it was not built for, by name; such a method overrides `arrange`."""
    unknown: str = "train a run with it among 'modalities'"
    """What to do about a sequence that it was not built for."""
    draws_subsets: bool = False
    """Whether its own training shows subsets of a sample's sequences, whatever `modality_dropout` says."""
    clipped: tuple[str, ...] = ()
    """Prefixes of the parameters whose joint gradient norm is clipped in training; empty = all."""
    gated: bool = False
    """Whether markers are read through a tumour gate, so that `gate_change` means something."""
    needs: tuple[str, ...] = ()
    """Sequences without all of which a case is read otherwise than others are, as `fallback_note` says."""
    fallback_note: str = ""
    """How cases that lack one of `needs` are read."""

    def __init__(
        self, *, modalities: Sequence[str], classes: int = 4, markers: Sequence[str] = (), options: MethodOptions
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.classes = int(classes)
        self.markers = tuple(markers)
        self.options = options
        self.notes: tuple[str, ...] = ()
        """What this build does otherwise than its options say, and why; shown beside the diagram."""
        self.seen = Seen()
        """What its weights were trained on before: written into every checkpoint."""
        self.marker_weights: dict[str, Tensor] = {}
        """Class weights of the marker losses, from `losses.class_balance` over the training cases; empty = none."""
        self.marker_offsets: dict[str, Tensor] = {}
        """What logit adjustment adds to each class' logit in the marker losses, from `losses.log_prior`; empty = nothing."""
        self.focal_gamma = 0.0
        """Focusing exponent of the marker losses; 0 = cross-entropy."""
        self.label_smoothing = 0.0
        """Share of each marker label that is spread over all classes."""
        self.gate_change: Callable[[Tensor], Tensor] | None = None
        """What is done to the tumour probability (B, 1, x, y, z) before it becomes a gate: explanations and sensitivity studies
        set it for a while. Methods without a gate ignore it."""
        _check_names("modality", self.modalities, None)
        _check_names("marker", self.markers, MARKERS)
        if not self.modalities:
            raise ParameterError(f"{self.name} needs at least one modality")
        if self.classes not in SUPPORTED_CLASSES:
            raise ParameterError(f"{self.name} has no {self.classes}-class form; choose 'classes' of {SUPPORTED_CLASSES}")

    def forward(
        self,
        images: Tensor,
        present: Tensor,
        modalities: Sequence[str] | None = None,
        *,
        tasks: Sequence[str] = BOTH_TASKS,
        maps: bool = False,
    ) -> Prediction:
        """Predict.

        Args:
            images: (B, M, X, Y, Z) z-scored intensities; what stands in an absent modality's channel is never read.
            present: (B, M) bool.
            modalities: names of the M channels; None = `self.modalities`. Unknown ones are left out, missing ones are absent.
            tasks: what to compute: a sliding-window pass asks for 'segmentation' alone.
            maps: also return attention and gate maps.

        Raises:
            ParameterError: sides that do not suit `divisor` and `minimum`, names that do not suit the channels, or a sample that
                shows no sequence the method knows.
        """
        self.check_size(images.shape[2:])
        images, present = self.arrange(images, present, modalities)
        self.check_shown(present)
        return self.forward_arranged(images, present, tasks=tuple(tasks), maps=maps)

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """The method itself: arranged images (B, M, X, Y, Z) and present (B, M) in, prediction out."""
        raise TypeError(f"{type(self).__name__} must implement forward_arranged")

    def forward_subsets(self, images: Tensor, shown: Tensor, modalities: Sequence[str] | None = None) -> list[Tensor]:
        """Segmentation logits of the same images for several sets of shown sequences.

        Args:
            images: (B, M, X, Y, Z).
            shown: (S, M) bool: the sequences of each set; every sample has all that any set shows.
            modalities: names of the M channels; None = `self.modalities`.

        Returns:
            S tensors (B, C, X, Y, Z), each what `forward` gives for that set.

        Raises:
            ParameterError: there is no set, or one shows nothing.
        """
        if not len(shown) or not (shown.is_meta or bool(shown.any(dim=1).all())):
            raise ParameterError(f"{self.name}: each set of sequences must show at least one, and there must be a set")
        self.check_size(images.shape[2:])
        union = shown.any(dim=0, keepdim=True).expand(len(images), -1)
        arranged, _ = self.arrange(images, union, modalities)
        rows = [self.arrange(images[:1], row[None], modalities)[1][0] for row in shown.bool()]
        return self.subset_logits(arranged, torch.stack(rows))

    def subset_logits(self, images: Tensor, shown: Tensor) -> list[Tensor]:
        """`forward_subsets` on arranged images and sets. Here a few sets at a time make one batch; a method with parts that do
        not depend on the set overrides this and computes those once."""
        logits: list[Tensor] = []
        for rows in shown.split(SETS_AT_ONCE):
            present = rows.repeat_interleave(len(images), dim=0)
            stacked = images.repeat(len(rows), 1, 1, 1, 1)
            kept = torch.where(
                present[:, :, None, None, None], stacked, torch.zeros((), dtype=images.dtype, device=images.device)
            )
            found = self.forward_arranged(kept, present, tasks=(SEGMENTATION,), maps=False).segmentation
            if found is None:
                raise ParameterError(f"{self.name} does not segment")
            logits += found.split(len(images))
        return logits

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor | None:
        """(B, D): one vector per sample of what the method makes of its sequences, e.g. a gate's bottleneck; None = it has none.

        Images (B, M, X, Y, Z) and present (B, M) are arranged, as `forward_arranged` gets them.
        """
        return None

    def arrange(self, images: Tensor, present: Tensor, given: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Channels into the method's own order, by name; absent modalities become exactly zero, whatever they held."""
        given = self.modalities if given is None else tuple(given)
        self.check_channels(images, present, given)
        present = present.bool()
        if given != self.modalities:
            if not set(given) & set(self.modalities):
                raise ParameterError(f"{self.name} was built for {', '.join(self.modalities)} and given only {', '.join(given)}")
            index = [given.index(name) if name in given else -1 for name in self.modalities]
            has = torch.tensor([i >= 0 for i in index], device=present.device)
            images, present = images[:, index], present[:, index] & has
        return torch.where(
            present[:, :, None, None, None], images, torch.zeros((), dtype=images.dtype, device=images.device)
        ), present

    def check_channels(self, images: Tensor, present: Tensor, given: Sequence[str]) -> None:
        """Refuse names that do not suit the channels, or that come twice."""
        if images.shape[1] != len(given) or tuple(present.shape) != tuple(images.shape[:2]):
            raise ParameterError(
                f"{self.name} was given {len(given)} modality names ({', '.join(given)}) for images of shape "
                f"{tuple(images.shape)} and a presence table of shape {tuple(present.shape)}; the second sizes must agree"
            )
        _check_names("modality", given, None)

    def check_shown(self, present: Tensor) -> None:
        """Refuse samples without any sequence: a network would answer nothing but its biases."""
        if present.device.type == "meta":
            return
        empty = [str(index) for index, shown in enumerate(present.any(dim=1).tolist()) if not shown]
        if empty:
            known = "any sequence" if self.open_modalities else f"one of {', '.join(self.modalities)}"
            raise ParameterError(f"sample {', '.join(empty)} of the batch shows no sequence: {self.name} needs {known}")

    def check_size(self, shape: Sequence[int]) -> None:
        """Refuse sides that the method cannot take, naming the nearest that it can."""
        if all(side % self.divisor == 0 and side >= self.minimum for side in shape):
            return
        good = [max(self.minimum, -(-side // self.divisor) * self.divisor) for side in shape]
        raise ParameterError(
            f"{self.name} needs sides that are multiples of {self.divisor} and at least {self.minimum} voxels; found "
            f"{'x'.join(str(side) for side in shape)}: pad, or choose a patch of {'x'.join(str(side) for side in good)}"
        )

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named terms whose sum is the objective; `progress` in [0, 1] is the share of the run that is done."""
        terms: dict[str, Tensor] = {}
        if prediction.segmentation is not None:
            terms["segmentation"] = segmentation_loss(prediction.segmentation, batch.labels, batch.label_set)
        return terms | self.marker_terms(prediction, batch)

    def marker_terms(
        self, prediction: Prediction, batch: Batch, weight: float = 1.0, shares: Mapping[str, float] | None = None
    ) -> dict[str, Tensor]:
        """One masked loss term per predicted marker, times `weight` and its own of `shares` (1 where it names none); a marker
        the batch does not list is unknown everywhere."""
        terms = {}
        for marker, logits in prediction.markers.items():
            values = batch.markers.get(marker)
            if values is None:
                values = torch.full((len(logits),), float("nan"), device=logits.device)
            terms[marker] = weight * (shares or {}).get(marker, 1.0) * marker_loss(
                logits, values, marker, self.marker_weights.get(marker),
                focal_gamma=self.focal_gamma, label_smoothing=self.label_smoothing, offsets=self.marker_offsets.get(marker),
            )  # fmt: skip
        return terms

    def load_pretrained(self, path: str | Path) -> Coverage:
        """Start from a file of pretrained weights; the account says what became of every tensor, `coverage.seen` what they saw.

        Raises:
            ParameterError: this method takes none.
            InputError: the file cannot be read or does not fit.
        """
        raise ParameterError(f"{self.name} takes no pretrained weights: leave 'pretrained' empty")

    def upgraded(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A state dict of an older version of the method under today's names; one of today as it is."""
        return state

    def stages(self) -> list[Stage]:
        """The recipe: one joint stage, unless the method says otherwise."""
        return [Stage("joint", 1.0, BOTH_TASKS if self.markers else (SEGMENTATION,))]

    def enter_stage(self, stage: Stage) -> tuple[str, ...]:
        """Called before the first step of a stage, under a seed of its own: parameters may be drawn anew here.

        Returns:
            Prefixes of those that were: the optimiser then forgets their momentum.
        """
        return ()

    def parameter_count(self) -> int:
        """All parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def parameters_by_component(self) -> dict[str, int]:
        """Parameters of each part; they add up to `parameter_count`."""
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
        own = sum(parameter.numel() for parameter in self.parameters(recurse=False))
        return {name: count for name, count in counts.items() if count} | ({"own": own} if own else {})

    def cam_layers(self) -> tuple[str, ...]:
        """Names of the modules whose output Grad-CAM can read, the one to prefer first; () = none."""
        return ()

    def diagram(self) -> str:
        """The architecture as inline SVG, readable on light and dark pages."""
        raise TypeError(f"{type(self).__name__} must implement diagram")

    def architecture(self) -> Mapping[str, object]:
        """What a checkpoint must record to be refused by another architecture: JSON-able."""
        return {
            "method": self.name,
            "modalities": list(self.modalities),
            "classes": self.classes,
            "markers": list(self.markers),
            # without a path of one machine; `seen` says what was in it
            "options": self.options.without_later(self.options.model_dump(exclude={"pretrained"})),
            "seen": self.seen.model_dump(mode="json"),
        }


@contextmanager
def changed_gate(model: MethodModule, change: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """`gate_change` set for a while, e.g. to `torch.ones_like`: the gate open everywhere; as it was afterwards."""
    before = model.gate_change
    model.gate_change = change
    try:
        yield
    finally:
        model.gate_change = before


def _check_names(kind: str, names: Sequence[str], known: Sequence[str] | None) -> None:
    doubled = sorted({name for name in names if list(names).count(name) > 1})
    if doubled:
        raise ParameterError(f"{kind} {', '.join(doubled)} is named more than once in {', '.join(names)}")
    unknown = [name for name in names if known is not None and name not in known]
    if unknown:
        raise ParameterError(f"{kind} {', '.join(unknown)} is unknown; there are: {', '.join(known or ())}")
