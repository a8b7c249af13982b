"""What a cohort looks like in numbers: the tables of `workbench cohort show` and of the explore notebook."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.cohort.collections import COLLECTIONS
from workbench.cohort.scan import read_header
from workbench.cohort.table import FLAWS, Cohort, row_convention
from workbench.contracts import MARKER_POSITIVE, MARKERS
from workbench.errors import InputError
from workbench.labels import as_drawn, region_mask, regions_of, to_canonical

MARKER_NEGATIVE = {"idh": "wild type", "codel": "intact", "tert": "wild type", "mgmt": "unmethylated"}
UNKNOWN = "unknown"


def fingerprint_tables(cohort: Cohort, *, volumes: bool = False, progress: bool = False) -> dict[str, pd.DataFrame]:
    """Tables that describe a cohort. Files that cannot be read are left out; `cohort check` names them.

    Args:
        cohort: the cohort.
        volumes: measure the segmentations too (reads every mask).
        progress: show a progress bar.

    Returns:
        - `summary`: what, value (number of cases, subjects, sites, masks, ...)
        - `markers`: site, marker, class, subjects (subjects with several cases count once, with what is known of them)
        - `availability`: site, cases, then the number of cases with each modality, brain_mask and segmentation
        - `sequences`: the combinations of modalities, joined by '+', and how many cases have each
        - `age`: class (WHO 2021 type from IDH and 1p/19q), subjects, with_age, mean, sd, minimum, median, maximum, female, male
        - `geometry`: modality, shape, spacing (mm), orientation, cases (from the headers)
        - `groups` (only where the datasets or the kinds of lesion are known): dataset, lesion, site, cases, subjects
        - `volumes` (only when asked for): case, subject, site, label_set, region, ml
    """
    tables = {
        "summary": _summary(cohort),
        "markers": _markers(cohort),
        "availability": _availability(cohort),
        "sequences": _sequences(cohort),
        "age": _age(cohort),
        "geometry": _geometry(cohort, progress),
    }
    if len(groups := _groups(cohort)):
        tables["groups"] = groups
    if volumes:
        tables["volumes"] = tumour_volumes(cohort, progress=progress)
    return tables


def tumour_volumes(cohort: Cohort, *, progress: bool = False) -> pd.DataFrame:
    """Volume in ml of every region that can be judged on each case with a readable mask.

    Returns:
        Columns case, subject, site, label_set, region, ml.
    """
    rows: list[dict[str, object]] = []
    drawn = cohort.cases[cohort.cases["segmentation"].notna()]
    for _, row in tqdm(drawn.iterrows(), total=len(drawn), desc="volumes", unit="case", disable=not progress):
        path = cohort.image_root / str(row["segmentation"])
        try:
            voxel = read_header(path).grid.voxel_volume
            values = np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
            labels = to_canonical(values, str(row_convention(row, cohort.info)), case=str(row["case"]), file=str(path))
        except (InputError, OSError, EOFError, nib.filebasedimages.ImageFileError):
            continue
        label_set = str(row["labels"])
        labels = as_drawn(labels, label_set)
        common = {"case": row["case"], "subject": row["subject"], "site": row["site"], "label_set": label_set}
        rows += [
            {**common, "region": region, "ml": float(region_mask(labels, region).sum() * voxel / 1000)}
            for region in regions_of(label_set)
        ]
    return pd.DataFrame(rows, columns=["case", "subject", "site", "label_set", "region", "ml"])


def tumour_class(subjects: pd.DataFrame) -> pd.Series:
    """The adult diffuse glioma type of WHO 2021 as far as IDH and 1p/19q tell it; 'unknown' where they do not.

    A wild type is called so and not glioblastoma: that needs grade, TERT, EGFR or chromosomes 7 and 10 as well.
    """
    idh, codel = subjects["idh"], subjects["codel"]
    names = pd.Series(UNKNOWN, index=subjects.index, dtype="string")
    names[(idh == 0).fillna(False)] = "IDH-wildtype"
    names[(idh == 1).fillna(False)] = "IDH-mutant, 1p/19q unknown"
    names[((idh == 1) & (codel == 0)).fillna(False)] = "astrocytoma, IDH-mutant"
    names[((idh == 1) & (codel == 1)).fillna(False)] = "oligodendroglioma, IDH-mutant and co-deleted"
    return names


def _one_row_per_subject(cohort: Cohort) -> pd.DataFrame:
    """First known value of each column over a subject's cases."""
    return cohort.cases.groupby("subject", sort=True).first().reset_index()


def _summary(cohort: Cohort) -> pd.DataFrame:
    cases, info = cohort.cases, cohort.info
    rows: list[tuple[str, object]] = [
        ("cohort", info.name + (" (phantom)" if info.phantom else "")),
        ("cases", len(cases)),
        ("subjects", cases["subject"].nunique()),
        ("sites", cases["site"].nunique()),
        ("external sites", ", ".join(info.external_sites) or "none"),
        ("modalities", ", ".join(info.modalities)),
        ("cases with all modalities", int(cases[list(info.modalities)].notna().all(axis=1).sum())),
        ("segmentations", int(cases["segmentation"].notna().sum())),
        ("brain masks", int(cases["brain_mask"].notna().sum())),
        ("label convention", _named(cases["label_convention"].fillna(info.label_convention or "none"))),
        ("label sets", ", ".join(sorted(cases["labels"].dropna().unique())) or "none"),
        ("collections", ", ".join(COLLECTIONS.get(name, name) for name in info.collections) or "not said"),
    ]
    if (version := cohort.generator) is not None:
        rows.append(("phantom's generator", f"{version}: {FLAWS[version]}" if version in FLAWS else version))
    return pd.DataFrame([(what, str(value)) for what, value in rows], columns=["what", "value"])


def _named(values: pd.Series) -> str:
    return ", ".join(sorted(map(str, values.dropna().unique())))


def _groups(cohort: Cohort) -> pd.DataFrame:
    """Cases and subjects per dataset, kind of lesion and site; the columns that are known at all."""
    columns = [column for column in ("dataset", "lesion") if cohort.cases[column].notna().any()]
    if not columns:
        return pd.DataFrame(columns=["site", "cases", "subjects"])
    named = cohort.cases.assign(**{column: cohort.cases[column].fillna(UNKNOWN) for column in columns})
    grouped = named.groupby([*columns, "site"], sort=True)
    return grouped.agg(cases=("case", "size"), subjects=("subject", "nunique")).reset_index()


def _class_names(marker: str, values: pd.Series) -> pd.Series:
    if marker == "grade":
        return values.astype("string").fillna(UNKNOWN)
    names = {0: MARKER_NEGATIVE[marker], 1: MARKER_POSITIVE[marker]}
    return values.map(names).astype("string").fillna(UNKNOWN)


def _markers(cohort: Cohort) -> pd.DataFrame:
    subjects = _one_row_per_subject(cohort)
    parts = []
    for marker in MARKERS:
        named = subjects.assign(marker=marker, **{"class": _class_names(marker, subjects[marker])})
        parts.append(named.groupby(["site", "marker", "class"], sort=True).size().rename("subjects").reset_index())
    return pd.concat(parts, ignore_index=True)


def _availability(cohort: Cohort) -> pd.DataFrame:
    columns = [*cohort.modalities, "brain_mask", "segmentation"]
    table = cohort.cases[columns].notna().groupby(cohort.cases["site"]).sum().astype(int)
    table.insert(0, "cases", cohort.cases.groupby("site").size())
    return table.reset_index()


def _sequences(cohort: Cohort) -> pd.DataFrame:
    names = list(cohort.modalities)
    present = cohort.cases[names].notna()
    joined = present.apply(lambda row: "+".join(name for name in names if row[name]) or "none", axis=1)
    return joined.value_counts().rename_axis("sequences").reset_index(name="cases")


def _age(cohort: Cohort) -> pd.DataFrame:
    subjects = _one_row_per_subject(cohort)
    subjects["class"] = tumour_class(subjects)
    rows = []
    for name, group in subjects.groupby("class", sort=True):
        age = group["age"].dropna().astype(float)
        rows.append(
            {
                "class": str(name),
                "subjects": len(group),
                "with_age": len(age),
                "mean": age.mean(),
                "sd": age.std(),
                "minimum": age.min(),
                "median": age.median(),
                "maximum": age.max(),
                "female": int((group["sex"] == "F").sum()),
                "male": int((group["sex"] == "M").sum()),
            }
        )
    return pd.DataFrame(rows)


def _geometry(cohort: Cohort, progress: bool) -> pd.DataFrame:
    rows = []
    for _, row in tqdm(cohort.cases.iterrows(), total=len(cohort), desc="headers", unit="case", disable=not progress):
        for name in cohort.modalities:
            if pd.isna(row[name]):
                continue
            try:
                grid = read_header(Path(cohort.image_root / str(row[name]))).grid
            except InputError:
                continue
            spacing = " x ".join(f"{s:.3g}" for s in grid.spacing)
            rows.append((name, " x ".join(map(str, grid.shape)), spacing, grid.orientation))
    columns = ["modality", "shape", "spacing", "orientation"]
    table = pd.DataFrame(rows, columns=columns)
    return table.groupby(columns, sort=False).size().rename("cases").reset_index()
