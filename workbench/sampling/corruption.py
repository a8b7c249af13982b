"""What is wrong with training data, on purpose: masks that annotators drew badly, sequences that do not lie on each other.

Both are properties of a case, not of a draw: whenever a case comes up in a run, its mask is wrong in the same way and its
sequences lie apart by the same way, as they would on disk. They are functions of (seed, case), so that a resumed run meets the
same data; and they are exact: a patch shows what the patch of the corrupted volume would show. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from workbench.errors import ParameterError
from workbench.prepare.prepared import PreparedCase, Slices
from workbench.prepare.resampling import overlap
from workbench.sampling.patches import read_patch
from workbench.seeding import stream

MASK_NOISE = ("none", "eroded", "dilated", "shifted", "dropped")
"""What may be wrong with a mask."""
_BY_DISTANCE = ("eroded", "dilated", "shifted")


def check_mask_noise(kind: str, distance: float, share: float, spacing: float) -> None:
    """Refuse noise that would change nothing, or leave nothing.

    Args:
        kind: of `MASK_NOISE`.
        distance: `mask_noise_mm`.
        share: `mask_noise_share`.
        spacing: edge of a voxel, mm.

    Raises:
        ParameterError: a distance below a voxel; every lesion dropped.
    """
    if kind in _BY_DISTANCE and distance < spacing:
        raise ParameterError(
            f"parameter 'mask_noise_mm': {distance:g} mm is less than a voxel of {spacing:g} mm, masks would stay as they are; "
            f"give at least {spacing:g}, or a smaller 'spacing'"
        )
    if kind == "dropped" and share >= 1:
        raise ParameterError("parameter 'mask_noise_share': every lesion dropped leaves nothing to learn; give less than 1")


def is_noisy(seed: int, case: str, share: float) -> bool:
    """Whether a case is among the share of those whose masks are wrong; the same cases whatever is wrong with them."""
    return bool(stream(seed, "mask noise", case).random() < share)


def noisy_labels(
    case: PreparedCase, centre: Sequence[int], patch: Sequence[int], *, kind: str, distance: float, share: float, seed: int
) -> np.ndarray | None:
    """Labels uint8 (*patch) around a voxel of the case's noisy mask; None where it has no mask.

    eroded, dilated: all labels together lose, or gain, a rim of `distance`; a gained voxel is brain and takes the label of the
    nearest labelled one. shifted: the mask lies `distance` aside, in a direction of the case's own. These are done to a `share`
    of the cases. dropped: every lesion (labels that touch, by 26 neighbours) is missing with a chance of `share`.

    Args:
        case: the prepared case.
        centre: voxel around which the patch lies, as for `read_patch`.
        patch: its shape.
        kind: 'eroded', 'dilated', 'shifted' or 'dropped'.
        distance: mm.
        share: 0 to 1.
        seed: of what is drawn.
    """
    if kind == "dropped":
        whole = _without_lesions(case, share, seed)
        return None if whole is None else _cut(whole, centre, patch)
    if not is_noisy(seed, case.name, share):
        return read_patch(case, centre, patch, ())[1]
    voxels = distance / case.grid.spacing[0]
    if kind == "shifted":
        steps = np.rint(_direction(seed, "mask shift", case.name) * voxels).astype(int)
        return read_patch(case, [int(c - step) for c, step in zip(centre, steps, strict=True)], patch, ())[1]
    margin = math.ceil(voxels)
    wide = [int(side) + 2 * margin for side in patch]
    labels = read_patch(case, centre, wide, ())[1]
    if labels is None:
        return None
    inner = tuple(slice(margin, margin + int(side)) for side in patch)
    if kind == "eroded":
        return eroded(labels, voxels)[inner]
    return np.where(_cut(case.brain().astype(np.uint8), centre, patch), dilated(labels, voxels)[inner], labels[inner])


def eroded(labels: np.ndarray, voxels: float) -> np.ndarray:
    """Labels (X, Y, Z) without those that lie within so many voxels of the background."""
    box = _around(labels, 1)
    part = labels[box]
    if not part.size or part.all():  # nothing labelled; or no background near enough to be seen
        return labels
    result = np.zeros_like(labels)
    result[box] = np.where(ndimage.distance_transform_edt(part) > voxels, part, 0)
    return result


def dilated(labels: np.ndarray, voxels: float) -> np.ndarray:
    """Labels (X, Y, Z) and, around them, the label of the nearest one within so many voxels."""
    box = _around(labels, math.ceil(voxels))
    part = labels[box]
    if not part.size:
        return labels
    away, nearest = ndimage.distance_transform_edt(part == 0, return_indices=True)
    result = labels.copy()
    result[box] = np.where(away <= voxels, part[tuple(nearest)], 0)
    return result


def registration_errors(seed: int, case: str, shown: Sequence[str], distance: float) -> dict[str, np.ndarray]:
    """How far each sequence lies aside, (3,) in mm: the first that a case shows stays, each other lies `distance` away from where
    it belongs, in a direction of its own."""
    return {name: _direction(seed, "misregistration", case, name) * distance for name in shown[1:]}


def misregistered(
    case: PreparedCase, centre: Sequence[int], patch: Sequence[int], errors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The sequences that lie aside, float16 (*patch) each, interpolated linearly; outside the prepared box there is nothing.

    Args:
        case: the prepared case.
        centre: voxel around which the patch lies, as for `read_patch`.
        patch: its shape.
        errors: sequence -> displacement in mm, of `registration_errors`.
    """
    spacing = case.grid.spacing[0]
    margin = math.ceil(max((float(np.abs(error).max()) for error in errors.values()), default=0.0) / spacing) + 1
    images, _ = read_patch(case, centre, [int(side) + 2 * margin for side in patch], tuple(errors))
    inner = tuple(slice(margin, margin + int(side)) for side in patch)
    return {
        name: moved(image, error / spacing)[inner] for (name, error), image in zip(errors.items(), images, strict=True)
    }  # fmt: skip


class MisregisteredCase(PreparedCase):
    """A prepared case whose sequences lie aside: what a network is shown of it where the test itself is to be wrong.

    Args:
        folder: of the case.
        errors: sequence -> displacement in mm, of `registration_errors`.
    """

    def __init__(self, folder: Path, errors: Mapping[str, np.ndarray]) -> None:
        super().__init__(folder)
        self.errors = errors

    def images(self, slices: Slices | None = None, modalities: Sequence[str] | None = None) -> np.ndarray:
        """As of the case, each volume moved by its error; what leaves the box is gone."""
        names = self.modalities if modalities is None else tuple(modalities)
        whole = super().images(None, names)
        for channel, name in enumerate(names):
            if name in self.errors:
                whole[channel] = moved(whole[channel], self.errors[name] / self.grid.spacing[0])
        return whole if slices is None else whole[(slice(None), *slices)]


def noise_in_words(mask_noise: str, distance: float, share: float, misregistration: float) -> str:
    """What a run was trained on, for a row of a table: 'clean', or what was wrong."""
    parts = [f"sequences {misregistration:g} mm aside"] if misregistration else []
    if mask_noise == "dropped":
        parts.append(f"masks without {share:.0%} of lesions")
    elif mask_noise != "none":
        parts.append(f"masks {mask_noise} {distance:g} mm in {share:.0%} of cases")
    return " and ".join(parts) or "clean"


def moved(image: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """An image (X, Y, Z) moved by a displacement in voxels, interpolated linearly, of the same type; zeros move in."""
    return ndimage.shift(image.astype(np.float32), voxels, order=1).astype(image.dtype)


def _direction(seed: int, *purpose: str) -> np.ndarray:
    vector = stream(seed, *purpose).normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _without_lesions(case: PreparedCase, share: float, seed: int) -> np.ndarray | None:
    labels = case.labels()
    if labels is None:
        return None
    labels = np.array(labels)
    components, count = ndimage.label(labels > 0, structure=np.ones((3, 3, 3), dtype=bool))
    gone = np.concatenate([[False], stream(seed, "lesions dropped", case.name).random(count) < share])
    labels[gone[components]] = 0
    return labels


def _cut(volume: np.ndarray, centre: Sequence[int], patch: Sequence[int]) -> np.ndarray:
    """The patch (*patch) around a voxel of a whole volume, zero outside it."""
    size = tuple(int(side) for side in patch)
    low = tuple(int(c) - side // 2 for c, side in zip(centre, size, strict=True))
    inside, place = overlap(low, size, volume.shape)
    result = np.zeros(size, volume.dtype)
    result[place] = volume[inside]
    return result


def _around(labels: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The box of what is labelled, enlarged by a margin; an empty one where nothing is."""
    found = ndimage.find_objects((labels > 0).astype(np.uint8))
    if not found:
        return slice(0), slice(0), slice(0)
    x, y, z = (slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(found[0], labels.shape, strict=True))
    return x, y, z
