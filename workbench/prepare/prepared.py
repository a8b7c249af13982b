"""Prepared cases as they lie on disk: metadata at once, arrays in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from pydantic import ValidationError

from workbench.errors import WorkbenchError
from workbench.files import read_json
from workbench.geometry import Grid
from workbench.prepare.settings import PrepareSettings

INDEX_FILE, CASE_FILE = "prepared.json", "case.json"

Slices = tuple[slice, slice, slice]


class PreparedCase:
    """One prepared case on disk. Cheap to make: arrays are read when asked for, and only the part asked for.

    Args:
        folder: the entry's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"PreparedCase({self.name!r}, {' x '.join(map(str, self.shape))})"

    @cached_property
    def _meta(self) -> dict[str, Any]:
        return read_json(self.folder / CASE_FILE)

    @property
    def name(self) -> str:
        """The case's name."""
        return str(self._meta["case"])

    @cached_property
    def grid(self) -> Grid:
        """The prepared grid: brain box, closest to RAS+, isotropic."""
        return Grid.from_dict(self._meta["grid"])

    @cached_property
    def native(self) -> Grid:
        """The grid of the case's own images, which predictions are brought back to."""
        return Grid.from_dict(self._meta["native"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) of the prepared arrays."""
        return self.grid.shape

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) from prepared voxel to world mm, RAS+."""
        return self.grid.affine

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return tuple(self._meta["modalities"])

    @property
    def present(self) -> tuple[bool, ...]:
        """Per channel, whether it was acquired."""
        return tuple(self._meta["present"])

    @property
    def label_set(self) -> str:
        """What the annotators could draw; '' without a mask."""
        return str(self._meta["label_set"])

    @property
    def statistics(self) -> dict[str, dict[str, float]]:
        """Modality -> mean and deviation of the raw values that became 0 and 1; share of the brain covered."""
        return self._meta["statistics"]

    @cached_property
    def foreground(self) -> dict[int, np.ndarray]:
        """Label -> (n, 3) voxels of it: a stored sample, so that drawing a patch decodes no volume."""
        return {int(k): np.asarray(v, np.int64).reshape(-1, 3) for k, v in self._meta["foreground"].items()}

    @property
    def mask_centre(self) -> tuple[int, int, int] | None:
        """Voxel at the centroid of all labels but background; None where there is no mask or it is empty."""
        value = self._meta["mask_centre"]
        return None if value is None else (value[0], value[1], value[2])

    @property
    def brain_centre(self) -> tuple[int, int, int]:
        """Voxel at the centroid of the brain."""
        x, y, z = self._meta["brain_centre"]
        return x, y, z

    def images(self, slices: Slices | None = None, modalities: Sequence[str] | None = None) -> np.ndarray:
        """Z-scored images, float16 (M, X, Y, Z) or the part in `slices`; absent modalities are zero.

        Args:
            slices: three slices in X, Y, Z; None = all.
            modalities: names of the channels wanted, in this order (names unknown here give zeros); None = all.
        """
        part = slices or (slice(None), slice(None), slice(None))
        array = _open(self.folder / "images.b2nd")
        if modalities is None:
            return array[(slice(None), *part)]
        own = {name: index for index, (name, there) in enumerate(zip(self.modalities, self.present, strict=True)) if there}
        shape = tuple(len(range(*s.indices(n))) for s, n in zip(part, self.shape, strict=True))
        result = np.zeros((len(modalities), *shape), np.float16)
        for channel, name in enumerate(modalities):
            if name in own:
                result[channel] = array[(own[name], *part)]
        return result

    def labels(self, slices: Slices | None = None) -> np.ndarray | None:
        """Canonical labels, uint8 (X, Y, Z) or the part in `slices`; None where the case has no mask."""
        path = self.folder / "labels.b2nd"
        return _open(path)[slices or ()] if self._meta["label_set"] else None

    def brain(self, slices: Slices | None = None) -> np.ndarray:
        """Brain mask, bool (X, Y, Z) or the part in `slices`."""
        return _open(self.folder / "brain.b2nd")[slices or ()].astype(bool)


class PreparedCohort:
    """The prepared cases of a cohort for one choice of settings. Made by `prepare_cohort`, reopened by `open`."""

    def __init__(self, folder: Path, settings: PrepareSettings, entries: dict[str, str]) -> None:
        self.folder = Path(folder)
        self.settings = settings
        self._entries = entries
        self._opened: dict[str, PreparedCase] = {}

    @classmethod
    def open(cls, folder: str | Path) -> PreparedCohort:
        """Open the folder of one choice of settings, `PreparedCohort.folder`.

        Raises:
            WorkbenchError: no prepared cohort is there, or its index is damaged.
        """
        folder = Path(folder)
        index = read_json(folder / INDEX_FILE)
        try:
            return cls(folder, PrepareSettings(**index["settings"]), dict(index["entries"]))
        except (KeyError, TypeError, ValidationError) as error:
            raise WorkbenchError(f"{folder / INDEX_FILE} does not describe a prepared cohort: {error}") from error

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[PreparedCase]:
        return (self.case(name) for name in self.cases)

    def __repr__(self) -> str:
        return f"PreparedCohort({len(self)} cases, {self.spacing:g} mm, {'/'.join(self.modalities)})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    @property
    def cases(self) -> list[str]:
        """Names of the cases, in the cohort's order."""
        return list(self._entries)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self.settings.modalities

    @property
    def spacing(self) -> float:
        """Voxel edge in mm."""
        return self.settings.spacing

    def case(self, name: str) -> PreparedCase:
        """One case.

        Raises:
            WorkbenchError: the case was not prepared.
        """
        if name not in self._entries:
            raise WorkbenchError(f"case '{name}' is not among the {len(self)} prepared cases of {self.folder}")
        if name not in self._opened:
            self._opened[name] = PreparedCase(self.folder / self._entries[name])
        return self._opened[name]


def _open(path: Path) -> Any:
    try:
        return blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError) as error:
        raise WorkbenchError(f"{path} cannot be read: {error} (delete its folder and prepare the cohort again)") from error
