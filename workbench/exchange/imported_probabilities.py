"""Marker probabilities that were predicted elsewhere: a CSV file, checked against the cohort, as rows of markers.parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from workbench.contracts import MARKER_POSITIVE, MARKERS
from workbench.errors import InputError, Problem
from workbench.evaluation.markers import log_odds

GRADES = ("2", "3", "4")
SUM_TOLERANCE = 0.02
"""By how much the probabilities of grades 2, 3 and 4 of a case may miss 1, for files of few digits."""


def read_probabilities(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Read a CSV file with columns case, marker, class (for grade: 2, 3 or 4) and probability or logit, one row per prediction.

    Returns:
        case, marker, class, probability, logit; and a problem for each row that cannot be used.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(Problem(file=str(path), message=f"cannot be read as CSV: {error}")) from error
    table.columns = pd.Index([str(name).strip().lower() for name in table.columns])
    scores = [name for name in ("probability", "logit") if name in table]
    if lacking := [name for name in ("case", "marker") if name not in table]:
        message = f"has no column {', '.join(lacking)}; it has {', '.join(table.columns)}"
        raise InputError(Problem(file=str(path), message=message, remedy="one row per case and marker, with a head line"))
    if len(scores) != 1:
        message = "has both probability and logit" if scores else "has neither a column probability nor a column logit"
        raise InputError(Problem(file=str(path), message=message, remedy="give one of the two"))
    problems: list[Problem] = []
    rows = []
    for number, row in enumerate(table.to_dict("records"), start=2):  # as an editor counts: the head is line 1
        entry, trouble = _entry({str(key): str(value).strip() for key, value in row.items()}, scores[0])
        if trouble:
            problems.append(Problem(case=str(row["case"]), file=f"{path.name}, line {number}", message=trouble))
        else:
            rows.append(entry)
    found = pd.DataFrame(rows, columns=["case", "marker", "class", "probability", "logit"])
    for case, marker, name in found.loc[found.duplicated(["case", "marker", "class"]), ["case", "marker", "class"]].to_numpy():
        problems.append(Problem(case=case, file=path.name, channel=marker, message=f"class '{name}' is given twice"))
    return found, problems + _grade_problems(found, path.name)


def _entry(row: dict[str, str], score: str) -> tuple[dict[str, Any], str]:
    """One row checked, or what is wrong with it."""
    marker, name = row["marker"].lower(), row.get("class", "")
    if not row["case"]:
        return {}, "no case"
    if marker not in MARKERS:
        return {}, f"marker '{row['marker']}' is unknown; there are {', '.join(MARKERS)}"
    if marker == "grade":
        name = name.removesuffix(".0")
        if name not in GRADES:
            return {}, f"class '{name}' of grade is unknown: give a row for each of 2, 3 and 4, or for 4 alone"
    elif name.lower() not in ("", "1", MARKER_POSITIVE[marker]):
        return {}, f"class '{name}' of {marker}: give the score of '{MARKER_POSITIVE[marker]}' (or leave the class empty)"
    else:
        name = MARKER_POSITIVE[marker]
    try:
        value = float(row[score])
    except ValueError:
        return {}, f"{score} '{row[score]}' of {marker} is no number"
    if not np.isfinite(value):
        return {}, f"{score} of {marker} is {row[score]}; leave no case without a finite number"
    if score == "probability" and not 0 <= value <= 1:
        return {}, f"probability of {marker} is {value:g}, expected 0 to 1 (are these logits? name the column logit)"
    probability = value if score == "probability" else float(expit(value))
    logit = float(log_odds(value)) if score == "probability" else value
    return {"case": row["case"], "marker": marker, "class": name, "probability": probability, "logit": logit}, ""


def _grade_problems(found: pd.DataFrame, file: str) -> list[Problem]:
    """Grades come as 4 against the rest or as all three, and then they add up to 1."""
    grade = found[found["marker"] == "grade"].drop_duplicates(["case", "class"])
    if grade.empty:
        return []
    classes = set(grade["class"])
    expected = {"4"} if classes == {"4"} else set(GRADES)
    problems = []
    for case, part in grade.groupby("case"):
        total = float(part["probability"].sum())
        if lacking := sorted(expected - set(part["class"])):
            problems.append(Problem(case=str(case), file=file, channel="grade", message=f"no row of class {', '.join(lacking)}"))
        elif expected != {"4"} and abs(total - 1) > SUM_TOLERANCE:
            message = f"the probabilities of grades 2, 3 and 4 add up to {total:.3f}, expected 1"
            problems.append(Problem(case=str(case), file=file, channel="grade", message=message))
    return problems


def missing_rows(found: pd.DataFrame, cases: pd.DataFrame) -> list[tuple[str, str]]:
    """(case, marker) of the rows of a cohort's table whose marker is known, and lacking in the file, which predicts others."""
    lacking = []
    for marker in dict.fromkeys(found["marker"]):
        there = set(found.loc[found["marker"] == marker, "case"])
        lacking += [(str(case), str(marker)) for case in cases.loc[cases[marker].notna(), "case"] if case not in there]
    return lacking


def with_truth(found: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `truth` from the cohort's table: 0 or 1 of the row's class, NaN unknown."""
    known = cases.set_index("case")
    truth = []
    for case, marker, name in found[["case", "marker", "class"]].itertuples(index=False, name=None):
        value = known.loc[case, marker]
        truth.append(float("nan") if pd.isna(value) else float(value == (int(name) if marker == "grade" else 1)))
    return found.assign(truth=np.asarray(truth, dtype=np.float64))
