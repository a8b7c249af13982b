"""The tables of a run: scalars of training, metrics and markers of cases, with every sequence and under every subset of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from workbench.errors import RunError
from workbench.files import open_regular
from workbench.records.artefacts_file import check_unchanged

EVENTS_FILE = "events.jsonl"
METRICS_FILE, MARKERS_FILE = "metrics.parquet", "markers.parquet"
SUBSET_METRICS_FILE, SUBSET_MARKERS_FILE = "subset_metrics.parquet", "subset_markers.parquet"
"""The same columns, test cases under every subset of their sequences: a set of rows for each value of `present`."""
_COLUMNS = {
    METRICS_FILE: {"case": "text", "subject": "text", "split": "text", "region": "text", "metric": "text", "value": "number"},
    MARKERS_FILE: {"case": "text", "subject": "text", "split": "text", "marker": "text", "class": "text", "truth": "number",
                   "probability": "share"},
}  # fmt: skip
_COLUMNS |= {
    SUBSET_METRICS_FILE: _COLUMNS[METRICS_FILE] | {"present": "text"},
    SUBSET_MARKERS_FILE: _COLUMNS[MARKERS_FILE] | {"present": "text"},
}
MOST_ROWS = 50_000_000
MOST_BYTES = 2**30
_LONGEST_EVENTS = 512 * 2**20


def read_events(path: Path) -> pd.DataFrame:
    """The scalars of one `events.jsonl`; see `RunFolder.events`.

    Raises:
        RunError: it is no regular file, or far too large.
    """
    last: dict[tuple[str, int], float] = {}
    if path.exists():
        try:
            with open_regular(path) as handle:
                if path.stat().st_size > _LONGEST_EVENTS:
                    raise RunError(f"{path} is too large to be a record of training: {path.stat().st_size:,} bytes")
                for line in handle:
                    try:
                        event = json.loads(line.decode("utf-8", errors="replace"))
                        value, step = event["value"], int(event["step"])
                        if abs(step) < 2**62:
                            last[str(event["name"]), step] = math.nan if value is None else float(value)
                    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                        continue
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error}") from error
    names, steps = zip(*last, strict=True) if last else ((), ())
    named = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    frame = pd.DataFrame({"name": named, "step": list(steps), "value": list(last.values())})
    return frame.astype({"name": "str", "step": "int64", "value": "float64"})


def read_table(path: Path) -> pd.DataFrame | None:
    """A parquet table of a run, None where there is none.

    Raises:
        RunError: it cannot be read, is not what it was when the run was done, or is another table than its name says.
    """
    if not path.exists():
        return None
    check_unchanged(path)
    try:
        open_regular(path).close()
        if path.stat().st_size > MOST_BYTES or pyarrow.parquet.read_metadata(path).num_rows > MOST_ROWS:
            raise RunError(f"{path} is too large for a table of a run")
        table = pd.read_parquet(path)
    except RunError:
        raise
    except Exception as error:  # Arrow raises much on crafted files, and not only its own kinds
        raise RunError(f"{path} cannot be read as a table: {error}") from error
    found = {name: _wrong(table, name, kind) for name, kind in _COLUMNS.get(path.name, {}).items()}
    if path.name in (METRICS_FILE, MARKERS_FILE):  # of before there were all columns; but what says of what says also how much
        needed = {"metric": "value", "marker": "probability"}
        wanted = {needed[name] for name in needed if name in table}
        found = {name: said for name, said in found.items() if name in table or name in wanted}
    wrong = "; ".join(f"column '{name}' {said}" for name, said in found.items() if said)
    if wrong and path.name in (SUBSET_METRICS_FILE, SUBSET_MARKERS_FILE):
        raise RunError(
            f"{path} is no table of an evaluation under subsets, {wrong}: delete {SUBSET_METRICS_FILE} "
            f"and {SUBSET_MARKERS_FILE}, and `workbench robustness {path.parent}` makes them anew"
        )
    if wrong:
        raise RunError(f"{path} is another table than its name says: {wrong}")
    return table


def _wrong(table: pd.DataFrame, name: str, kind: str) -> str:
    if name not in table:
        return "is missing"
    column = table[name]
    if isinstance(column, pd.DataFrame):
        return "stands there twice"
    if kind == "text":
        plain = isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype)
        whole = plain or all(isinstance(value, str) for value in column.dropna().head(1000))
        return "" if whole or column.empty else "holds no text"
    if not pd.api.types.is_numeric_dtype(column.dtype):
        return "" if column.isna().all() else "holds no numbers"
    if kind == "share" and ((column < 0) | (column > 1)).any():
        return "is not within 0 and 1"
    return ""
