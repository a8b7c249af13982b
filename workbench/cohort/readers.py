"""From a folder of images to a cohort: the readers by name, and `import_cohort`, which runs one of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.cohort import brats, generic
from workbench.cohort.collections import COLLECTIONS, check_collections
from workbench.cohort.discovery import Discovery, nifti_stem, walk_files
from workbench.cohort.pseudonyms import IMAGES_FOLDER, refuse_target, write_pseudonymous
from workbench.cohort.subjects import add_subjects
from workbench.cohort.table import Cohort, CohortInfo, normalise_cases
from workbench.cohort.writing import refuse_existing, relative_root, write_cohort
from workbench.errors import InputError, ParameterError, Problem
from workbench.labels import CONVENTIONS, convention


@dataclass(frozen=True)
class Reader:
    """A way to find the cases of a folder.

    Attributes:
        name: what it is called on the command line.
        title: what it reads, in words.
        discover: (source folder, modality -> glob, brain mask glob, segmentation glob) -> what was found.
        count: number of a list of relative paths that are named as this reader expects; 0 = not recognised.
        takes_globs: whether the user says where the images are.
    """

    name: str
    title: str
    discover: Callable[[Path, dict[str, str], str, str], Discovery]
    count: Callable[[Sequence[str]], int]
    takes_globs: bool = False


def _brats(naming: brats.Naming) -> Reader:
    return Reader(naming.name, naming.title, lambda source, *_: brats.discover(source, naming), naming.count)


READERS: dict[str, Reader] = {
    "generic": Reader("generic", "one glob per modality", generic.discover, lambda files: 0, takes_globs=True),
    "brats2021": _brats(brats.BRATS2021),
    "brats2023": _brats(brats.BRATS2023),
    "brats2024": _brats(brats.BRATS2024),
}


def import_cohort(
    reader: str,
    source: str | Path,
    out: str | Path,
    *,
    images: Mapping[str, str] | None = None,
    brain_mask: str = "",
    segmentation: str = "",
    subjects: str | Path | None = None,
    labels: str = "",
    name: str = "",
    external_sites: Sequence[str] = (),
    collections: Sequence[str] = (),
    lesion: str = "",
    overwrite: bool = False,
    pseudonyms: bool = False,
    progress: bool = False,
) -> Cohort:
    """Make a cohort of a folder of images. The images stay where they are; the cohort folder holds the table.

    With pseudonyms the cohort folder holds copies of the images too, and neither it nor they name a case or subject of the
    source; `pseudonyms.key_path` says where the key lies. The key stays where an import fails, so that a second one agrees.

    Args:
        reader: a key of `READERS`, or 'auto': recognised by the names of the files (generic where `images` are given).
        source: folder of the images.
        out: the cohort folder to write.
        images: modality -> glob relative to `source` (generic reader); the text matched by the first `*` is the case.
        brain_mask: glob of the brain masks (generic reader).
        segmentation: glob of the segmentations (generic reader); `labels` is then needed.
        subjects: CSV of subject data, see `subjects.COLUMN_NAMES` and `subjects.SPELLINGS`.
        labels: key of `labels.CONVENTIONS`; default the reader's own.
        name: name of the cohort; default the name of `out`.
        external_sites: sites whose subjects are never trained on or validated with.
        collections: named collections that the images come from, see `collections.COLLECTIONS`; default the reader's own.
        lesion: kind of lesion of all its cases (glioma, ms, wmh, stroke, metastasis, ...), where the CSV does not say it.
        overwrite: replace a cohort that is already in `out`.
        pseudonyms: give every case and subject a pseudonym; known ones where the key beside `out` has their names.
        progress: show how far the copying of images is.

    Warns:
        UserWarning: what the user should know: rows without a case, names matched loosely, several files for one place, ...

    Raises:
        ParameterError: unknown reader, convention or site, or an option that the reader does not take.
        InputError: the folder does not hold what the options say.
        WorkbenchError: `out` holds a cohort already, or cannot be written. In every case nothing half-written is left.
    """
    source, out, globs = Path(source), Path(out), dict(images or {})
    collections = check_collections(collections)
    refuse_existing(out, overwrite)
    if not source.is_dir():
        raise InputError(Problem(file=str(source), message="the folder of images does not exist"))
    refuse_target(out, source, pseudonyms)
    chosen = _choose(reader, source, globs)
    if not chosen.takes_globs and (globs or brain_mask or segmentation):
        raise ParameterError(
            f"reader '{chosen.name}' knows its files by their names and takes no globs; use the generic reader to give them"
        )
    if labels:
        convention(labels)
    if segmentation and not labels:
        raise ParameterError(
            f"the segmentations need a label convention: which of {', '.join(CONVENTIONS)} were they drawn in? (`--labels`)"
        )
    found = chosen.discover(source, globs, brain_mask, segmentation)
    cases, remarks = found.cases, list(found.remarks)
    if subjects is not None:
        cases, more = add_subjects(cases, Path(subjects))
        remarks += more
    if lesion.strip():
        cases["lesion"] = cases["lesion"].fillna(lesion.strip()) if "lesion" in cases else lesion.strip()
    if "repeats" in cases and (repeated := cases.loc[cases["repeats"].notna(), "case"].tolist()):
        named = ", ".join(repeated[:5]) + (" ..." if len(repeated) > 5 else "")
        remarks.append(f"several files fit one place in {len(repeated)} cases, the first in sorted order was taken: {named}")
    info = CohortInfo(
        name=name or out.resolve().name,
        modalities=found.modalities,
        label_convention=labels or found.labels or None,
        image_root=IMAGES_FOLDER if pseudonyms else relative_root(source, out),
        source=f"{chosen.name} reader, with pseudonyms" if pseudonyms else f"{source.resolve().name} ({chosen.name} reader)",
        space=found.space,
        who_edition="",
        external_sites=tuple(external_sites),
        phantom=False,
        collections=collections or ((chosen.name,) if chosen.name in COLLECTIONS else ()),
        pseudonyms=pseudonyms,
    )
    table = normalise_cases(cases, info)
    sites = set(table["site"])
    if missing := [site for site in external_sites if site not in sites]:
        raise ParameterError(f"external site '{missing[0]}' is not in the cohort; its sites are {', '.join(sorted(sites))}")
    if pseudonyms:
        cohort = write_pseudonymous(source, out, info, table, overwrite=overwrite, progress=progress)
    else:
        cohort = write_cohort(out, info, table, overwrite=overwrite)
    for remark in remarks:
        warnings.warn(f"cohort {info.name}: {remark}", stacklevel=2)
    return cohort


def _choose(reader: str, source: Path, globs: dict[str, str]) -> Reader:
    if reader in READERS:
        return READERS[reader]
    if reader != "auto":
        raise ParameterError(f"reader '{reader}' is unknown; there are: auto, {', '.join(READERS)}")
    if globs:
        return READERS["generic"]
    files = [path for path in walk_files(source) if nifti_stem(path)]
    counts = {name: count for name, each in READERS.items() if (count := each.count(files))}
    if len(counts) == 1:
        return READERS[next(iter(counts))]
    if counts:
        saw = "files named as by " + " and by ".join(f"{name} ({count})" for name, count in counts.items())
        remedy = "name the reader instead of 'auto', or give one of the folders below"
    else:
        examples = f", such as {', '.join(files[:3])}" if files else ""
        saw = f"{len(files)} NIfTI files{examples}; none is named as by {' or by '.join(n for n in READERS if n != 'generic')}"
        remedy = "use the generic reader and give one glob per modality, e.g. `--flair '*/flair.nii.gz'`"
    raise InputError(Problem(file=str(source), message=f"the layout was not recognised: it holds {saw}", remedy=remedy))
