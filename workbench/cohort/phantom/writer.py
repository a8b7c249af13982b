"""`make_phantom`: the phantom as an ordinary cohort folder in BraTS 2023 naming (2024 after surgery), its truth beside it."""

from __future__ import annotations

import gzip
import shutil
import uuid
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.cohort.phantom.anatomy import Box
from workbench.cohort.phantom.classes import draw_subject
from workbench.cohort.phantom.options import SIGNALS, PhantomOptions
from workbench.cohort.phantom.populations import MODALITIES
from workbench.cohort.phantom.signals import MARKER_COLUMNS
from workbench.cohort.phantom.subject import Case, make_cases
from workbench.cohort.phantom.truth import case_names, make_truth
from workbench.cohort.table import CASES_FILE, INFO_FILE, TRUTH_FILE, Cohort, CohortInfo
from workbench.errors import ParameterError, WorkbenchError
from workbench.files import atomic_path, read_json, write_json, write_parquet
from workbench.geometry import from_canonical_array
from workbench.labels import region_mask

SETTINGS_FILE = "phantom.json"
GENERATOR = 1
"""Version of the generator: raised whenever the same settings give other bytes."""

BRATS_NAMES = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"}
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def make_phantom(
    folder: str | Path,
    *,
    subjects: int = 40,
    spacing: float = 2.0,
    seed: int = 0,
    signal: str = "normal",
    stage: str | None = None,
    workers: int = 1,
    progress: bool = True,
    options: PhantomOptions | None = None,
    **overrides: Any,
) -> Cohort:
    """Make a phantom cohort, or finish one that was interrupted; a finished one with these settings is left as it is.

    Args:
        folder: the cohort folder, new or one that the same call began.
        subjects: how many; subject k is the same in any number of them.
        spacing: isotropic voxel size in mm, 1 to 4.
        signal: what the markers can be read from, see `signals`.
        stage: preoperative (one session each) or posttreatment (one to three, with a resection cavity, labels of BraTS 2024);
            default: that of `options`, preoperative where there are none.
        workers: processes; the bytes do not depend on it.
        options: rates and effect sizes; `overrides` sets single ones by name.

    Raises:
        ParameterError: a setting is out of range, or the folder holds a phantom of other settings; the message names them.
        WorkbenchError: the folder holds another cohort.
    """
    folder = Path(folder)
    if stage is not None:
        overrides["stage"] = stage
    chosen = PhantomOptions.build(**((options.model_dump() if options else {}) | overrides))
    _check(subjects, spacing, seed, signal, workers)
    settings = {
        "generator": GENERATOR,
        "subjects": subjects,
        "spacing": float(spacing),
        "seed": seed,
        "signal": signal,
        "options": chosen.settings(),
    }
    _claim(folder, settings)
    names = [case_names(index, seed, chosen) for index in range(subjects)]
    missing = [index for index, sessions in enumerate(names) if not all(_complete(folder, name) for name in sessions)]
    if not missing and (folder / INFO_FILE).is_file():
        return Cohort.open(folder)
    jobs = (joblib.delayed(_make)(folder, seed, index, float(spacing), chosen, signal) for index in missing)
    done = joblib.Parallel(n_jobs=min(workers, max(len(missing), 1)), return_as="generator_unordered")(jobs)
    for _ in tqdm(done, total=len(missing), desc="phantom", unit="subject", disable=not progress):
        pass
    return _write_tables(
        folder, [name for sessions in names for name in sessions], subjects, seed, float(spacing), signal, chosen
    )


def _check(subjects: int, spacing: float, seed: int, signal: str, workers: int) -> None:
    if signal not in SIGNALS:
        raise ParameterError(f"--signal {signal}: unknown; there are {', '.join(SIGNALS)}")
    if not 1 <= float(spacing) <= 4:
        raise ParameterError(f"--spacing {spacing:g}: the phantom can be made at 1 to 4 mm")
    for name, value, low, high in (("subjects", subjects, 1, 99999), ("seed", seed, 0, 2**62), ("workers", workers, 1, 256)):
        if isinstance(value, bool) or int(value) != value or not low <= value <= high:
            raise ParameterError(f"--{name} {value}: must be a whole number from {low} to {high}")


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Mark a new folder with its settings, or see that it is marked with the same ones."""
    path = folder / SETTINGS_FILE
    if not path.is_file():
        if (folder / INFO_FILE).exists() or (folder / CASES_FILE).exists():
            raise WorkbenchError(f"{folder} holds another cohort: choose a new folder for the phantom")
        if folder.exists() and not folder.is_dir():
            raise WorkbenchError(f"{folder} is a file: choose a folder for the phantom")
        write_json(path, settings)
        return
    found = _flat(read_json(path))
    asked = _flat(settings)
    different = [key for key in sorted(found.keys() | asked.keys()) if found.get(key) != asked.get(key)]
    if different:
        listed = "; ".join(f"{key} is {found.get(key)!r} there, asked is {asked.get(key)!r}" for key in different[:5])
        raise ParameterError(f"{folder} holds a phantom of other settings: {listed}. Choose a new folder, or delete this one")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, part in value.items():
        result |= _flat(part, f"{prefix}.{key}" if prefix else str(key))
    return result


def _facts_path(folder: Path, name: str) -> Path:
    return folder / "truth" / f"{name}.json"


def _complete(folder: Path, name: str) -> bool:
    """Whether a case is whole: its folder appears in one move, after its truth was written; files may have been lost since."""
    images = folder / "images" / name
    if not (images / f"{name}-seg.nii.gz").is_file() or not _facts_path(folder, name).is_file():
        return False
    try:
        sequences = str(read_json(_facts_path(folder, name))["sequences"]).split("+")
    except (WorkbenchError, KeyError, TypeError):
        return False
    truths = [folder / "truth" / f"{name}-{kind}.nii.gz" for kind in ("labels", "u")]
    return all(path.is_file() for path in [*truths, *(images / f"{name}-{BRATS_NAMES[m]}.nii.gz" for m in sequences)])


def _make(folder: Path, seed: int, index: int, spacing: float, options: PhantomOptions, signal: str) -> None:
    coarse = options.coarse_site == draw_subject(seed, index, options, signal).site
    for name, case in zip(case_names(index, seed, options), make_cases(seed, index, spacing, options, signal), strict=True):
        if not _complete(folder, name):
            _write_case(folder, name, case, coarse)


def _write_case(folder: Path, name: str, case: Case, coarse: bool) -> None:
    affine = case.box.affine()
    drawn = region_mask(case.drawn, "WT").astype(np.uint8) if coarse else case.drawn
    target = folder / "images" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    for kind, array in (("labels", case.labels), ("u", case.concentration)):
        _write_image(folder / "truth" / f"{name}-{kind}.nii.gz", array, affine, case.box, 1 / 255 if kind == "u" else 1.0)
    write_json(_facts_path(folder, name), case.facts)
    temporary = target.parent / f".{uuid.uuid4().hex[:12]}.tmp"
    try:
        for modality, array in case.images.items():
            _write_image(temporary / f"{name}-{BRATS_NAMES[modality]}.nii.gz", array, affine, case.box)
        _write_image(temporary / f"{name}-seg.nii.gz", drawn, affine, case.box)
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_image(path: Path, array: np.ndarray, affine: np.ndarray, box: Box, slope: float = 1.0) -> None:
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


def _write_tables(
    folder: Path, names: list[str], subjects: int, seed: int, spacing: float, signal: str, options: PhantomOptions
) -> Cohort:
    truth = make_truth(subjects, seed, signal, options, [read_json(_facts_path(folder, name)) for name in names])
    after = options.stage != "preoperative"
    label_set = "glioma_post" if after else "glioma"
    rows = truth[["case", "subject", "site", "age", "sex"]].copy()
    rows["timepoint"] = [name[-3:] for name in names]
    for modality in MODALITIES:
        paths = [f"images/{name}/{name}-{BRATS_NAMES[modality]}.nii.gz" for name in names]
        there = truth["sequences"].str.split("+").map(lambda found, m=modality: m in found)
        rows[modality] = pd.Series(paths).where(there, None)
    rows["segmentation"] = [f"images/{name}/{name}-seg.nii.gz" for name in names]
    rows["labels"] = np.where(truth["site"] == options.coarse_site, "WT", label_set) if options.coarse_site else label_set
    for marker in MARKER_COLUMNS:
        rows[marker] = (
            truth[marker].astype("Int8").mask(truth["site"] == options.markerless_site)
            if options.markerless_site
            else truth[marker]
        )
    rows["age"] = rows["age"].round(1)
    info = CohortInfo(
        name="-".join(["phantom", *(["posttreatment"] if after else []), *([signal] if signal != "normal" else [])]),
        modalities=MODALITIES,
        label_convention="brats2024" if after else "brats2023",
        image_root=".",
        source=f"generated: {subjects} subjects, {spacing:g} mm, seed {seed}, signal {signal}"
        + (", after surgery" if after else ""),
        space="native",
        licence="synthetic; anatomy: ICBM 152 nonlinear 2009a, (c) McConnell Brain Imaging Centre, MNI",
        citation="Fonov et al. 2011, NeuroImage 54:313 (anatomy); Swanson et al. 2000, Cell Prolif 33:317 (growth)",
        who_edition="2021",
        external_sites=("external",) if "external" in options.sites else (),
        phantom=True,
    )
    write_parquet(folder / TRUTH_FILE, truth)
    return Cohort.create(folder, info, rows)
