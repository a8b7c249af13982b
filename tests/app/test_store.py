"""The store: what is read is kept until a file changes, and what is no run is refused."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from app.store import Store
from workbench.errors import RunError


def test_what_is_computed_later_is_there_in_the_end_and_an_error_is_handed_over(store: Store) -> None:
    go = threading.Event()
    wanted = {"a": lambda: go.wait(60) and 5, "b": lambda: 1 / 0}
    assert [store.later(name, 1, make) for name, make in wanted.items()] == [None, None]
    go.set()
    deadline = time.monotonic() + 60
    while (found := store.later("b", 1, wanted["b"])) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(found, ZeroDivisionError)
    assert store.later("a", 1, wanted["a"]) == 5


def test_store_caches_by_time(store: Store, done: dict[int, str]) -> None:
    first = store.metrics(done[1])
    assert store.metrics(done[1]) is first
    path = store.folder / done[1] / "metrics.parquet"
    path.touch()
    again = store.metrics(done[1])
    assert again is not first
    assert again.equals(first)


@pytest.mark.parametrize("run", ["a" * 5000, "a\0b", "", "../cohort", "demo/nothing", "/etc"])
def test_store_refuses_what_is_no_run(store: Store, run: str) -> None:
    with pytest.raises(RunError):
        store.run(run)


def test_store_finds_the_cohort_or_says_why_not(tmp_path: Path, store: Store, done: dict[int, str]) -> None:
    cohort = store.cohort(done[1])
    assert cohort is not None
    assert cohort.info.name == "demo"
    shutil.copytree(store.folder / done[1], tmp_path / "runs" / done[1])
    moved = Store(tmp_path / "runs")
    assert moved.cohort(done[1]) is None
    assert "moved" in moved.cohort_problem(done[1])


def test_compared_falls_back_to_the_latest_of_each_method(store: Store, done: dict[int, str]) -> None:
    rows, chosen = store.compared([])
    assert not chosen
    assert sorted(row.method for row in rows) == ["mts_unet", "unet"]
    rows, chosen = store.compared([done[2], "e/gone", done[1]])
    assert chosen
    assert [row.run for row in rows] == [done[2], done[1]]
