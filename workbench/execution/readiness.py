"""Before a run starts: whether it may write where it has to, and whether disk and shared memory hold what it will write.

The estimates are rough and on the safe side of a run that would die after hours; a run that is refused says by how much, and what
to do. `WORKBENCH_SKIP_CHECKS=1` turns refusals into warnings.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from workbench.cohort.table import Cohort
from workbench.errors import RunError
from workbench.models.catalogue import card
from workbench.prepare.settings import PrepareSettings
from workbench.records.run_folder import RunFolder
from workbench.setup.opening import open_split
from workbench.setup.parameters import ExperimentParameters

SKIP_VARIABLE = "WORKBENCH_SKIP_CHECKS"
FLOOR = 200_000_000
"""Bytes that have to be left over on a disk: logs, notebook, report, and other people's work."""
SHARED_MEMORY = Path("/dev/shm")
PREFETCH = 2
"""Batches that each data loading process of torch holds ready."""
_DEMO_WEIGHTS = 5e6
"""Bytes of the weights of a demonstration's network; what the catalogue counts is the paper's."""
_SAMPLED = 8
"""Cases whose headers are read for an estimate of all."""


@dataclass(frozen=True)
class Need:
    """Bytes that a run will write, by what it writes."""

    prepared: int
    checkpoints: int
    predictions: int

    @property
    def run_folder(self) -> int:
        """What goes into the run folder."""
        return self.checkpoints + self.predictions


def check_ready(parameters: ExperimentParameters, cohort: Cohort, run: RunFolder) -> None:
    """Hold what a run needs against what the machine has.

    Args:
        parameters: as given.
        cohort: the cohort.
        run: the run folder, not begun or interrupted.

    Raises:
        RunError: a folder cannot be written, a disk or the shared memory is too small; the message has the numbers.
    """
    found = estimate(parameters, cohort, run)
    refused = unwritable(cohort.folder) if found.prepared else ""
    problems = [refused] if refused else crowded(run.folder, cohort.folder, found)
    problems += small_memory(parameters.resolve(), len(cohort.modalities))
    if not problems:
        return
    text = "; ".join(problems)
    if os.environ.get(SKIP_VARIABLE):
        warnings.warn(text, stacklevel=2)
    else:
        raise RunError(f"run {run.folder} does not start: {text}")


def check_writable(run: RunFolder) -> None:
    """Hold a run folder against what its driver will do first.

    Raises:
        RunError: nothing can be written there.
    """
    if text := unwritable(run.folder):
        raise RunError(f"run {run.folder} does not start: {text}")


def unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder; empty where it can."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-"):
            return ""
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return ""  # full, which is another matter
        return f"{folder} cannot be written ({error.strerror}): choose another folder, or have its permissions changed"


def crowded(run: Path, cohort: Path, need: Need) -> list[str]:
    """Sentences about disks without enough room; what lies on one disk is added up."""
    wanted = [(run, need.run_folder, f"checkpoints {_mb(need.checkpoints)}, predictions {_mb(need.predictions)}")]
    if need.prepared:
        wanted.append((cohort, need.prepared, f"prepared images {_mb(need.prepared)}"))
    disks: dict[int, list[tuple[Path, int, str]]] = {}
    for folder, count, what in wanted:
        disks.setdefault(folder.stat().st_dev, []).append((folder, count, what))
    problems = []
    for parts in disks.values():
        free, needed = shutil.disk_usage(parts[0][0]).free, sum(count for _, count, _ in parts) + FLOOR
        if free < needed:
            listed = "; ".join(what for _, _, what in parts)
            problems.append(
                f"the disk that holds {parts[0][0]} has {_mb(free)} free, the run needs about {_mb(needed)} ({listed}; "
                f"{_mb(FLOOR)} to spare): make room (`workbench runs prune` helps), choose another --runs folder, or set "
                f"{SKIP_VARIABLE}=1"
            )
    return problems


def small_memory(resolved: ExperimentParameters, modalities: int, folder: Path = SHARED_MEMORY) -> list[str]:
    """A sentence where the shared memory does not hold the batches that the data loading processes keep ready."""
    workers = resolved.workers if card(resolved.method).network else 0
    if workers == 0 or not folder.is_dir():
        return []
    chosen = len(resolved.modality_names()) or modalities
    voxels = resolved.batch_size * resolved.patch**3
    batch = voxels * (
        chosen * 4 * (2 if resolved.modality_dropout > 0 else 1) + 8
    )  # float32 images, twice with target; int64 labels
    needed, free = batch * workers * PREFETCH * resolved.processes, shutil.disk_usage(folder).free
    if free >= needed:
        return []
    fitting = max(0, free // (batch * PREFETCH * resolved.processes))
    return [
        f"{folder} (shared memory) has {_mb(free)} free; {workers} data loading processes hold up to {_mb(needed)} there "
        f"({PREFETCH} batches of {_mb(batch)} each): use -p workers={fitting}, or make it larger (docker run --shm-size=...), "
        f"or set {SKIP_VARIABLE}=1"
    ]


def estimate(parameters: ExperimentParameters, cohort: Cohort, run: RunFolder) -> Need:
    """What a run will write, in bytes, from the headers of some cases and the size of the method.

    Prepared images: half of the grid (the brain's box) as float16, uncompressed; none where they are there. Checkpoints: weights,
    optimiser and average in float32, the last one twice while it is replaced, and the best. Predictions: masks, the validation
    cases' logits as float16, explanation maps.
    """
    resolved, entry = parameters.resolve(), card(parameters.method)
    grids = _grids(cohort)
    native = float(np.mean([voxels for voxels, _ in grids])) if grids else 0.0
    volume = float(np.mean([volume for _, volume in grids])) if grids else 0.0
    settings = (
        PrepareSettings(spacing=resolved.spacing, modalities=cohort.modalities) if resolved.spacing > 0 else PrepareSettings()
    )
    there = (cohort.folder / "prepared" / settings.slug / "prepared.json").is_file()
    working = volume / settings.spacing**3
    prepared = 0 if there else int(len(cohort) * 0.5 * working * (2 * len(cohort.modalities) + 2))
    weights = 4 * float(entry.parameters or 0) if resolved.size == "paper" else _DEMO_WEIGHTS
    checkpoints = int(weights * (2 * 4 + 1)) if entry.network else 0  # twice (weights, two moments, average), and the best
    if (run.folder / "checkpoints" / "last.safetensors").is_file():
        checkpoints //= 2
    split = open_split(cohort, resolved.fold).value_counts()
    held_out = int(split.get("test", 0) + split.get("external", 0) + split.get("validation", 0))
    predictions = int(held_out * 0.05 * native + split.get("validation", 0) * 0.3 * 4 * 2 * native)
    predictions += int(resolved.maps * 0.5 * 4 * native)
    return Need(prepared, checkpoints, predictions if "segmentation" in entry.tasks else predictions // 10)


def _grids(cohort: Cohort) -> Sequence[tuple[float, float]]:
    """(voxels, volume in mm^3) of the native grids of some cases, evenly spread over the cohort."""
    found = []
    for index in np.unique(np.linspace(0, len(cohort) - 1, min(_SAMPLED, len(cohort))).astype(int)):
        row = cohort.cases.iloc[index]
        paths = [row[name] for name in cohort.modalities if not pd.isna(row[name])]
        try:
            header: Any = nib.load(cohort.image_root / paths[0]).header
            voxels = float(np.prod(header.get_data_shape()[:3]))
            found.append((voxels, voxels * float(np.prod(header.get_zooms()[:3]))))
        except (OSError, IndexError, ValueError, nib.filebasedimages.ImageFileError):
            continue  # preparation says what is wrong with it, by name
    return found


def _mb(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
