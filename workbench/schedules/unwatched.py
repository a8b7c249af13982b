"""What became of scheduled work that nobody watched to the end, since the scheduler was killed: its run folders tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.records.index import RunRow, read_row
from workbench.records.spec import POOLED, SPEC_FILE
from workbench.records.sweep_plan import cell_row, list_plans, read_plan
from workbench.schedules.occurrences import Claim, read_claims, read_history


def open_claims(
    runs: str | Path, records: Collection[dict[str, Any]], claims: Sequence[Claim]
) -> tuple[list[Claim], list[dict[str, Any]]]:
    """Of the claims of a schedule whose outcome is not in its history: those at work, and a record of each that ended unseen."""
    known = {datetime.fromisoformat(record["scheduled"]) for record in records if "outcome" in record}
    working: list[Claim] = []
    ended: list[dict[str, Any]] = []
    for claim in claims:
        if claim.scheduled not in known:
            found = None if claim.alive else judge(runs, claim)
            if found is None:
                working.append(claim)
            else:
                ended.append({"scheduled": claim.scheduled.isoformat(), **claim.facts, **found})
    return working, ended


def known_history(runs: str | Path, name: str, *, all_of_it: bool = False) -> tuple[list[dict[str, Any]], list[Claim]]:
    """The history of a schedule, with what ended unseen and is not written down before somebody looks; and what is at work."""
    records, claims = read_history(runs, name, all_of_it=all_of_it), read_claims(runs, name)
    working, ended = open_claims(runs, records, claims)
    return sorted([*records, *ended], key=lambda record: datetime.fromisoformat(record["scheduled"])), working


def judge(runs: str | Path, claim: Claim) -> dict[str, Any] | None:
    """How work ended whose exit status nobody has, as part of a line of the history.

    Completed: every run that it was to make is. That is known of the plan of a sweep; of a single run, by the runs of the method
    that its experiment has seen since (all folds: the pooled one too).

    Returns:
        outcome, why, and ended where it completed; None while one of the runs goes on.
    """
    killed = f"the scheduler on {claim.document.get('host', 'an unknown machine')} was killed"
    if not claim.document.get("experiment"):
        return {"outcome": "failed", "why": f"{killed} before this was started"}
    rows, lacking = (_runs_of_method if claim.document.get("method") else _runs_of_sweep)(Path(runs), claim.document)
    if any(row.state == "running" for row in rows):
        return None
    if left := next((row for row in rows if row.state != "completed"), None):
        done = sum(row.state == "completed" for row in rows)
        lacking = f"{done} of {len(rows)} runs completed, {left.run} is {left.state}{f': {left.reason}' if left.reason else ''}"
    if lacking:
        return {"outcome": "failed", "why": f"{killed}; {lacking}"}
    count = "its run" if len(rows) == 1 else f"its {len(rows)} runs"
    ended = max(row.finished for row in rows)
    return {"outcome": "completed", "why": f"{killed}, but {count} completed", **({"ended": ended} if ended else {})}


def _runs_of_sweep(root: Path, document: dict[str, Any]) -> tuple[list[RunRow], str]:
    for name in list_plans(root):
        with suppress(WorkbenchError):  # a damaged plan, of whatever sweep
            if (plan := read_plan(root, name)).experiment == document["experiment"]:
                lacking = "the folds are not pooled" if plan.all_folds and not plan.pooled else ""
                return [cell_row(root, cell) for cell in plan.cells], lacking
    return [], "its sweep left no plan"


def _runs_of_method(root: Path, document: dict[str, Any]) -> tuple[list[RunRow], str]:
    found = []
    for spec in sorted((root / document["experiment"]).glob(f"*/{SPEC_FILE}")):
        row = read_row(root, f"{document['experiment']}/{spec.parent.name}")
        if row.method == document["method"] and (row.finished or row.started or row.created) >= document.get("at", ""):
            found.append(row)
    pooled = any(row.derived.get("kind") == POOLED for row in found)
    return found, "it left no run" if not found else "" if pooled or not document.get("all_folds") else "the folds are not pooled"
