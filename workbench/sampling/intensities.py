"""nnU-Net's random changes of intensity, by MONAI's transforms: what is drawn for a sample, and carrying it out.

Isensee et al., Nature Methods 2021; the numbers are those of version 2's default trainer. One draw per sample and operation
decides whether it happens; a value is then drawn per modality. Blur and low resolution meet each modality with chance 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import (
    AdjustContrast,
    GaussianSmooth,
    RandSimulateLowResolution,
    ScaleIntensity,
    ScaleIntensityFixedMean,
)
from monai.utils import convert_to_tensor
from torch import Tensor

from workbench.sampling.augmentation_settings import AugmentationSettings
from workbench.seeding import derive_seed, stream

OPERATIONS = ("gaussian", "blur", "brightness", "contrast", "low_resolution", "gamma_inverted", "gamma_plain")
"""In the order in which they are carried out; each is also the name of its probability in the settings."""
_SOME = 0.5
"""Chance of each modality where an operation does not meet all of a sample's."""


def draw_intensities(seed: int, names: Sequence[str], settings: AugmentationSettings) -> dict[str, Any]:
    """What is done to one sample: operation -> modality -> value, for those of `OPERATIONS` that happen.

    Values: gaussian [deviation, seed], the same for all modalities; blur [deviation per axis]; brightness and contrast a
    factor; low_resolution the share of voxels per axis; gamma_inverted and gamma_plain an exponent.
    """
    happens = stream(seed, "operations").random(len(OPERATIONS))
    drawn: dict[str, Any] = {}
    for operation, chance in zip(OPERATIONS, happens, strict=True):
        if chance < getattr(settings, operation):
            values = {name: _value(operation, seed, name, settings) for name in names}
            found = {name: value for name, value in values.items() if value is not None}
            drawn |= {operation: found} if found else {}
    return drawn


def _value(operation: str, seed: int, name: str, settings: AugmentationSettings) -> Any:
    s = settings
    if operation == "gaussian":  # one for the whole sample
        return [float(stream(seed, operation).random()) * s.gaussian_deviation, derive_seed(seed, operation)]
    rng = stream(seed, operation, name)
    met = rng.random() < _SOME
    if operation == "blur":
        return rng.uniform(s.blur_low, s.blur_high, 3).tolist() if met else None
    if operation == "low_resolution":
        return float(rng.uniform(s.lowest_resolution, 1)) if met else None
    low, high = {
        "brightness": (1 - s.brightness_range, 1 + s.brightness_range),
        "contrast": (1 - s.contrast_range, 1 + s.contrast_range),
    }.get(operation, (s.gamma_low, s.gamma_high))
    # as often below 1 as above, whatever the range
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def change_intensities(images: Tensor, modalities: Sequence[str], samples: Sequence[Mapping[str, Any]]) -> Tensor:
    """Images (B, M, X, Y, Z) after what was drawn; voxels that are 0, outside the brain, stay 0.

    Args:
        images: left as they are.
        modalities: names of the channels.
        samples: per sample what `draw_intensities` gave; other entries are passed over.
    """
    if not any(operation in sample for sample in samples for operation in OPERATIONS):
        return images
    changed = images.clone()
    for index, sample in enumerate(samples):
        for operation in OPERATIONS:
            for name, value in sample.get(operation, {}).items():
                volume = changed[index, modalities.index(name)]
                inside = volume != 0
                if bool(inside.any()):
                    volume.copy_(torch.where(inside, _CHANGE[operation](volume, inside, value), 0))
    return changed


def _gaussian(volume: Tensor, inside: Tensor, value: tuple[float, int]) -> Tensor:
    deviation, seed = value
    generator = torch.Generator(volume.device).manual_seed(seed)
    return volume + deviation * torch.randn(volume.shape, generator=generator, device=volume.device)


def _blur(volume: Tensor, inside: Tensor, deviations: Sequence[float]) -> Tensor:
    return _plain(GaussianSmooth(tuple(deviations), approx="scalespace")(volume[None]))[0]


def _low_resolution(volume: Tensor, inside: Tensor, share: float) -> Tensor:
    lower = RandSimulateLowResolution(prob=1.0, downsample_mode="nearest-exact", zoom_range=(share, share))
    return _plain(lower(volume[None]))[0]


def _within(transform: Callable[[float], Callable[[Tensor], Any]]) -> Callable[[Tensor, Tensor, float], Tensor]:
    """A transform of the brain's values alone: its mean and range are the brain's."""

    def change(volume: Tensor, inside: Tensor, value: float) -> Tensor:
        return volume.masked_scatter(inside, _plain(transform(value)(volume[inside])))

    return change


def _plain(found: Any) -> Tensor:
    return torch.as_tensor(convert_to_tensor(found, track_meta=False))


_CHANGE: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "gaussian": _gaussian,
    "blur": _blur,
    "brightness": _within(lambda factor: ScaleIntensity(minv=None, maxv=None, factor=factor - 1)),
    "contrast": _within(lambda factor: ScaleIntensityFixedMean(factor=factor - 1, preserve_range=True)),
    "low_resolution": _low_resolution,
    "gamma_inverted": _within(lambda exponent: AdjustContrast(exponent, invert_image=True, retain_stats=True)),
    "gamma_plain": _within(lambda exponent: AdjustContrast(exponent, retain_stats=True)),
}
