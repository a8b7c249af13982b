"""Subject data from a CSV: which column names and spellings are understood, and how rows find their cases."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import InputError, Problem, listed

NULLS = {"", "unknown", "not available", "-1", "-1.0", "na", "n/a", "nan", "none", "null", "indeterminate", "missing", "?"}
"""Spellings of 'unknown', lower case. Unknown becomes null."""

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "case": ("case", "case id", "scan", "scan id", "session", "session id"),
    "subject": ("subject", "subject id", "patient", "patient id", "participant id", "id", "brats subject id"),
    "timepoint": ("timepoint", "time point", "visit"),
    "site": ("site", "site id", "centre", "center", "institution"),
    "lesion": ("lesion", "lesion kind", "lesion type"),
    "idh": ("idh", "idh1", "idh status", "idh mutation"),
    "codel": ("codel", "1p/19q", "1p19q", "1p/19q codeletion", "1p19q codeletion", "1p/19q status"),
    "tert": ("tert", "tert status", "tert promoter status", "tert promoter"),
    "mgmt": ("mgmt", "mgmt status", "mgmt promoter status", "mgmt value"),
    "grade": ("grade", "who grade", "who cns grade"),
    "age": ("age", "age at mri", "age at scan years", "age at scan", "patient's age"),
    "sex": ("sex", "gender", "patient's sex"),
}
"""Column of the table of cases -> names it may have in a CSV; case, surrounding spaces and _ or - for a space do not matter."""

_MUTATION = {"1": 1, "mutant": 1, "mutated": 1, "mut": 1, "positive": 1, "yes": 1, "true": 1,
             "0": 0, "wildtype": 0, "wild type": 0, "wt": 0, "negative": 0, "no": 0, "false": 0}  # fmt: skip

SPELLINGS: dict[str, dict[str, Any]] = {
    "idh": _MUTATION | {"mutated (nos)": 1, "nos": None, "nos/nec": None},
    "codel": {"1": 1, "co deleted": 1, "codeleted": 1, "co deletion": 1, "codeletion": 1, "codel": 1, "deleted": 1, "yes": 1,
              "true": 1, "positive": 1, "0": 0, "intact": 0, "non codel": 0, "non codeleted": 0, "not co deleted": 0, "no": 0,
              "false": 0, "negative": 0, "relative co deletion": None},
    "tert": _MUTATION,
    "mgmt": {"1": 1, "methylated": 1, "positive": 1, "yes": 1, "true": 1,
             "0": 0, "unmethylated": 0, "not methylated": 0, "negative": 0, "no": 0, "false": 0},
    "grade": {"2": 2, "3": 3, "4": 4, "ii": 2, "iii": 3, "iv": 4, "g2": 2, "g3": 3, "g4": 4},
    "sex": {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F"},
}  # fmt: skip
"""Column -> spelling (lower case, _ and - as spaces) -> value; None = known to mean unknown (a relative co-deletion is none)."""

_IDH_VARIANT = re.compile(r"idh[12] (p\.?)?r(132|172|100)[a-z]?")
_TEXT_COLUMNS = ("case", "subject", "timepoint", "site", "lesion")


def read_subjects(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a CSV of subject data (comma, semicolon or tab) into canonical columns.

    Identifiers stay text: '007' is never 7. Cells hold text, int, float or None.

    Args:
        path: the file.

    Returns:
        The table, with the CSV's row number as index, and remarks on what was not used.

    Raises:
        InputError: the file cannot be read, has no case or subject column, two columns with one meaning, or values that no
            spelling explains; one `Problem` per column and value.
    """
    raw = _read_text(Path(path))
    chosen: dict[str, str] = {}
    unused, problems = [], []
    for name in raw.columns:
        meaning = next((column for column, names in COLUMN_NAMES.items() if _plain(name) in names), None)
        if meaning is None:
            unused.append(name)
        elif meaning in chosen:
            problems.append(
                Problem(
                    file=str(path),
                    channel=meaning,
                    message=f"the columns '{chosen[meaning]}' and '{name}' both mean '{meaning}'",
                    remedy="take one of them out",
                )
            )
        else:
            chosen[meaning] = name
    if not {"case", "subject"} & set(chosen):
        problems.append(
            Problem(
                file=str(path),
                message=f"no column names the case or the subject; the columns are {', '.join(map(repr, raw.columns))}",
                remedy="name one of them 'case' or 'subject'",
            )
        )
    table = pd.DataFrame(index=raw.index)
    for column, name in chosen.items():
        values: list[Any] = []
        wrong: dict[str, int] = {}
        for row, text in raw[name].items():
            try:
                values.append(_value(column, str(text)))
            except ValueError:
                wrong.setdefault(str(text).strip(), int(str(row)))
                values.append(None)
        table[column] = pd.Series(values, index=raw.index, dtype=object)
        problems += [_strange_value(path, column, name, text, row) for text, row in wrong.items()]
    if problems:
        raise InputError(*problems)
    remarks = [f"columns of {Path(path).name} that were not used: {', '.join(unused)}"] if unused else []
    return table, remarks


def add_subjects(cases: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Add subject data from a CSV to the cases that a reader found.

    A row with a case name belongs to that case; a row with a subject only belongs to all cases of that subject. Names are
    compared as they stand; what finds nothing that way is compared without leading zeros, and, where it is a bare number, with
    the last number in the subject's name. Both are reported, and both only where just one name fits.

    Args:
        cases: columns `case`, `subject` and others; what the CSV knows replaces what is there.
        path: the CSV.

    Returns:
        A new table, and remarks: rows without a case, cases without a row, repeated rows, names matched loosely.

    Raises:
        InputError: no row fits any case, or rows for one case contradict each other.
    """
    data, remarks = read_subjects(path)
    cases = cases.reset_index(drop=True).copy()
    by_case = "case" in data.columns
    key, owner = ("case", cases["case"]) if by_case else ("subject", cases["subject"])
    identifiers = data[key].dropna()
    if not by_case and not set(identifiers) & set(owner) and set(identifiers) & set(cases["case"]):
        owner = cases["case"]  # a column named 'ID' may well hold scan names
    match, loose = _match_names(list(dict.fromkeys(identifiers)), list(dict.fromkeys(owner)))
    if not match:
        raise InputError(
            Problem(
                file=str(path),
                channel=key,
                message=f"no row fits a case: the file names {listed(list(identifiers))}, the cases are {listed(list(owner))}",
                remedy="write the names into the file as they stand in the folder",
            )
        )
    data = data[data[key].isin(match)].assign(**{"_owner": data[key].map(match)})
    rows, twice = _one_row_each(data, path)
    for column in [name for name in rows.columns if name != key]:
        cases[column] = _merged(cases, owner.map(rows[column]), column)
    strangers = [name for name in dict.fromkeys(identifiers) if name not in match]
    without = [name for name in dict.fromkeys(owner) if name not in rows.index]
    file = Path(path).name
    if loose:
        told = ", ".join(f"{a} = {b}" for a, b in loose[:5]) + (" ..." if len(loose) > 5 else "")
        remarks.append(f"{len(loose)} names of {file} differ from the folder's and were matched by their number: {told}")
    if strangers:
        remarks.append(f"{len(strangers)} of {len(set(identifiers))} rows of {file} belong to no case: {listed(strangers)}")
    if without:
        remarks.append(f"{len(without)} of {owner.nunique()} have no row in {file}: {listed(without)}")
    if twice:
        remarks.append(f"{file} has repeated, equal rows for {listed(twice)}")
    return cases, remarks


def _read_text(path: Path) -> pd.DataFrame:
    try:
        text = path.read_text(encoding="utf-8-sig")
        header = text.lstrip().splitlines()[0]
        separator = max(",;\t", key=header.count)
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=True)
    except (OSError, UnicodeDecodeError, IndexError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        message = f"the subject data cannot be read as CSV: {reason}"
        raise InputError(Problem(file=str(path), message=message, remedy="save the table as CSV in UTF-8")) from error
    table.columns = table.columns.str.strip()
    table.index = pd.RangeIndex(2, len(table) + 2)  # the line in the file: the header is line 1
    return table


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text.strip().lower()).strip()


def _value(column: str, text: str) -> Any:
    """One cell; None = unknown.

    Raises:
        ValueError: no spelling explains it.
    """
    text = text.strip()
    if text.lower() in NULLS:
        return None
    if column in _TEXT_COLUMNS:
        return text
    plain = _plain(text)
    if column == "age":
        age = float(re.sub(r"\s*(y|years?)$", "", plain))
        if not 0 <= age <= 120:
            raise ValueError(text)
        return age
    if column == "grade":
        plain = re.sub(r"^(who )?(grade )?", "", plain)
    plain = re.sub(r"^(\d)\.0$", r"\1", plain)
    if column == "idh" and _IDH_VARIANT.fullmatch(plain):
        return 1
    try:
        return SPELLINGS[column][plain]
    except KeyError:
        raise ValueError(text) from None


def _strange_value(path: Path, column: str, name: str, text: str, row: int) -> Problem:
    known = "an age in years, 0 to 120" if column == "age" else ", ".join(SPELLINGS[column])
    return Problem(
        file=str(path),
        channel=column,
        message=f"column '{name}', line {row}: '{text}' is not understood; expected {known}",
        remedy="correct the value, or leave it empty where it is unknown",
    )


def _match_names(names: list[str], owners: list[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Name in the CSV -> name in the folder, and the pairs that are not literally equal."""
    exact = set(owners)
    match = {name: name for name in names if name in exact}
    loose: list[tuple[str, str]] = []
    rules: tuple[tuple[Callable[[str], bool], Callable[[str], str]], ...] = (
        (lambda name: True, _without_zeros),
        (str.isdigit, _last_number),
    )
    for applies, form in rules:
        free_names = [name for name in names if name not in match and applies(name)]
        free_owners = [owner for owner in owners if owner not in set(match.values())]
        of_name, of_owner = _unique_forms(free_names, form), _unique_forms(free_owners, form)
        taken = _unique_forms(owners, form)  # a form that a matched owner shares is ambiguous
        for shape, name in of_name.items():
            if shape in of_owner and shape in taken:
                match[name] = of_owner[shape]
                loose.append((name, of_owner[shape]))
    return match, loose


def _unique_forms(names: list[str], form: Callable[[str], str]) -> dict[str, str]:
    forms: dict[str, list[str]] = {}
    for name in names:
        forms.setdefault(form(name), []).append(name)
    return {shape: found[0] for shape, found in forms.items() if shape and len(found) == 1}


def _without_zeros(name: str) -> str:
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), name)


def _last_number(name: str) -> str:
    numbers = re.findall(r"\d+", name)
    return str(int(numbers[-1])) if numbers else ""


def _one_row_each(data: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """One row per owner (index); equal repetitions are named, contradictions refused."""
    problems, twice = [], []
    for owner, group in data.groupby("_owner", sort=False):
        if len(group) < 2:
            continue
        differing = [c for c in data.columns if c != "_owner" and group[c].dropna().nunique() > 1]
        twice.append(str(owner))
        for column in differing:
            values = ", ".join(f"line {row}: {value}" for row, value in group[column].dropna().items())
            problems.append(
                Problem(
                    case=str(owner),
                    file=str(path),
                    channel=column,
                    message=f"repeated rows contradict each other ({values})",
                    remedy="keep one row; rows of several sessions need a 'case' column",
                )
            )
    if problems:
        raise InputError(*problems)
    return data.groupby("_owner", sort=False).first(), twice


def _merged(cases: pd.DataFrame, new: pd.Series, column: str) -> pd.Series:
    new = new.astype(object).where(new.notna(), None)
    if column not in cases.columns:
        return new
    old = cases[column].astype(object)
    return new.where(new.notna(), old)
