"""The cohort: a folder with `cohort.json` (what it is) and `cases.parquet` (one row per imaging session of one subject)."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.contracts import MARKERS
from workbench.errors import InputError, Problem, WorkbenchError
from workbench.files import file_digest, read_json, value_digest, write_json, write_parquet
from workbench.labels import CONVENTIONS, LABEL_SETS, convention
from workbench.text import visible

INFO_FILE, CASES_FILE, FOLDS_FILE, TRUTH_FILE = "cohort.json", "cases.parquet", "folds.json", "truth.parquet"
DIGESTS_FILE = "digests.json"
PHANTOM_FILE = "phantom.json"
"""Settings that a phantom was made with; see `phantom.folder`."""
FLAWS = {1: "site and class follow the case number, so that IDH can be read from it"}
"""Version of the phantom's generator -> what is known to be wrong with what it made."""

_TEXT = "string"
SUBJECT_COLUMNS: dict[str, str] = {
    "case": _TEXT, "subject": _TEXT, "timepoint": _TEXT, "site": _TEXT, "brain_mask": _TEXT, "segmentation": _TEXT,
    "labels": _TEXT, "repeats": _TEXT, "idh": "Int8", "codel": "Int8", "tert": "Int8", "mgmt": "Int8", "grade": "Int8",
    "age": "Float64", "sex": _TEXT, "dataset": _TEXT, "lesion": _TEXT, "label_convention": _TEXT,
}  # fmt: skip
"""Every column but the modalities -> pandas dtype. Unknown is null, never -1 or 'unknown'."""

MERGED_COLUMNS = ("dataset", "lesion", "label_convention")
"""Columns of cohorts made of several: which one a case came from, its kind of lesion (glioma, ms, stroke, ...), and its mask's
convention where that is not the cohort's. Where they are null throughout they are neither written nor in the fingerprint: a
cohort from before there were such columns stays what it was."""

_ALLOWED: dict[str, set[Any]] = {
    "idh": {0, 1},
    "codel": {0, 1},
    "tert": {0, 1},
    "mgmt": {0, 1},
    "grade": {2, 3, 4},
    "sex": {"F", "M"},
}


class CohortInfo(BaseModel):
    """What a cohort is: the content of `cohort.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="short name; stands on every table and figure")
    modalities: tuple[str, ...] = Field(min_length=1, description="path columns of the table, in this order")
    label_convention: str | None = Field(None, description="key of labels.CONVENTIONS; null = no masks")
    image_root: str = Field(".", description="folder of the images, relative to the cohort folder or absolute")
    source: str = ""
    space: str = Field("native", description="native, SRI24, MNI152, ...")
    licence: str = ""
    citation: str = ""
    who_edition: str = Field("", description="edition of the WHO classification behind grade and class, e.g. 2021")
    external_sites: tuple[str, ...] = Field((), description="sites never used for training or validation")
    phantom: bool = Field(False, description="synthetic: never presented as clinical evidence")
    collections: tuple[str, ...] = Field((), description="what it is made of, keys of collections.COLLECTIONS; empty: not said")
    pseudonyms: bool = Field(False, description="names of cases and subjects are pseudonyms; their key is kept elsewhere")
    schema_version: int = 1


class Cohort:
    """A table of cases and what it is. Read-only: readers and `Cohort.create` make one, nothing edits it in place.

    Args:
        folder: the cohort folder.
        info: what the cohort is.
        cases: the table; see `normalise_cases` for its columns.
    """

    def __init__(self, folder: Path, info: CohortInfo, cases: pd.DataFrame) -> None:
        self.folder = Path(folder)
        self.info = info
        self.cases = cases

    @classmethod
    def open(cls, folder: str | Path) -> Cohort:
        """Read a cohort folder.

        Raises:
            WorkbenchError: no such cohort, or its files are damaged; the message names the file.
            InputError: the table breaks the schema.
        """
        folder = Path(folder)
        if not (folder / INFO_FILE).is_file():
            raise WorkbenchError(
                f"{folder} is not a cohort: it has no {INFO_FILE} (make one with `workbench cohort phantom {folder}` "
                "or `workbench cohort import`)"
            )
        try:
            info = CohortInfo(**read_json(folder / INFO_FILE))
        except (ValidationError, TypeError) as error:
            raise WorkbenchError(f"{folder / INFO_FILE} does not describe a cohort: {error}") from error
        try:
            cases = pd.read_parquet(folder / CASES_FILE)
        except (OSError, ValueError) as error:
            raise WorkbenchError(f"{folder / CASES_FILE} cannot be read as a table of cases: {error}") from error
        return cls(folder, info, normalise_cases(cases, info))

    @classmethod
    def create(cls, folder: str | Path, info: CohortInfo, cases: pd.DataFrame) -> Cohort:
        """Write a new cohort folder (table first, `cohort.json` last, so that a killed import leaves no cohort)."""
        folder = Path(folder)
        cohort = cls(folder, info, normalise_cases(cases, info))
        write_parquet(folder / CASES_FILE, _without_unused(cohort.cases))
        write_json(folder / INFO_FILE, info.model_dump(mode="json"))
        return cohort

    def __len__(self) -> int:
        return len(self.cases)

    def __repr__(self) -> str:
        subjects = self.cases["subject"].nunique()
        return f"Cohort({self.info.name!r}, {len(self)} cases of {subjects} subjects, {'/'.join(self.modalities)})"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the image columns, in the cohort's order."""
        return self.info.modalities

    @property
    def image_root(self) -> Path:
        """Folder that the table's paths are relative to."""
        root = Path(self.info.image_root)
        return root if root.is_absolute() else self.folder / root

    def row(self, case: str) -> pd.Series:
        """The row of one case.

        Raises:
            WorkbenchError: no such case.
        """
        found = self.cases[self.cases["case"] == case]
        if found.empty:
            raise WorkbenchError(f"cohort {self.info.name} has no case '{case}'")
        return found.iloc[0]

    def path(self, case: str, column: str) -> Path | None:
        """Absolute path of a modality, 'brain_mask' or 'segmentation' of a case; None where it was not acquired or drawn."""
        value = self.row(case)[column]
        return None if pd.isna(value) else self.image_root / str(value)

    def label_convention(self, case: str) -> str | None:
        """The convention a case's mask was drawn in: its own, else the cohort's; None where none is declared."""
        return row_convention(self.row(case), self.info)

    def present(self, case: str) -> tuple[str, ...]:
        """The modalities acquired for a case, in the cohort's order."""
        row = self.row(case)
        return tuple(name for name in self.modalities if not pd.isna(row[name]))

    @property
    def truth(self) -> pd.DataFrame | None:
        """A phantom's truth on file (see PHANTOM in the documentation), else None."""
        path = self.folder / TRUTH_FILE
        return pd.read_parquet(path) if path.is_file() else None

    @property
    def generator(self) -> int | None:
        """Version of the generator that made this phantom; None for any other cohort, and for one taken from a phantom."""
        path = self.folder / PHANTOM_FILE
        return int(read_json(path).get("generator", 1)) if self.info.phantom and path.is_file() else None

    def digests(self) -> dict[str, str]:
        """Digest of every image file's bytes, by its path relative to the image root; only changed files are read again."""
        return _file_digests(self)

    def fingerprint(self) -> str:
        """Digest (16 hex digits) of what the cohort is and of every image file's bytes.

        Digests of files are kept in `digests.json`, keyed by size and modification time, so that only changed files are read.
        """
        digests = _file_digests(self)
        cases = _without_unused(self.cases)
        table = cases.astype(object).where(cases.notna(), None).to_dict("records")
        info = self.info.model_dump(mode="json") | {"image_root": ""}
        for later in ("collections", "pseudonyms"):
            if not info[later]:  # a cohort from before there was such a field stays what it was
                del info[later]
        return value_digest([info, [{k: _plain(v) for k, v in row.items()} for row in table], digests], 16)


def row_convention(row: pd.Series, info: CohortInfo) -> str | None:
    """The label convention of one row of the table of cases."""
    own = row["label_convention"]
    return info.label_convention if pd.isna(own) else str(own)


def _without_unused(cases: pd.DataFrame) -> pd.DataFrame:
    return cases.drop(columns=[column for column in MERGED_COLUMNS if cases[column].isna().all()])


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _file_digests(cohort: Cohort) -> dict[str, str]:
    path = cohort.folder / DIGESTS_FILE
    known: dict[str, list] = {}
    if path.is_file():
        try:
            known = read_json(path)
        except WorkbenchError:
            known = {}  # derived and disposable: made anew
    fresh: dict[str, list] = {}
    columns = [*cohort.modalities, "brain_mask", "segmentation"]
    for relative in sorted({str(v) for column in columns for v in cohort.cases[column].dropna()}):
        file = cohort.image_root / relative
        try:
            state = file.stat()
        except OSError as error:
            raise InputError(Problem(file=relative, message=f"the image cannot be read: {error.strerror}")) from error
        stamp = [state.st_size, state.st_mtime_ns]
        old = known.get(relative)
        fresh[relative] = old if old and old[:2] == stamp else [*stamp, file_digest(file)]
    if fresh != known:
        with contextlib.suppress(OSError):  # a read-only cohort works too, it is only slower
            write_json(path, fresh)
    return {name: entry[2] for name, entry in fresh.items()}


def normalise_cases(cases: pd.DataFrame, info: CohortInfo) -> pd.DataFrame:
    """Bring a table of cases into the schema: all columns there, in order, with their dtypes, and every rule checked.

    Missing optional columns are added as null; a missing site becomes 'unknown site'; a missing label set is that of the
    label convention (the case's own, else the cohort's) where the case has a mask.

    Raises:
        InputError: with one `Problem` per broken rule.
    """
    problems: list[Problem] = []
    for column in ("case", "subject", *info.modalities):
        if column not in cases.columns:
            known = "path column of a modality named in cohort.json" if column in info.modalities else "required column"
            problems.append(
                Problem(
                    file=CASES_FILE,
                    channel=column,
                    message=f"the {known} '{column}' is missing from the table of cases",
                    remedy="add the column (null where not acquired), or take the modality out of cohort.json",
                )
            )
    if problems:
        raise InputError(*problems)
    text = dict.fromkeys(info.modalities, _TEXT)
    order = ["case", "subject", "timepoint", "site", *info.modalities, *list(SUBJECT_COLUMNS)[4:]]
    table = pd.DataFrame(index=range(len(cases)))
    for column in order:
        values = cases[column].reset_index(drop=True) if column in cases.columns else pd.Series(pd.NA, index=table.index)
        dtype = text.get(column) or SUBJECT_COLUMNS[column]
        try:
            table[column] = values.astype(pd.api.types.pandas_dtype(dtype))
        except (TypeError, ValueError) as error:
            problems.append(Problem(file=CASES_FILE, channel=column, message=f"not of type {dtype}: {error}"))
    if problems:
        raise InputError(*problems)
    table["site"] = table["site"].fillna("unknown site")
    if problems := _unknown_conventions(table):
        raise InputError(*problems)
    own = table["label_convention"].fillna(info.label_convention) if info.label_convention else table["label_convention"]
    drawn = table["labels"].isna() & table["segmentation"].notna() & own.notna()
    table.loc[drawn, "labels"] = own[drawn].map(lambda name: convention(str(name)).label_set)
    problems = _broken_rules(table, info)
    if problems:
        raise InputError(*problems)
    return table


def _unknown_conventions(table: pd.DataFrame) -> list[Problem]:
    known = table["label_convention"].isna() | table["label_convention"].isin(list(CONVENTIONS))
    return [
        Problem(
            case=str(row["case"]),
            file=CASES_FILE,
            channel="label_convention",
            message=f"label convention '{row['label_convention']}' is unknown; there are {', '.join(CONVENTIONS)}",
        )
        for _, row in table[~known].iterrows()
    ]


def _broken_rules(table: pd.DataFrame, info: CohortInfo) -> list[Problem]:
    problems = [
        Problem(case=str(case), file=CASES_FILE, message="the case name is not unique", remedy="one row per imaging session")
        for case in table["case"][table["case"].duplicated()].unique()
    ]
    for column in ("case", "subject"):
        if table[column].isna().any():
            problems.append(Problem(file=CASES_FILE, channel=column, message=f"'{column}' is null in some rows"))
    for case in table["case"].dropna():
        if "/" in case or "\\" in case or case in {"", ".", ".."}:
            problems.append(Problem(case=case, file=CASES_FILE, message="a case name may hold no path separator"))
    for column, allowed in _ALLOWED.items():
        wrong = table[table[column].notna() & ~table[column].isin(allowed)]
        for _, row in wrong.iterrows():
            problems.append(
                Problem(
                    case=str(row["case"]),
                    file=CASES_FILE,
                    channel=column,
                    message=f"{column} is {row[column]!r}, allowed are {sorted(allowed, key=str)} or null",
                    remedy="unknown is null, never -1 or 'unknown'",
                )
            )
    sets = table[table["labels"].notna() & ~table["labels"].isin(list(LABEL_SETS))]
    for _, row in sets.iterrows():
        problems.append(
            Problem(
                case=str(row["case"]),
                file=CASES_FILE,
                channel="labels",
                message=f"label set '{row['labels']}' is unknown; there are {', '.join(LABEL_SETS)}",
            )
        )
    without = table[table["segmentation"].notna() & table["labels"].isna()]
    for _, row in without.iterrows():
        problems.append(
            Problem(
                case=str(row["case"]),
                file=str(row["segmentation"]),
                channel="segmentation",
                message="the case has a mask, but the cohort declares no label convention",
                remedy="declare one: `--labels CONVENTION`",
            )
        )
    return problems


assert set(MARKERS) <= set(SUBJECT_COLUMNS)


def cohort_title(name: str, phantom: bool) -> str:
    """The cohort as it stands on figures and tables: a phantom always says that it is one.

    >>> cohort_title("demo", True)
    'phantom cohort demo'
    >>> cohort_title("phantom-mixed", True)
    'phantom-mixed cohort'
    """
    name = visible(name)
    if not phantom:
        return name
    return f"{name} cohort" if name.startswith("phantom") else f"phantom cohort {name}"
