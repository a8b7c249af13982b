"""A cohort is held against what it was when a run opened it: truth replaced meanwhile would be judged without a word."""

from __future__ import annotations

from typing import Any

from workbench.cohort.table import Cohort
from workbench.errors import RunError, WorkbenchError, listed


def require_unchanged(cohort: Cohort, digests: dict[str, str]) -> None:
    """Refuse to go on with a cohort that is not on disk what it was; only files whose size or time changed are read.

    Args:
        cohort: as it was opened.
        digests: `cohort.digests()` of that time.

    Raises:
        RunError: an image or a row differs or is gone; the message names cases, files and channels.
    """
    found = _differences(cohort, digests)
    if found:
        raise RunError(
            f"cohort {cohort.info.name} changed while the run was under way: {listed(found)}; "
            "put it back as it was and run the same command again to resume"
        )


def _differences(cohort: Cohort, digests: dict[str, str]) -> list[str]:
    columns = [*cohort.modalities, "brain_mask", "segmentation"]
    places = {str(row[name]): (str(row["case"]), name) for _, row in cohort.cases.iterrows() for name in columns}
    missing = [name for name in digests if not (cohort.image_root / name).is_file()]
    if missing:
        return [f"case {places[name][0]}, file {name}, channel {places[name][1]} is missing" for name in missing]
    now = cohort.digests()
    found = [
        f"case {places[name][0]}, file {name}, channel {places[name][1]} was replaced"
        for name, digest in digests.items()
        if now[name] != digest
    ]
    try:
        there = Cohort.open(cohort.folder)
    except WorkbenchError as error:
        return [*found, f"it cannot be read any more ({error})"]
    if there.info != cohort.info:
        found.append("cohort.json says something else")
    before, after = _rows(cohort), _rows(there)
    found += [f"case {case} is gone from cases.parquet" for case in before if case not in after]
    found += [f"case {case} is new in cases.parquet" for case in after if case not in before]
    return found + [
        f"case {case}, file cases.parquet, channel {name} was edited"
        for case, row in before.items()
        for name, value in row.items()
        if case in after and after[case].get(name) != value
    ]


def _rows(cohort: Cohort) -> dict[str, dict[str, Any]]:
    table = cohort.cases.astype(object).where(cohort.cases.notna(), None)
    return {str(row["case"]): {str(name): value for name, value in row.items()} for row in table.to_dict("records")}
