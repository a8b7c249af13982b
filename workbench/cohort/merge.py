"""Several cohorts as one: `workbench cohort merge`. Images stay where they are; no case is mistaken for another cohort's."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from workbench.cohort.collections import sharing
from workbench.cohort.table import Cohort, CohortInfo, row_convention
from workbench.cohort.writing import refuse_existing, relative_root, write_cohort
from workbench.contracts import MODALITY_TITLES
from workbench.errors import ParameterError, WorkbenchError
from workbench.labels import LABEL_SET_CLASSES

SINGLE_CLASS = tuple(name for name, classes in LABEL_SET_CLASSES.items() if classes == 2)
"""Label sets that every mask can be read with: the whole of what was drawn is one class."""
_KEPT_APART = ("case", "subject", "site")


def merge_cohorts(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    labels: str = "",
    lesions: Mapping[str, str] | None = None,
    name: str = "",
    overwrite: bool = False,
) -> Cohort:
    """Write the cases of several cohorts as one cohort over the same images. Folds are not taken over.

    The sequences are the union; a case lacks those that its cohort does not have. `dataset` says which cohort a case came from. A
    case, subject or site whose name occurs in two cohorts gets its dataset in front: subjects are never merged silently.

    Args:
        folders: two or more cohort folders with different names.
        out: folder of the new cohort.
        labels: '' keeps what each case's annotators drew; lesion or WT reads every mask as one class, as MoME does.
        lesions: dataset -> kind of lesion of its cases, where they do not say so themselves.
        name: name of the new cohort; default the name of `out`.
        overwrite: replace a cohort that is already there.

    Warns:
        UserWarning: a subject's name, or that of a site held out as external, occurs in two cohorts, or they are made of
            collections that share subjects.

    Raises:
        ParameterError: fewer than two cohorts, two of one name, an unknown dataset or label set.
        WorkbenchError: an input is no cohort, the images have no folder in common, or `out` holds a cohort or cannot be written.
    """
    out = Path(out)
    refuse_existing(out, overwrite)
    cohorts = _open(folders, out)
    if labels and labels not in SINGLE_CLASS:
        raise ParameterError(
            f"--labels {labels}: the masks can be read as {' or '.join(SINGLE_CLASS)}, or as they are (leave it out)"
        )
    lesions = dict(lesions or {})
    if unknown := sorted(set(lesions) - set(cohorts)):
        raise ParameterError(f"--lesion {unknown[0]}: no such dataset; there are {', '.join(cohorts)}")
    root = _common_root(list(cohorts.values()))
    clashes = {column: _clashes(cohorts, column) for column in _KEPT_APART}
    parts, external = [], []
    for dataset, cohort in cohorts.items():
        part = _prefixed(_rows(cohort, dataset, lesions.get(dataset), root), dataset, clashes)
        if labels:
            part.loc[part["segmentation"].notna(), "labels"] = labels
        parts.append(part)
        external += [_renamed(site, dataset, clashes["site"]) for site in cohort.info.external_sites]
    _all_apart(parts)
    modalities = _union([cohort.modalities for cohort in cohorts.values()])
    cases = pd.concat([part.reindex(columns=_union([[*p.columns] for p in parts])) for part in parts], ignore_index=True)
    conventions = cases["label_convention"].dropna().unique()
    common = str(conventions[0]) if len(conventions) == 1 else None
    if common:
        cases["label_convention"] = None
    info = _info(list(cohorts.values()), name or out.resolve().name, modalities, common, relative_root(root, out), external)
    truths = [_truth(cohort, dataset, clashes) for dataset, cohort in cohorts.items()]
    known = [truth for truth in truths if truth is not None]
    truth = pd.concat(known, ignore_index=True) if len(known) == len(cohorts) else None
    made = write_cohort(out, info, cases, overwrite=overwrite, truth=truth)
    for remark in _remarks(cohorts, clashes):
        warnings.warn(f"cohort {info.name}: {remark}", stacklevel=2)
    return made


def names_in_merges(cohort: Cohort) -> dict[str, str]:
    """Subject -> its name with its dataset in front, as a merge writes it where two cohorts have the same name.

    The same person is found by it in a cohort, in one merged from it, and never in another cohort of the merge.
    """
    named = {}
    for subject, dataset in zip(cohort.cases["subject"], cohort.cases["dataset"].fillna(cohort.info.name), strict=True):
        done = str(subject).startswith(f"{dataset}-")
        named[str(subject)] = str(subject) if done else _renamed(str(subject), str(dataset), {str(subject)})
    return named


def _open(folders: Sequence[str | Path], out: Path) -> dict[str, Cohort]:
    """Dataset -> cohort."""
    if len(folders) < 2:
        raise ParameterError(f"merging takes two or more cohorts, {len(folders)} given")
    cohorts: dict[str, Cohort] = {}
    for folder in folders:
        cohort = Cohort.open(folder)
        if cohort.folder.resolve() == out.resolve():
            raise ParameterError(f"{out} is one of the cohorts; choose another folder for the merged one")
        if (twin := cohorts.get(cohort.info.name)) is not None:
            if twin.folder.resolve() == cohort.folder.resolve():
                raise ParameterError(f"{folder} is given twice: its cases would stand for two of themselves")
            raise ParameterError(
                f"{twin.folder} and {folder} are both named '{cohort.info.name}': their cases could not be told apart. Import "
                f"one of them under another name (`--name`), or copy its table: `workbench cohort filter {folder} 'case.notna()' "
                "--out OTHER_NAME`"
            )
        cohorts[cohort.info.name] = cohort
    return cohorts


def _union(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All names once: the known sequences in the house's order, then the others as they come."""
    found = list(dict.fromkeys(name for group in names for name in group))
    known = [name for name in MODALITY_TITLES if name in found]
    return tuple(known + [name for name in found if name not in known])


def _common_root(cohorts: list[Cohort]) -> Path:
    roots = [cohort.image_root.resolve() for cohort in cohorts]
    try:
        return Path(os.path.commonpath(roots))
    except ValueError as error:  # two drives
        listed = ", ".join(map(str, roots))
        raise WorkbenchError(f"the images have no folder in common ({listed}): bring them onto one drive") from error


def _rows(cohort: Cohort, dataset: str, lesion: str | None, root: Path) -> pd.DataFrame:
    """The table of a cohort with paths relative to `root` and the columns that say where a case comes from."""
    cases = cohort.cases.copy()
    here = Path(os.path.relpath(cohort.image_root.resolve(), root)).as_posix()
    for column in (*cohort.modalities, "brain_mask", "segmentation"):
        cases[column] = cases[column].map(lambda path: path if here == "." else f"{here}/{path}", na_action="ignore")
    cases["dataset"] = cases["dataset"].fillna(dataset)
    if lesion:
        cases["lesion"] = cases["lesion"].fillna(lesion)
    drawn_as_glioma = cases["labels"].isin([name for name, classes in LABEL_SET_CLASSES.items() if classes > 2])
    cases["lesion"] = cases["lesion"].mask(cases["lesion"].isna() & drawn_as_glioma, "glioma")  # nothing else has these labels
    conventions = pd.Series([row_convention(row, cohort.info) for _, row in cases.iterrows()], index=cases.index, dtype="string")
    cases["label_convention"] = conventions.where(cases["segmentation"].notna())
    return cases


def _clashes(cohorts: dict[str, Cohort], column: str) -> set[str]:
    """Values that occur in more than one cohort."""
    seen: set[str] = set()
    twice: set[str] = set()
    for cohort in cohorts.values():
        values = set(cohort.cases[column])
        twice |= seen & values
        seen |= values
    return twice


def _renamed(value: str, dataset: str, clashing: set[str]) -> str:
    return f"{dataset}-{value}" if value in clashing else value


def _prefixed(table: pd.DataFrame, dataset: str, clashes: Mapping[str, set[str]]) -> pd.DataFrame:
    renamed = {
        column: table[column].map(lambda value, c=column: _renamed(str(value), dataset, clashes[c]))
        for column in _KEPT_APART
        if column in table
    }
    return table.assign(**renamed)


def _all_apart(parts: list[pd.DataFrame]) -> None:
    """Refuse names that a prefix has made equal to another cohort's."""
    for column in ("case", "subject"):
        seen: set[str] = set()
        for part in parts:
            values = set(part[column])
            if both := sorted(seen & values):
                raise ParameterError(
                    f"the {column} '{both[0]}' would stand for two: import one of the cohorts under another name (`--name`)"
                )
            seen |= values


def _truth(cohort: Cohort, dataset: str, clashes: Mapping[str, set[str]]) -> pd.DataFrame | None:
    truth = cohort.truth
    return None if truth is None else _prefixed(truth, dataset, clashes)


def _info(
    cohorts: list[Cohort], name: str, modalities: tuple[str, ...], convention: str | None, root: str, external: list[str]
) -> CohortInfo:
    infos = [cohort.info for cohort in cohorts]

    def same(values: list[str], otherwise: str) -> str:
        return values[0] if len(set(values)) == 1 else otherwise

    def joined(values: list[str]) -> str:
        return "; ".join(dict.fromkeys(value for value in values if value))

    said = all(info.collections for info in infos)  # the union of what only some say would promise too much
    return CohortInfo(
        name=name,
        modalities=modalities,
        label_convention=convention,
        image_root=root,
        source="merged: " + ", ".join(info.name for info in infos),
        space=same([info.space for info in infos], "native"),
        licence=joined([info.licence for info in infos]),
        citation=joined([info.citation for info in infos]),
        who_edition=same([info.who_edition for info in infos], ""),
        external_sites=tuple(dict.fromkeys(external)),
        phantom=any(info.phantom for info in infos),
        collections=tuple(dict.fromkeys(item for info in infos for item in info.collections)) if said else (),
        pseudonyms=all(info.pseudonyms for info in infos),
    )


def _remarks(cohorts: dict[str, Cohort], clashes: Mapping[str, set[str]]) -> list[str]:
    remarks = []
    held_out = {site for cohort in cohorts.values() for site in cohort.info.external_sites} & clashes["site"]
    if held_out:
        remarks.append(
            f"site {', '.join(sorted(held_out))} is external in one cohort and occurs in another: they are kept apart by their "
            "dataset; if they are one hospital, results on the external one are none of an unseen site"
        )
    if subjects := clashes["subject"]:
        listed = ", ".join(sorted(subjects)[:5]) + (" ..." if len(subjects) > 5 else "")
        remarks.append(
            f"{len(subjects)} subject names occur in several cohorts and were kept apart by their dataset ({listed}); "
            "`workbench cohort check` finds images that are the same"
        )
    names = list(cohorts)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            if shared := sharing(cohorts[one].info.collections, cohorts[other].info.collections):
                pairs = ", ".join(sorted({f"{a} and {b}" if a != b else a for a, b in shared}))
                remarks.append(f"{one} and {other} may hold the same patients under two names ({pairs}): take one of them out")
    return remarks
