"""The cache of prepared arrays: one folder per case, named by a digest of its inputs and settings.

    <folder>/<settings>/prepared.json             settings, and the entry of every case
    <folder>/<settings>/<case>.<key>/             images.b2nd  labels.b2nd  brain.b2nd  case.json

An entry is written under a temporary name and renamed when it is whole, so a killed run leaves nothing half-written. The
index comes last. Arrays are blosc2, LZ4HC, chunked per modality, so that a patch is read without decoding the volume.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import psutil
from tqdm.auto import tqdm

from workbench.cohort.table import Cohort, row_convention
from workbench.errors import InputError, ParameterError, Problem, WorkbenchError
from workbench.files import read_json, value_digest, write_json
from workbench.prepare.arrays import PreparedArrays, prepare_case
from workbench.prepare.images import MASK, SEGMENTATION
from workbench.prepare.prepared import CASE_FILE, INDEX_FILE, PreparedCase, PreparedCohort
from workbench.prepare.settings import PrepareSettings
from workbench.workers import worker_pool

__all__ = ["PreparedCase", "PreparedCohort", "prepare_cohort"]

ALGORITHM = 1
"""Part of every key: raise it when `prepare_case` gives other numbers for the same input."""
_CHUNK, _BLOCK = 64, 16  # 512 KiB chunks and 8 KiB blocks of float16: fastest of the shapes tried for 96^3 patches


def prepare_cohort(
    cohort: Cohort,
    settings: PrepareSettings,
    *,
    folder: Path | None = None,
    cases: Sequence[str] | None = None,
    workers: int = 0,
    progress: bool = True,
) -> PreparedCohort:
    """Prepare a cohort, reusing every case whose inputs and settings are unchanged.

    Args:
        cohort: the cohort.
        settings: what to do.
        folder: where to keep the arrays; None = `prepared` in the cohort's folder.
        cases: only these; None = all. Entries of the other cases stay as they are.
        workers: processes; 0 or 1 = this one.
        progress: show a bar.

    Raises:
        InputError: with one problem per case that cannot be prepared. The others are prepared and kept.
        ParameterError: a modality or case that the cohort does not have.
        WorkbenchError: the folder cannot be written.
    """
    settings = settings.model_copy(update={"modalities": settings.modalities or cohort.modalities})
    unknown = [m for m in settings.modalities if m not in cohort.modalities]
    if unknown:
        raise ParameterError(
            f"modalities: cohort {cohort.info.name} has no {', '.join(unknown)}; it has {', '.join(cohort.modalities)}"
        )
    names = [str(case) for case in cohort.cases["case"]]
    strangers = [case for case in cases or () if case not in names]
    if strangers:
        raise ParameterError(f"cases: cohort {cohort.info.name} has no {', '.join(strangers[:5])}")
    wanted = [name for name in names if cases is None or name in set(cases)]
    target = (folder or cohort.folder / "prepared") / settings.slug
    keys = _keys(cohort, settings, wanted)
    problems: list[Problem] = []
    entries = {case: f"{case}.{key}" for case, key in keys.items()}
    todo = [case for case, entry in entries.items() if not (target / entry / CASE_FILE).is_file()]
    if todo:
        with _writable(target):
            target.mkdir(parents=True, exist_ok=True)
            _sweep(target)
            problems = _make(cohort, settings, target, {case: keys[case] for case in todo}, workers, progress)
    if problems:
        raise InputError(*problems)
    return _index(target, settings, entries, names)


def _index(target: Path, settings: PrepareSettings, entries: dict[str, str], names: list[str]) -> PreparedCohort:
    old: dict[str, str] = {}
    if (target / INDEX_FILE).is_file():
        with contextlib.suppress(WorkbenchError, AttributeError):  # a damaged index is made anew
            old = dict(read_json(target / INDEX_FILE).get("entries", {}))
    merged = old | entries
    kept = {name: merged[name] for name in names if name in merged}
    if kept != old:
        with _writable(target):
            write_json(target / INDEX_FILE, {"settings": settings.model_dump(mode="json"), "entries": kept})
            for case, entry in old.items():
                if kept.get(case) != entry:
                    shutil.rmtree(target / entry, ignore_errors=True)
    return PreparedCohort(target, settings, {name: kept[name] for name in names if name in entries})


def _keys(cohort: Cohort, settings: PrepareSettings, cases: list[str]) -> dict[str, str]:
    """Case -> digest of all that its entry depends on: the bytes of its files, its label set and convention, the settings."""
    columns = [*cohort.modalities, MASK, SEGMENTATION]
    table = cohort.cases.set_index("case")
    files = {str(case): {c: str(row[c]) for c in columns if not pd.isna(row[c])} for case, row in table.iterrows()}
    problems = [
        Problem(case=case, file=path, channel=column, message="the file is missing", remedy="restore it or correct the table")
        for case, row in files.items()
        for column, path in row.items()
        if not (cohort.image_root / path).is_file()
    ]
    if problems:
        raise InputError(*problems)
    digests = cohort.digests()
    made = [ALGORITHM, settings.model_dump(mode="json")]
    space = [cohort.info.space, cohort.modalities]

    def key(case: str, row: pd.Series) -> str:
        images = {column: digests[path] for column, path in files[case].items()}
        return value_digest([*made, row_convention(row, cohort.info), *space, images, str(row["labels"])], 16)

    rows = {str(case): row for case, row in table.iterrows()}
    return {case: key(case, rows[case]) for case in cases}


def _make(
    cohort: Cohort, settings: PrepareSettings, target: Path, keys: dict[str, str], workers: int, progress: bool
) -> list[Problem]:
    problems: list[Problem] = []
    jobs = [(cohort, case, settings, target, key) for case, key in keys.items()]
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(jobs), desc="prepare", unit="case", disable=not progress))
        results: Iterator[list[Problem]] = map(_prepare_entry, jobs)
        if workers > 1 and len(jobs) > 1:
            results = stack.enter_context(worker_pool(min(workers, len(jobs)))).map(_prepare_entry, jobs)
        for found in results:
            problems += found
            bar.update()
    return problems


def _prepare_entry(job: tuple[Cohort, str, PrepareSettings, Path, str]) -> list[Problem]:
    cohort, case, settings, target, key = job
    try:
        arrays = prepare_case(cohort, case, settings)
    except InputError as error:
        return list(error.problems)
    temporary = target / f".tmp-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir()
        _write(temporary, case, key, settings, arrays)
        _publish(temporary, target / f"{case}.{key}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return []


def _publish(temporary: Path, entry: Path) -> None:
    if entry.is_dir() and not (entry / CASE_FILE).is_file():
        shutil.rmtree(entry)  # its removal was interrupted
    try:
        temporary.rename(entry)
    except OSError:
        if not (entry / CASE_FILE).is_file():
            raise  # otherwise another process was faster, with the same content


def _write(folder: Path, case: str, key: str, settings: PrepareSettings, arrays: PreparedArrays) -> None:
    _save(folder / "images.b2nd", arrays.images)
    _save(folder / "brain.b2nd", arrays.brain.astype(np.uint8))
    centre = None
    if arrays.labels is not None:
        _save(folder / "labels.b2nd", arrays.labels)
        centre = _centroid(arrays.labels > 0) if arrays.labels.any() else None
    write_json(
        folder / CASE_FILE,
        {
            "case": case,
            "key": key,
            "modalities": list(settings.modalities),
            "present": list(arrays.present),
            "label_set": arrays.label_set,
            "native": arrays.native.as_dict(),
            "grid": arrays.grid.as_dict(),
            "brain_centre": _centroid(arrays.brain),
            "mask_centre": centre,
            "statistics": arrays.statistics,
            "foreground": {str(label): voxels.tolist() for label, voxels in arrays.foreground.items()},
        },
    )


def _centroid(mask: np.ndarray) -> list[int]:
    return [int(np.rint(np.mean(axis))) for axis in np.nonzero(mask)]


def _save(path: Path, array: np.ndarray) -> None:
    spatial = [min(n, _CHUNK) for n in array.shape[-3:]]
    blocks = [min(n, _BLOCK) for n in spatial]
    lead = [1] * (array.ndim - 3)
    codec = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1}
    blosc2.asarray(
        np.ascontiguousarray(array), urlpath=str(path), mode="w", chunks=(*lead, *spatial), blocks=(*lead, *blocks), cparams=codec
    )


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkbenchError(f"prepared arrays cannot be written to {folder}: {error.strerror or error}") from error


def _sweep(target: Path) -> None:
    """Remove what killed runs on this host left; entries of processes that still run, or of other hosts, stay."""
    for left in target.glob(f".tmp-{socket.gethostname()}-*"):
        process = left.name.rsplit("-", 2)[1]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
