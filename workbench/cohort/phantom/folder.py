"""A phantom's folder on disk: the settings it is marked with, and its images, the same bytes for the same arrays."""

from __future__ import annotations

import gzip
import shutil
import uuid
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm.auto import tqdm

from workbench.cohort.phantom.anatomy import Box
from workbench.cohort.phantom.subject import Case
from workbench.cohort.table import CASES_FILE, FLAWS, INFO_FILE, PHANTOM_FILE, Cohort
from workbench.errors import ParameterError, WorkbenchError
from workbench.files import atomic_path, read_json, write_json
from workbench.geometry import from_canonical_array
from workbench.workers import worker_pool

GENERATOR = 2
"""Version of the generator: raised whenever the same settings give other bytes. 2: numbers are dealt by chance (`classes`)."""
FILE_NAMES = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f", "dwi": "dwi", "adc": "adc", "cbv": "cbv"}
"""Sequence -> how BraTS 2023 names its file; what BraTS lacks by its own name."""
ANATOMY = {
    "template": "ICBM 152 nonlinear symmetric 2009a, as nilearn carries it; deformed and changed here",
    "notice": (
        "Copyright (C) 1993–2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill "
        "University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose "
        "and without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors "
        "and McGill University make no representations about the suitability of this software for any purpose. It is "
        "provided “as is” without express or implied warranty. The authors are not responsible for any data loss, "
        "equipment damage, property loss, or injury to subjects or patients resulting from the use or misuse of this "
        "software package."
    ),
    "citation": [
        "Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54:313-327",
        "Fonov et al. 2009, Unbiased nonlinear average age-appropriate brain templates from birth to adulthood, "
        "NeuroImage 47(S1):S102",
    ],
}
"""Whose anatomy every phantom shows. The notice must appear in all copies: it goes with the images, word for word."""


def check_numbers(subjects: int, spacing: float, seed: int, workers: int) -> None:
    """Refuse what no phantom can be made of.

    Raises:
        ParameterError: naming the setting and its limits.
    """
    if not 1 <= float(spacing) <= 4:
        raise ParameterError(f"--spacing {spacing:g}: the phantom can be made at 1 to 4 mm")
    for name, value, low, high in (("subjects", subjects, 1, 99999), ("seed", seed, 0, 2**62), ("workers", workers, 1, 256)):
        if isinstance(value, bool) or int(value) != value or not low <= value <= high:
            raise ParameterError(f"--{name} {value}: must be a whole number from {low} to {high}")


def claim(folder: Path, settings: dict[str, Any]) -> int:
    """Mark a new folder with its settings and the notice of its anatomy, or see that it is marked with the same settings.

    Returns:
        The version of the generator that the folder belongs to: an older one where it finished there what is asked for.

    Raises:
        ParameterError: it is marked with other settings, or an older generator began it.
        WorkbenchError: it is a file, or holds a cohort that is no phantom.
    """
    path = folder / PHANTOM_FILE
    if not path.is_file():
        if (folder / INFO_FILE).exists() or (folder / CASES_FILE).exists():
            raise WorkbenchError(f"{folder} holds another cohort: choose a new folder for the phantom")
        if folder.exists() and not folder.is_dir():
            raise WorkbenchError(f"{folder} is a file: choose a folder for the phantom")
        write_json(path, settings | {"anatomy": ANATOMY})
        return GENERATOR
    marked = read_json(path)
    if marked.pop("anatomy", None) != ANATOMY:  # made before the notice was written: it must go with every copy
        write_json(path, marked | {"anatomy": ANATOMY})
    version = int(marked.get("generator", GENERATOR))
    found = _flat(marked)
    asked = _flat(settings)
    if version < GENERATOR:
        found |= {"generator": asked.get("generator")}
    different = [key for key in sorted(found.keys() | asked.keys()) if found.get(key) != asked.get(key)]
    if different:
        listed = "; ".join(f"{key} is {found.get(key)!r} there, asked is {asked.get(key)!r}" for key in different[:5])
        raise ParameterError(f"{folder} holds a phantom of other settings: {listed}. Choose a new folder, or delete this one")
    if version < GENERATOR and not (folder / INFO_FILE).is_file():
        raise ParameterError(
            f"{folder} holds a phantom that generator {version} began; this is {GENERATOR}, which draws other subjects. "
            "Choose a new folder, or delete this one"
        )
    return version


def open_finished(folder: Path, version: int) -> Cohort:
    """A finished phantom; a remark goes out where another version of the generator made it."""
    if version < GENERATOR:
        flaw = f": {FLAWS[version]}" if version in FLAWS else ""
        warnings.warn(f"generator {version} made the phantom in {folder}{flaw}. It is left as it is", stacklevel=3)
    return Cohort.open(folder)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, part in value.items():
        result |= _flat(part, f"{prefix}.{key}" if prefix else str(key))
    return result


def facts_path(folder: Path, name: str) -> Path:
    """What was drawn of a case, as JSON; the truth table is made of these."""
    return folder / "truth" / f"{name}.json"


def complete(folder: Path, name: str) -> bool:
    """Whether a case is whole: its folder appears in one move, after its truth was written; files may have been lost since."""
    images = folder / "images" / name
    if not (images / f"{name}-seg.nii.gz").is_file() or not facts_path(folder, name).is_file():
        return False
    try:
        known = read_json(facts_path(folder, name))
        sequences = str(known["sequences"]).split("+")
    except (WorkbenchError, KeyError, TypeError):
        return False
    grown = known.get("kind", "glioma") == "glioma"  # other lesions have no concentration
    truths = [folder / "truth" / f"{name}-{kind}.nii.gz" for kind in (("labels", "u") if grown else ("labels",))]
    return all(path.is_file() for path in [*truths, *(images / f"{name}-{FILE_NAMES[m]}.nii.gz" for m in sequences)])


def make_all(make: Callable[..., None], jobs: Sequence[tuple[Any, ...]], workers: int, progress: bool) -> None:
    """Call `make` with each tuple of arguments, one per subject, on this many processes, with a progress bar."""
    with tqdm(total=len(jobs), desc="phantom", unit="subject", disable=not progress) as bar:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                make(*job)
                bar.update()
            return
        with worker_pool(min(workers, len(jobs))) as pool:
            for done in as_completed([pool.submit(make, *job) for job in jobs]):
                done.result()
                bar.update()


def write_case(folder: Path, name: str, case: Case, drawn: np.ndarray) -> None:
    """Write a case: truth first, then the folder of its images in one move.

    Args:
        drawn: the annotators' mask, uint8 (X, Y, Z).
    """
    affine = case.box.affine()
    target = folder / "images" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    for kind, array in (("labels", case.labels), ("u", case.concentration)):
        if array is not None:
            write_image(folder / "truth" / f"{name}-{kind}.nii.gz", array, affine, case.box, 1 / 255 if kind == "u" else 1.0)
    write_json(facts_path(folder, name), case.facts)
    temporary = target.parent / f".{uuid.uuid4().hex[:12]}.tmp"
    try:
        for modality, array in case.images.items():
            write_image(temporary / f"{name}-{FILE_NAMES[modality]}.nii.gz", array, affine, case.box)
        write_image(temporary / f"{name}-seg.nii.gz", drawn, affine, case.box)
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_image(path: Path, array: np.ndarray, affine: np.ndarray, box: Box, slope: float = 1.0) -> None:
    """Write (X, Y, Z) RAS+ as a gzip NIfTI in LPS order, as BraTS does. No time stamp: the same array gives the same bytes."""
    lps = _to_lps(affine, box)
    image = nib.Nifti1Image(np.ascontiguousarray(from_canonical_array(array, lps)), lps, dtype=array.dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(lps, code=1)
    image.set_qform(lps, code=1)
    if slope != 1.0:
        image.header.set_slope_inter(slope, 0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(_plain_bytes(image, slope), compresslevel=4, mtime=0))


def _plain_bytes(image: nib.Nifti1Image, slope: float) -> bytes:
    header = image.header.copy()
    if slope != 1.0:
        header["scl_slope"], header["scl_inter"] = slope, 0.0
    header["vox_offset"] = 352
    array = np.asanyarray(image.dataobj)
    return header.binaryblock + b"\0" * 4 + array.astype(header.get_data_dtype()).tobytes(order="F")


def _to_lps(affine: np.ndarray, box: Box) -> np.ndarray:
    flipped = affine.copy()
    for axis in (0, 1):
        flipped[axis, axis] = -affine[axis, axis]
        flipped[axis, 3] = affine[axis, 3] + affine[axis, axis] * (box.shape[axis] - 1)
    return flipped
