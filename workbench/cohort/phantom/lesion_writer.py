"""A phantom of other lesions as an ordinary cohort folder: made like that of the gliomas, without markers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

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
from workbench.cohort.phantom.lesion_options import LESIONS, MIXED, SEQUENCES, LesionOptions
from workbench.cohort.phantom.lesion_subject import draw_person, make_lesion_case
from workbench.cohort.phantom.truth import case_name
from workbench.cohort.table import INFO_FILE, TRUTH_FILE, Cohort, CohortInfo
from workbench.errors import ParameterError
from workbench.files import read_json, write_parquet

TITLES = {"ms": "multiple sclerosis", "wmh": "white-matter hyperintensities", "stroke": "ischaemic stroke",
          "metastasis": "brain metastases", MIXED: "mixed lesions"}  # fmt: skip


def make_lesions(
    folder: Path,
    lesion: str,
    subjects: int,
    spacing: float,
    seed: int,
    options: LesionOptions,
    workers: int,
    progress: bool,
) -> Cohort:
    """Make a lesion cohort, or finish one; see `writer.make_phantom`.

    Raises:
        ParameterError: an unknown kind of lesion or a setting out of range, or the folder holds other settings.
        WorkbenchError: the folder holds another cohort.
    """
    if lesion not in LESIONS:
        raise ParameterError(f"--lesion {lesion}: unknown; there are {', '.join(LESIONS)}")
    check_numbers(subjects, spacing, seed, workers)
    settings = {
        "generator": GENERATOR,
        "lesion": lesion,
        "subjects": subjects,
        "spacing": spacing,
        "seed": seed,
        "options": options.settings(),
    }
    version = claim(folder, settings)
    missing = [index for index in range(subjects) if not complete(folder, case_name(index))]
    if version < GENERATOR or (not missing and (folder / INFO_FILE).is_file()):
        return open_finished(folder, version)
    make_all(_make, [(folder, seed, index, spacing, lesion, options) for index in missing], workers, progress)
    truth = _truth(folder, lesion, subjects, seed, options)
    write_parquet(folder / TRUTH_FILE, truth)
    return Cohort.create(folder, _info(lesion, subjects, spacing, seed, options), _cases(truth, lesion, options))


def _make(folder: Path, seed: int, index: int, spacing: float, lesion: str, options: LesionOptions) -> None:
    case = make_lesion_case(seed, index, spacing, lesion, options)
    write_case(folder, case_name(index), case, case.drawn)


def _truth(folder: Path, lesion: str, subjects: int, seed: int, options: LesionOptions) -> pd.DataFrame:
    """Who the subjects are and what was drawn; what only another kind of lesion has is null."""
    rows = []
    for index in range(subjects):
        person = draw_person(seed, index, lesion, options)
        name = case_name(index)
        who = {"case": name, "subject": name[:-4], "site": person.site, "age": person.age, "sex": person.sex}
        rows.append(who | read_json(facts_path(folder, name)))
    return pd.DataFrame(rows).convert_dtypes()


def _cases(truth: pd.DataFrame, lesion: str, options: LesionOptions) -> pd.DataFrame:
    rows = truth[["case", "subject", "site", "age", "sex"]].copy()
    rows["age"] = rows["age"].astype(float).round(1)
    rows["timepoint"] = [name[-3:] for name in truth["case"]]
    for modality in _modalities(lesion, options):
        there = truth["sequences"].str.split("+").map(lambda found, m=modality: m in found).astype(bool)
        paths = pd.Series([f"images/{name}/{name}-{FILE_NAMES[modality]}.nii.gz" for name in truth["case"]])
        rows[modality] = paths.where(there, None)
    rows["segmentation"] = [f"images/{name}/{name}-seg.nii.gz" for name in truth["case"]]
    rows["labels"] = "lesion"
    rows["lesion"] = truth["kind"]
    return rows


def _modalities(lesion: str, options: LesionOptions) -> tuple[str, ...]:
    kinds = options.kinds.values() if lesion == MIXED else (options.kinds[lesion],)
    return tuple(name for name in SEQUENCES if any(name in kind.sequences for kind in kinds))


def _info(lesion: str, subjects: int, spacing: float, seed: int, options: LesionOptions) -> CohortInfo:
    return CohortInfo(
        name=f"phantom-{lesion}",
        modalities=_modalities(lesion, options),
        label_convention="lesion",
        image_root=".",
        source=f"generated (generator {GENERATOR}): {TITLES[lesion]}, {subjects} subjects, {spacing:g} mm, seed {seed}",
        space="native",
        licence="synthetic; anatomy: ICBM 152 nonlinear 2009a, (c) McConnell Brain Imaging Centre, MNI",
        citation="Fonov et al. 2011, NeuroImage 54:313 (anatomy)",
        who_edition="2021" if lesion == MIXED else "",
        external_sites=("external",) if "external" in options.sites else (),
        phantom=True,
    )
