"""What the pages read: runs, tables and cohorts, cached by path and modification time, shared by all sessions of the server."""

from __future__ import annotations

import functools
import logging
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.cohort.table import CASES_FILE, INFO_FILE, Cohort
from workbench.errors import RunError, WorkbenchError
from workbench.evaluation.intervals import Interval
from workbench.evaluation.summaries import headline
from workbench.records.headline_file import HEADLINE_FILE, HeadlineNumber, read_headline
from workbench.records.index import KnownRows, RunRow, list_runs
from workbench.records.run_folder import (
    EVENTS_FILE,
    MARKERS_FILE,
    METRICS_FILE,
    SUBSET_MARKERS_FILE,
    SUBSET_METRICS_FILE,
    RunFolder,
    read_events,
    read_table,
)
from workbench.records.spec import EXTERNAL
from workbench.views.cases.map_tables import read_map_table

KEPT = 256
"""Entries kept in the cache: tables of a few thousand rows, so some tens of megabytes."""


class Store:
    """Reads run folders. Tables that it returns are shared: copy before changing one.

    Args:
        folder: the runs folder; default: the environment variable WORKBENCH_RUNS, else `./runs`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder or os.environ.get("WORKBENCH_RUNS") or "runs").resolve()
        self._cache: OrderedDict[Any, tuple[Any, Any]] = OrderedDict()
        self._lock = threading.RLock()
        self._orders: queue.SimpleQueue[tuple[Any, Any, Callable[[], Any]]] = queue.SimpleQueue()
        self._awaited: set[Any] = set()
        self._worker: threading.Thread | None = None
        self._rows: tuple[float, list[RunRow]] = (-1e9, [])
        self._known: KnownRows = {}
        self._headlines: dict[tuple[str, str], tuple[Any, dict[str, Interval]]] = {}

    def runs(self, max_age: float = 1.0) -> list[RunRow]:
        """All runs, newest first; read again when the last reading is older than `max_age` seconds."""
        with self._lock:
            if time.monotonic() - self._rows[0] > max_age:
                self._rows = (time.monotonic(), list_runs(self.folder, known=self._known))
            return self._rows[1]

    def row(self, run: str) -> RunRow | None:
        """The row of one run, None where there is none of this name."""
        return next((row for row in self.runs() if row.run == run), None)

    def run(self, run: str) -> RunFolder:
        """Open a run by its path relative to the runs folder.

        Raises:
            RunError: there is none, it is damaged, or the path leaves the runs folder.
        """
        try:
            folder = Path(os.path.normpath(self.folder / run))  # not resolved: an experiment may lie on another disk, by a link
            if not run or self.folder not in folder.parents:
                raise RunError(f"'{run}' is not a run of {self.folder}")
            return RunFolder.open(folder)
        except (OSError, ValueError) as error:  # a name too long for the disk, a NUL in it
            raise RunError(f"'{run[:100]}' is not a run of {self.folder}") from error

    def metrics(self, run: str) -> pd.DataFrame | None:
        """Segmentation metrics of a run, None where there are none yet."""
        return self._read(run, METRICS_FILE, read_table)

    def markers(self, run: str) -> pd.DataFrame | None:
        """Marker predictions of a run, None where there are none yet."""
        return self._read(run, MARKERS_FILE, read_table)

    def subsets(self, run: str) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """Segmentation metrics and marker predictions under every subset of sequences; None where there are none."""
        metrics = self._read(run, SUBSET_METRICS_FILE, read_table)
        return metrics, self._read(run, SUBSET_MARKERS_FILE, read_table)

    def events(self, run: str) -> pd.DataFrame:
        """Training scalars of a run: name, step, value."""
        return self._read(run, EVENTS_FILE, read_events)

    def map_table(self, run: str, name: str) -> pd.DataFrame:
        """What a run's explanation maps say by region, see `map_tables`; empty where there is nothing or it cannot be read."""
        try:
            return self._read(run, name, read_map_table)
        except (WorkbenchError, OSError, ValueError):
            return pd.DataFrame()

    def cohort(self, run: str) -> Cohort | None:
        """The cohort that a run was made from; None where it moved or cannot be read (`cohort_problem` says why)."""
        return self._cohort(run)[0]

    def cohort_problem(self, run: str) -> str:
        """Why `cohort` gives None; empty where it does not."""
        return self._cohort(run)[1]

    def cached(self, key: Any, stamp: Any, make: Callable[[], Any]) -> Any:
        """`make()`, kept under `key` for as long as `stamp` stays the same."""
        with self._lock:
            if key in self._cache and self._cache[key][0] == stamp:
                self._cache.move_to_end(key)
                return self._cache[key][1]
        value = make()
        with self._lock:
            self._cache[key] = (stamp, value)
            self._cache.move_to_end(key)
            while len(self._cache) > KEPT:
                self._cache.popitem(last=False)
        return value

    def later(self, key: Any, stamp: Any, make: Callable[[], Any]) -> Any:
        """As `cached`, but computed in the background, one thing after the other: None until it is there; what `make` raised
        is returned, not raised."""
        with self._lock:
            if self._cache.get(key, (None, None))[0] == stamp:
                return self.cached(key, stamp, make)
            if (key, stamp) not in self._awaited:
                self._awaited.add((key, stamp))
                self._orders.put((key, stamp, make))
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="store", daemon=True)
                self._worker.start()
        return None

    def _work(self) -> None:
        while True:
            key, stamp, make = self._orders.get()
            self.cached(key, stamp, functools.partial(_attempt, make))
            with self._lock:
                self._awaited.discard((key, stamp))

    def headline(self, run: str, split: str = "test", *, wait: bool = True) -> dict[str, Interval] | None:
        """The few numbers a list of runs shows; empty where there are no results or they cannot be read.

        Args:
            wait: False gives None at once where they have not been computed yet.
        """
        stamps = [self.stamp(run, name) for name in (METRICS_FILE, MARKERS_FILE, HEADLINE_FILE)]
        if not any(stamps[:2]):
            return {}
        known = self._headlines.get((run, split))
        if known is not None and known[0] == stamps:
            return known[1]
        found, current = self._kept_headline(run, stamps) if split == "test" else (None, False)
        if wait and not current:
            found, current = self._make_headline(run, split), True
        if found is not None and current:
            self._headlines[run, split] = (stamps, found)  # not in the cache of tables: a few numbers of each run there is
        return found

    def _kept_headline(self, run: str, stamps: list[Any]) -> tuple[dict[str, Interval] | None, bool]:
        """The numbers that the run wrote down, None where it has none or the tables are newer; and whether this version did."""
        *tables, kept = stamps
        if kept is None or any(table is not None and table[0] > kept[0] for table in tables):
            return None, False
        try:
            numbers = read_headline(self.folder / run)
        except WorkbenchError:
            return None, False
        current = all("n_subjects" in number for number in numbers.values())
        return {name: _interval(number) for name, number in numbers.items()} or None, current and bool(numbers)

    def _make_headline(self, run: str, split: str) -> dict[str, Interval]:
        try:
            return headline(self.metrics(run), self.markers(run), split)
        except (WorkbenchError, OSError, KeyError, ValueError, TypeError):
            return {}  # the comparison below the list says what is wrong with the tables

    def compared(self, runs: list[str]) -> tuple[list[RunRow], bool]:
        """The runs to compare: those that are ticked and can be read, and True; where none is, the latest completed run of each
        method (four at most), and False."""
        rows = {row.run: row for row in self.runs() if row.readable}
        ticked = [rows[run] for run in runs if run in rows]
        if ticked:
            return ticked, True
        latest: dict[str, RunRow] = {}
        for row in rows.values():
            if row.state == "completed":
                latest.setdefault(row.name if row.method == EXTERNAL else row.method, row)
        return list(latest.values())[:4], False

    def stamp(self, run: str, name: str) -> Any:
        """What changes when the file `name` of a run changes."""
        return _stamp(self.folder / run / name)

    def _read(self, run: str, name: str, read: Callable[[Path], Any]) -> Any:
        path = self.run(run).folder / name
        return self.cached(("file", str(path)), _stamp(path), lambda: read(path))

    def _cohort(self, run: str) -> tuple[Cohort | None, str]:
        try:
            folder = self.run(run).cohort_path
        except RunError as error:
            return None, str(error)
        stamp = (_stamp(folder / INFO_FILE), _stamp(folder / CASES_FILE))
        return self.cached(("cohort", str(folder)), stamp, lambda: _open_cohort(folder))


def _interval(number: HeadlineNumber) -> Interval:
    value, low, high = (float("nan") if number[key] is None else float(number[key] or 0) for key in ("value", "low", "high"))
    people = number.get("n_subjects", number["n"])  # an older version did not say: no more than cases
    return Interval(value, low, high, number["n"], people, estimable=number["value"] is not None)


def _open_cohort(folder: Path) -> tuple[Cohort | None, str]:
    try:
        return Cohort.open(folder), ""
    except WorkbenchError as error:
        return None, f"the run's cohort cannot be read; was it moved? {error}"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_mtime_ns, state.st_size


def _attempt(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # the one thread must live on; whoever asked says what went wrong
        logging.getLogger("app").exception("a computation in the background failed")
        return error


@functools.cache
def shared_store() -> Store:
    """The store of this server process."""
    return Store()
