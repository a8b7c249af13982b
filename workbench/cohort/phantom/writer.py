"""`make_phantom`: the phantom as an ordinary cohort folder in BraTS 2023 naming (2024 after surgery), its truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.cohort.phantom.classes import draw_subject
from workbench.cohort.phantom.folder import (
    FILE_NAMES,
    GENERATOR,
    check_numbers,
    claim,
    complete,
    facts_path,
    make_all,
    open_finished,
    write_case,
)
from workbench.cohort.phantom.lesion_options import LesionOptions
from workbench.cohort.phantom.lesion_writer import make_lesions
from workbench.cohort.phantom.options import SIGNALS, PhantomOptions
from workbench.cohort.phantom.signals import MARKER_COLUMNS
from workbench.cohort.phantom.subject import make_cases
from workbench.cohort.phantom.truth import case_names, make_truth
from workbench.cohort.table import INFO_FILE, TRUTH_FILE, Cohort, CohortInfo
from workbench.errors import ParameterError
from workbench.files import read_json, write_parquet
from workbench.labels import region_mask


def make_phantom(
    folder: str | Path,
    *,
    subjects: int = 40,
    spacing: float = 2.0,
    seed: int = 0,
    signal: str = "normal",
    stage: str | None = None,
    lesion: str = "glioma",
    workers: int = 1,
    progress: bool = True,
    options: PhantomOptions | LesionOptions | None = None,
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
        lesion: glioma, or another kind (`lesion_options.LESIONS`): ms, wmh, stroke, metastasis, or mixed, all of them at sites
            that each see their own. Those have no markers, hence neither another signal nor another stage.
        workers: processes (see `workers.worker_pool`); the bytes do not depend on it.
        options: rates and effect sizes (`LesionOptions` for the other lesions); `overrides` sets single ones by name.

    Raises:
        ParameterError: a setting is out of range, or the folder holds a phantom of other settings; the message names them.
        WorkbenchError: the folder holds another cohort.
    """
    folder = Path(folder)
    if lesion != "glioma":
        if signal != "normal" or stage not in (None, "preoperative"):
            asked = f"--signal {signal}" if signal != "normal" else f"--stage {stage}"
            raise ParameterError(f"{asked}: only gliomas have it, not --lesion {lesion}")
        theirs = ("extra", "misregistration", "coarse_site", "markerless_site")
        if asked_too := [f"--{name.replace('_', '-')}" for name in theirs if name in overrides]:
            raise ParameterError(f"{', '.join(asked_too)}: only gliomas have it, not --lesion {lesion}")
        if isinstance(options, PhantomOptions):
            raise ParameterError(f"--lesion {lesion} takes LesionOptions, not PhantomOptions")
        given = (options.model_dump() if options else {}) | overrides
        return make_lesions(folder, lesion, subjects, float(spacing), seed, LesionOptions.build(**given), workers, progress)
    if isinstance(options, LesionOptions):
        raise ParameterError("--lesion glioma takes PhantomOptions, not LesionOptions")
    if stage is not None:
        overrides["stage"] = stage
    chosen = PhantomOptions.build(**((options.model_dump() if options else {}) | overrides))
    check_numbers(subjects, spacing, seed, workers)
    _check_signal(signal)
    settings = {
        "generator": GENERATOR,
        "subjects": subjects,
        "spacing": float(spacing),
        "seed": seed,
        "signal": signal,
        "options": chosen.settings(),
    }
    version = claim(folder, settings)
    names = [case_names(index, seed, chosen) for index in range(subjects)]
    missing = [index for index, sessions in enumerate(names) if not all(complete(folder, name) for name in sessions)]
    if version < GENERATOR or (not missing and (folder / INFO_FILE).is_file()):
        return open_finished(folder, version)
    make_all(_make, [(folder, seed, index, float(spacing), chosen, signal) for index in missing], workers, progress)
    return _write_tables(
        folder, [name for sessions in names for name in sessions], subjects, seed, float(spacing), signal, chosen
    )


def _check_signal(signal: str) -> None:
    if signal not in SIGNALS:
        raise ParameterError(f"--signal {signal}: unknown; there are {', '.join(SIGNALS)}")


def _make(folder: Path, seed: int, index: int, spacing: float, options: PhantomOptions, signal: str) -> None:
    coarse = options.coarse_site == draw_subject(seed, index, options, signal).site
    for name, case in zip(case_names(index, seed, options), make_cases(seed, index, spacing, options, signal), strict=True):
        if not complete(folder, name):
            write_case(folder, name, case, region_mask(case.drawn, "WT").astype(np.uint8) if coarse else case.drawn)


def _write_tables(
    folder: Path, names: list[str], subjects: int, seed: int, spacing: float, signal: str, options: PhantomOptions
) -> Cohort:
    truth = make_truth(subjects, seed, signal, options, [read_json(facts_path(folder, name)) for name in names])
    after = options.stage != "preoperative"
    label_set = "glioma_post" if after else "glioma"
    rows = truth[["case", "subject", "site", "age", "sex"]].copy()
    rows["timepoint"] = [name[-3:] for name in names]
    for modality in options.modalities:
        paths = [f"images/{name}/{name}-{FILE_NAMES[modality]}.nii.gz" for name in names]
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
        modalities=options.modalities,
        label_convention="brats2024" if after else "brats2023",
        image_root=".",
        source=f"generated (generator {GENERATOR}): {subjects} subjects, {spacing:g} mm, seed {seed}, signal {signal}"
        + (", after surgery" if after else "")
        + (f", with {' and '.join(options.extra)}" if options.extra else ""),
        space="native",
        licence="synthetic; anatomy: ICBM 152 nonlinear 2009a, (c) McConnell Brain Imaging Centre, MNI",
        citation="Fonov et al. 2011, NeuroImage 54:313 (anatomy); Swanson et al. 2000, Cell Prolif 33:317 (growth)",
        who_edition="2021",
        external_sites=("external",) if "external" in options.sites else (),
        phantom=True,
    )
    write_parquet(folder / TRUTH_FILE, truth)
    return Cohort.create(folder, info, rows)
