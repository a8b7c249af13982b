"""Arrays become batches: a pure function of (seed, step), so that a resumed run sees what an undisturbed one would have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field

from workbench.contracts import MARKERS, Batch
from workbench.errors import InputError, ParameterError, Problem
from workbench.prepare.store import PreparedCase, PreparedCohort
from workbench.sampling import augmentation
from workbench.sampling.augmentation import AugmentationSettings
from workbench.sampling.corruption import check_mask_noise, misregistered, noisy_labels, registration_errors
from workbench.sampling.dropout import drop_each, drop_subset
from workbench.sampling.patches import Voxel, box_centre, foreground_centre, jittered_mask_centre, random_centre, read_patch
from workbench.seeding import stream


class SamplingSettings(BaseModel):
    """How batches are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patch: tuple[int, int, int] = Field(default=(96, 96, 96), description="voxels along X, Y, Z")
    mode: Literal["patch", "whole", "tumour"] = Field(
        default="patch", description="random patches, the brain box, or around the tumour"
    )
    batch_size: int = Field(default=2, ge=1)
    foreground: float = Field(
        default=1 / 3, ge=0, le=1, description="patch mode: share of samples that are sure to hold foreground"
    )
    jitter: int = Field(
        default=8, ge=0, description="tumour mode: largest shift from the mask's centroid, in voxels along each axis"
    )
    modality_dropout: float = Field(
        default=0.0, ge=0, le=1, description="probability, see dropout_mode; at least one modality stays"
    )
    dropout_mode: Literal["each", "subset"] = Field(default="each", description="drop each modality, or draw a subset uniformly")
    withhold: tuple[str, ...] = Field(default=(), description="modalities never shown: they count as not acquired")
    oversample: str = Field(default="", description="marker whose classes are to come up equally often; empty: every case does")
    balance: Literal["cases", "images", "datasets"] = Field(
        default="cases", description="what comes up equally often: cases, images, or datasets (in each of which images do)"
    )
    mask_noise: Literal["none", "eroded", "dilated", "shifted", "dropped"] = Field(
        default="none", description="what is wrong with the masks, see `corruption`; patches still lie where the true masks say"
    )
    mask_noise_mm: float = Field(default=3.0, gt=0, description="how far masks are eroded, dilated or shifted")
    mask_noise_share: float = Field(default=0.5, gt=0, le=1, description="share of cases with such masks; dropped: of lesions")
    misregistration: float = Field(
        default=0.0, ge=0, description="mm by which each sequence but the first that a case shows lies aside"
    )
    augment: bool = Field(default=True, description="whether `Sampler.augment` changes anything")
    augmentation: AugmentationSettings = AugmentationSettings()

    def model_post_init(self, context: Any) -> None:
        """Check what no single field's rule says."""
        if min(self.patch) < 1:
            raise ValueError(f"patch: expected three sizes of at least 1 voxel, found {self.patch}")


class Sampler:
    """Draws batches of prepared cases.

    Samples are numbered through: sample k is position k mod n of epoch k // n's permutation of the n cases, so every case
    comes up equally often whatever the batch size. With share f of foreground, sample k is centred on foreground where
    floor((k + 1) f) > floor(k f): exactly that share, not only on average.

    Args:
        prepared: the prepared cohort.
        cases: rows of the cohort's table; the cases to draw from, with their markers.
        settings: how.
        seed: of everything that is drawn.
        modalities: the channels wanted, by name and in order; empty = the prepared ones. One that the cohort lacks is
            zero and not present.

    Raises:
        InputError: a case has none of the wanted modalities, or there is no case.
        WorkbenchError: a case was not prepared.
        ParameterError: masks would stay as they are, or be empty, see `corruption.check_mask_noise`.
    """

    def __init__(
        self,
        prepared: PreparedCohort,
        cases: pd.DataFrame,
        settings: SamplingSettings,
        seed: int,
        modalities: Sequence[str] = (),
    ) -> None:
        self.prepared = prepared
        self.settings = settings
        self.seed = seed
        self.modalities = tuple(modalities) or prepared.modalities
        check_mask_noise(settings.mask_noise, settings.mask_noise_mm, settings.mask_noise_share, prepared.spacing)
        self.names = [str(name) for name in cases["case"]]
        if not self.names:
            raise InputError(Problem(message="there is no case to draw from", remedy="check the split and the filter of cases"))
        shown = [name for name in self.modalities if name not in settings.withhold]
        problems = [problem for name in self.names if (problem := _without_images(prepared.case(name), shown))]
        if problems:
            raise InputError(*problems)
        self.markers = {str(row["case"]): marker_values(row) for _, row in cases.iterrows()}
        if settings.balance != "cases":
            self.names = [name for name in self.names for _ in range(sum(self._shows(name)))]
        if settings.balance == "datasets":
            source = dict(zip(map(str, cases["case"]), datasets(cases), strict=True))
            groups: dict[Any, list[str]] = {}
            for name in self.names:
                groups.setdefault(source[name], []).append(name)
            self.names += _evened(groups, seed)
        if settings.oversample:
            self.names += repeats(self.names, self.markers, settings.oversample, seed)

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every case has come up at least once."""
        return -(-len(self.names) // self.settings.batch_size)

    def batch(self, step: int) -> Batch:
        """The batch of a step: CPU tensors, images float32, not yet augmented.

        `target` is None, or, where modalities were dropped, the images before that. `record` says what was drawn.
        """
        size = self.settings.batch_size
        return _collate([self._sample(step * size + index) for index in range(size)], self.modalities, step)

    def augment(self, batch: Batch, step: int) -> Batch:
        """The batch augmented as the settings say, on its device; unchanged where they say not to."""
        if not self.settings.augment:
            return batch
        return augmentation.apply(batch, augmentation.draw(self.seed, step, batch, self.settings.augmentation))

    def _shows(self, name: str) -> list[bool]:
        """Per modality, whether a case shows it."""
        case = self.prepared.case(name)
        there = {m for m, has in zip(case.modalities, case.present, strict=True) if has and m not in self.settings.withhold}
        return [name in there for name in self.modalities]

    def _sample(self, number: int) -> dict[str, Any]:
        name = self.names[_order(self.seed, number // len(self.names), len(self.names))[number % len(self.names)]]
        try:
            return self._read_sample(name, number)
        except Exception as error:
            error.add_note(f"while drawing from case {name}")  # in a data loading process nothing else says which it was
            raise

    def _read_sample(self, name: str, number: int) -> dict[str, Any]:
        case = self.prepared.case(name)
        rng = stream(self.seed, "sample", number)
        centre, kind = self._centre(case, number, rng)
        sample = _read(case, centre, self.settings.patch, self.modalities, self.markers[name], self.settings.withhold)
        sample["record"] = {"case": name, "sample": number, "centre": list(centre), "kind": kind}
        self._corrupt(sample, case, centre)
        if self.settings.modality_dropout:
            drop = drop_each if self.settings.dropout_mode == "each" else drop_subset
            kept = drop(sample["present"], self.settings.modality_dropout, stream(self.seed, "dropout", number))
            gone = np.asarray(sample["present"]) & ~np.asarray(kept)
            sample["record"]["dropped"] = [m for m, out in zip(self.modalities, gone, strict=True) if out]
            if gone.any():
                sample["target"] = sample["images"]
                sample["images"] = np.where(gone[:, None, None, None], np.float16(0), sample["images"])
                sample["present"] = kept
        return sample

    def _corrupt(self, sample: dict[str, Any], case: PreparedCase, centre: Voxel) -> None:
        """What the settings say is wrong with the data, put into a sample and its record."""
        s = self.settings
        if s.misregistration:
            shown = [name for name, there in zip(self.modalities, sample["present"], strict=True) if there]
            errors = registration_errors(self.seed, case.name, shown, s.misregistration)
            for name, image in misregistered(case, centre, s.patch, errors).items():
                sample["images"][self.modalities.index(name)] = image
            sample["record"]["misregistration"] = {name: error.tolist() for name, error in errors.items()}
        if s.mask_noise != "none" and sample["labels"] is not None:
            sample["labels"] = noisy_labels(
                case, centre, s.patch, kind=s.mask_noise, distance=s.mask_noise_mm, share=s.mask_noise_share, seed=self.seed
            )
            sample["record"]["mask_noise"] = s.mask_noise

    def _centre(self, case: PreparedCase, number: int, rng: np.random.Generator) -> tuple[Voxel, str]:
        settings = self.settings
        if settings.mode == "whole":
            return box_centre(case.shape), "whole"
        if settings.mode == "tumour":
            return jittered_mask_centre(case, settings.jitter, rng), "tumour"
        share = settings.foreground
        if int((number + 1) * share + 1e-9) > int(number * share + 1e-9):
            found = foreground_centre(case, settings.patch, rng)
            if found is not None:
                return found, "foreground"
        return random_centre(case.shape, settings.patch, rng), "random"


def repeats(names: Sequence[str], markers: Mapping[str, Mapping[str, float]], marker: str, seed: int) -> list[str]:
    """Cases to draw again, so that each value of a marker is as frequent as its most frequent one.

    Whole rounds of a value, and for the rest a random choice from it. Cases of unknown value are not drawn again.

    Args:
        names: the cases, each once.
        markers: case -> marker -> value; NaN = unknown.
        marker: whose values are balanced.
        seed: of the choice.

    Raises:
        ParameterError: an unknown marker.
    """
    if marker not in MARKERS:
        raise ParameterError(f"oversample: marker '{marker}' is unknown; there are {', '.join(MARKERS)}")
    classes: dict[float, list[str]] = {}
    for name in names:
        value = markers[name][marker]
        if value == value:  # NaN differs from itself
            classes.setdefault(value, []).append(name)
    return _evened({int(value): of_class for value, of_class in classes.items()}, seed)


def _evened(classes: Mapping[Any, list[str]], seed: int) -> list[str]:
    """What must be drawn again so that each class is as frequent as the largest: whole rounds, then a random choice."""
    largest = max((len(of_class) for of_class in classes.values()), default=0)
    again = []
    for value, of_class in sorted(classes.items()):
        rounds, rest = divmod(largest - len(of_class), len(of_class))
        chosen = stream(seed, "oversample", value).permutation(len(of_class))[:rest]
        again += of_class * rounds + [of_class[i] for i in sorted(chosen)]
    return again


def datasets(cases: pd.DataFrame) -> list[str]:
    """Per case its data set; its site where the table does not know."""
    known = cases["dataset"] if "dataset" in cases else pd.Series(None, index=cases.index, dtype=object)
    return [str(name) for name in known.fillna(cases["site"])]


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(int(v) for v in stream(seed, "order", epoch).permutation(count))


def _read(
    case: PreparedCase,
    centre: Voxel,
    patch: Sequence[int],
    modalities: tuple[str, ...],
    markers: dict[str, float],
    withhold: Sequence[str] = (),
) -> dict[str, Any]:
    images, labels = read_patch(case, centre, patch, modalities)
    images[[index for index, name in enumerate(modalities) if name in withhold]] = 0
    there = {m: bool(has) and m not in withhold for m, has in zip(case.modalities, case.present, strict=True)}
    return {
        "case": case.name, "images": images, "labels": labels, "label_set": case.label_set, "centre": centre,
        "present": [there.get(name, False) for name in modalities], "markers": markers,
    }  # fmt: skip


def _collate(samples: list[dict[str, Any]], modalities: tuple[str, ...], step: int) -> Batch:
    images = torch.from_numpy(np.stack([s["images"] for s in samples])).float()
    labels = None
    if any(s["labels"] is not None for s in samples):
        empty = np.zeros(samples[0]["images"].shape[1:], np.uint8)
        labels = torch.from_numpy(np.stack([empty if s["labels"] is None else s["labels"] for s in samples])).long()
    target = None
    if any("target" in s for s in samples):
        target = torch.from_numpy(np.stack([s.get("target", s["images"]) for s in samples])).float()
    return Batch(
        modalities=modalities,
        images=images,
        present=torch.tensor([s["present"] for s in samples], dtype=torch.bool),
        labels=labels,
        label_set=tuple(s["label_set"] for s in samples),
        markers={m: torch.tensor([s["markers"][m] for s in samples], dtype=torch.float32) for m in MARKERS},
        cases=tuple(s["case"] for s in samples),
        target=target,
        centre=torch.tensor([s["centre"] for s in samples], dtype=torch.long),
        record={"step": step, "samples": [s["record"] for s in samples]},
    )


def marker_values(row: pd.Series) -> dict[str, float]:
    """Marker -> value of a row of the cohort's table; NaN = unknown."""
    return {m: float("nan") if m not in row.index or pd.isna(row[m]) else float(row[m]) for m in MARKERS}


def _without_images(case: PreparedCase, wanted: Sequence[str]) -> Problem | None:
    present = [name for name, there in zip(case.modalities, case.present, strict=True) if there]
    if set(present) & set(wanted):
        return None
    return Problem(
        case=case.name,
        message=f"expected at least one of {', '.join(wanted)}, found only {', '.join(present) or 'no image'}",
        remedy="leave the case out, or choose modalities that it has",
    )
