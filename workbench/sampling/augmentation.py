"""Random changes to a batch: flips, rotation and scaling, gamma, noise and bias fields, as batched operations on its device.

Drawing and applying are apart: `draw` gives a JSON-able record, `apply` carries it out, so that any batch can be made again.
Everything outside the brain and every absent modality stays exactly 0. nnU-Net's changes of intensity lie in `intensities`.

The set `nnunet` departs from nnU-Net v2's trainer so: it rotates and scales the patch itself, where nnU-Net cuts it from a
larger one, so that corners may come from outside and are zero; statistics (mean, range) are the brain's, not the patch's; flips
come before the changes of intensity; labels are resampled by nearest neighbour.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.contracts import Batch
from workbench.sampling.augmentation_settings import AugmentationSettings
from workbench.sampling.intensities import change_intensities, draw_intensities
from workbench.seeding import derive_seed, stream

_ORDER = 4
"""Cosines per axis of a bias field: the shortest wave is two thirds of the patch long."""


def draw(seed: int, step: int, batch: Batch, settings: AugmentationSettings | None = None) -> dict[str, Any]:
    """Draw what to do to each sample of a batch: a pure function of (seed, step) and of which modalities are there.

    Returns:
        JSON-able: {"samples": [{"flip": [axis, ...], "affine": 3 x 3 or None, "gamma": {modality: exponent},
        "noise": {modality: [deviation, seed]}, "bias": {modality: [strength, seed]}}, ...]}; a sample that meets any of
        `intensities.OPERATIONS` also names that, with a value per modality.
    """
    settings = settings or AugmentationSettings()
    present = batch.present.tolist()
    samples = []
    for index, there in enumerate(present):
        names = [name for name, is_there in zip(batch.modalities, there, strict=True) if is_there]
        samples.append(_draw_sample(derive_seed(seed, "augment", step, index), names, settings))
    return {"samples": samples}


def _draw_sample(seed: int, names: list[str], settings: AugmentationSettings) -> dict[str, Any]:
    rng = stream(seed, "space")
    flips = [axis for axis, (value, limit) in enumerate(zip(rng.random(3), settings.flip, strict=True)) if value < limit]
    turned, angles, size = rng.random() < settings.affine, rng.uniform(-1, 1, 3), rng.uniform(-1, 1)
    matrix = None
    if turned:
        factor = math.exp(size * math.log1p(settings.scale))
        matrix = (_rotation(np.deg2rad(settings.rotation) * angles) / factor).tolist()
    if settings.rotate or settings.zoom:
        rng = stream(seed, "apart")
        (turned, zoomed), angles, size = rng.random(2) < (settings.rotate, settings.zoom), rng.uniform(-1, 1, 3), rng.random()
        own = _rotation(np.deg2rad(settings.rotation) * angles) if turned else np.eye(3)
        view = settings.zoom_low + size * (settings.zoom_high - settings.zoom_low) if zoomed else 1.0
        if turned or zoomed:
            matrix = (np.asarray(matrix or np.eye(3)) @ own * view).tolist()
    sample: dict[str, Any] = {"flip": flips, "affine": matrix, "gamma": {}, "noise": {}, "bias": {}}
    for name in names:
        rng = stream(seed, "intensity", name)
        chance, amount = rng.random(3).tolist(), rng.uniform(-1, 1, 3).tolist()
        if chance[0] < settings.gamma:
            sample["gamma"][name] = math.exp(amount[0] * settings.gamma_range)
        if chance[1] < settings.noise:
            sample["noise"][name] = [abs(amount[1]) * settings.noise_deviation, derive_seed(seed, "noise", name)]
        if chance[2] < settings.bias:
            sample["bias"][name] = [amount[2] * settings.bias_strength, derive_seed(seed, "bias", name)]
    return sample | draw_intensities(seed, names, settings)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation about X, then Y, then Z by angles in radians."""
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def apply(batch: Batch, parameters: dict[str, Any]) -> Batch:
    """Carry out what `draw` drew, on the batch's device.

    Space first (flip, then one resampling: images linear, labels nearest), then intensities (bias, gamma, noise, and nnU-Net's in
    its order). `target`
    of the result are the images after the former and before the latter. Applying the same parameters, or the `record` of
    the result, to the same batch gives the same bits on the same kind of device.

    Args:
        batch: as the sampler made it.
        parameters: from `draw`, or the `record` of an augmented batch.
    """
    parameters = parameters.get("augmentation", parameters)
    samples: list[dict[str, Any]] = parameters["samples"]
    if len(samples) != len(batch.images):
        raise ValueError(f"expected parameters of {len(batch.images)} samples, found {len(samples)}")
    images, target, labels = _in_space(batch, samples)
    changed = _bias(images, batch, samples)
    changed = _gamma(changed, batch, samples)
    changed = _noise(changed, batch, samples)
    changed = change_intensities(changed, batch.modalities, samples)
    record = {**batch.record, "augmentation": parameters}
    return replace(batch, images=changed, target=target, labels=labels, record=record)


def _in_space(batch: Batch, samples: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor | None]:
    count = len(batch.modalities)
    stack = batch.images if batch.target is None else torch.cat([batch.images, batch.target], dim=1)
    labels = batch.labels
    for axis in range(3):
        chosen = [index for index, sample in enumerate(samples) if axis in sample["flip"]]
        if chosen:
            stack = stack.index_copy(0, _index(chosen, stack), stack[chosen].flip(axis + 2))
            if labels is not None:
                labels = labels.index_copy(0, _index(chosen, labels), labels[chosen].flip(axis + 1))
    chosen = [index for index, sample in enumerate(samples) if sample["affine"] is not None]
    if chosen:
        matrices = torch.tensor([samples[index]["affine"] for index in chosen], dtype=stack.dtype, device=stack.device)
        grid = sampling_grid(matrices, tuple(stack.shape[2:]))
        part = stack[chosen]
        brain = (part != 0).any(dim=1, keepdim=True).to(part)
        moved = F.grid_sample(torch.cat([part, brain], dim=1), grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        # half a voxel of air mixed in is still brain; less is not
        part = torch.where(moved[:, -1:] > 0.5, moved[:, :-1], 0)
        stack = stack.index_copy(0, _index(chosen, stack), part)
        if labels is not None:
            turned = F.grid_sample(
                labels[chosen][:, None].to(part), grid, mode="nearest", padding_mode="zeros", align_corners=True
            )
            labels = labels.index_copy(0, _index(chosen, labels), turned[:, 0].to(labels))
    return stack[:, :count], stack[:, -count:], labels


def sampling_grid(matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Grid for `grid_sample` (align_corners) from matrices (B, 3, 3) in voxels about the patch's middle.

    Result voxel v shows source voxel matrix @ (v - m) + m with m = (shape - 1) / 2.

    Returns:
        (B, X, Y, Z, 3), last axis in grid_sample's order: Z, Y, X, each in -1 to 1.
    """
    axes = [torch.arange(n, dtype=matrices.dtype, device=matrices.device) - (n - 1) / 2 for n in shape]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    half = torch.tensor([max(n - 1, 1) / 2 for n in shape], dtype=matrices.dtype, device=matrices.device)
    return (torch.einsum("bij,xyzj->bxyzi", matrices, voxels) / half).flip(-1)


def _index(chosen: list[int], like: Tensor) -> Tensor:
    return torch.tensor(chosen, device=like.device)


def _chosen(batch: Batch, samples: list[dict[str, Any]], kind: str) -> list[tuple[int, int, Any]]:
    """(sample, channel, value) of every channel that an operation changes."""
    channel = {name: index for index, name in enumerate(batch.modalities)}
    return [(index, channel[name], value) for index, sample in enumerate(samples) for name, value in sample[kind].items()]


def _channels(images: Tensor, picks: list[tuple[int, int, Any]]) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
    """The changed channels (K, X, Y, Z), their brain, and the brain's lowest value (K, 1, 1, 1), with their place."""
    place = (_index([p[0] for p in picks], images), _index([p[1] for p in picks], images))
    values = images[place]
    inside = values != 0
    low = torch.where(inside, values, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    return place, values, inside, torch.where(torch.isfinite(low), low, 0)


def _restore(changed: Tensor, values: Tensor, inside: Tensor) -> Tensor:
    """Bring the brain's mean and deviation back to what they were: an image stays a z-score."""
    count = inside.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)

    def moments(array: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.where(inside, array, 0).sum(dim=(1, 2, 3), keepdim=True) / count
        variance = torch.where(inside, (array - mean) ** 2, 0).sum(dim=(1, 2, 3), keepdim=True) / count
        return mean, variance.sqrt()

    (new_mean, new_deviation), (mean, deviation) = moments(changed), moments(values)
    return (changed - new_mean) / new_deviation.clamp_min(1e-6) * deviation + mean


def _put(images: Tensor, place: tuple[Tensor, Tensor], changed: Tensor, inside: Tensor) -> Tensor:
    return images.index_put(place, torch.where(inside, changed, 0))


def _bias(images: Tensor, batch: Batch, samples: list[dict[str, Any]]) -> Tensor:
    """Multiply the signal above the brain's lowest value by a smooth field, as coil sensitivity does."""
    picks = _chosen(batch, samples, "bias")
    if not picks:
        return images
    place, values, inside, low = _channels(images, picks)
    fields = torch.stack([bias_field(tuple(images.shape[2:]), strength, seed) for _, _, (strength, seed) in picks])
    changed = (values - low) * fields.to(values).exp() + low
    return _put(images, place, _restore(changed, values, inside), inside)


def bias_field(shape: tuple[int, ...], strength: float, seed: int) -> Tensor:
    """Log of a smooth field (X, Y, Z), float32 on the CPU, peak |strength|: a few cosines per axis with random weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn((_ORDER, _ORDER, _ORDER), generator=generator)
    weights[0, 0, 0] = 0  # a constant factor is no bias
    axes = [
        torch.cos(math.pi * torch.arange(_ORDER)[:, None] * (torch.arange(n)[None] + 0.5) / n)
        / (1 + torch.arange(_ORDER)[:, None])
        for n in shape
    ]
    field = torch.einsum("ijk,ix,jy,kz->xyz", weights, *axes)
    return field * (strength / field.abs().max().clamp_min(1e-6))


def _gamma(images: Tensor, batch: Batch, samples: list[dict[str, Any]]) -> Tensor:
    """Power law on the brain's values brought to 0..1, mean and deviation kept."""
    picks = _chosen(batch, samples, "gamma")
    if not picks:
        return images
    place, values, inside, low = _channels(images, picks)
    high = torch.where(inside, values, -torch.inf).amax(dim=(1, 2, 3), keepdim=True)
    span = torch.where(torch.isfinite(high), high - low, 1).clamp_min(1e-6)
    exponent = torch.tensor([p[2] for p in picks], dtype=values.dtype, device=values.device)[:, None, None, None]
    changed = ((values - low) / span).clamp(0, 1) ** exponent * span + low
    return _put(images, place, _restore(changed, values, inside), inside)


def _noise(images: Tensor, batch: Batch, samples: list[dict[str, Any]]) -> Tensor:
    """Rician noise: the magnitude of the signal above the brain's lowest value plus complex Gaussian noise."""
    picks = _chosen(batch, samples, "noise")
    if not picks:
        return images
    place, values, inside, low = _channels(images, picks)
    real, imaginary = torch.empty_like(values), torch.empty_like(values)
    for index, (_, _, (deviation, seed)) in enumerate(picks):
        generator = torch.Generator(values.device).manual_seed(seed)
        for part in (real, imaginary):
            part[index] = torch.randn(values.shape[1:], generator=generator, device=values.device) * deviation
    changed = torch.hypot(values - low + real, imaginary) + low
    return _put(images, place, changed, inside)
