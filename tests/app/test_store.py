"""The store: what is read is kept until a file changes, and what is no run is refused."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from app.overview import OverviewPage
from app.state import AppState
from app.store import Store
from workbench.errors import RunError
from workbench.steps.headline import write_headline


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


@pytest.fixture(scope="module")
def many(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 completed runs that wrote their headline down: more than the cache of tables has places for."""
    folder = tmp_path_factory.mktemp("many")
    cases = fabricate.make_cases(test=14, validation=12, train=0, external=0)
    run = fabricate.make_run(folder / "one", "demo", "unet", "completed", seed=1, cases=cases, subsets=False)
    write_headline(run, 50)
    for number in range(300):
        shutil.copytree(run.folder, folder / "runs" / f"e{number % 3}" / f"{number:012x}")
    return folder / "runs"


def test_all_numbers_at_first_sight_and_nothing_is_read_again(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(many)
    page = OverviewPage(AppState(), store)
    assert len(page.table.value) == 300
    assert all("n = 14" in cell for cell in page.table.value["Dice WT"])
    read = []
    monkeypatch.setattr("workbench.files.open_regular", lambda path: read.append(path))
    monkeypatch.setattr(pd, "read_parquet", lambda path: read.append(path))
    before = page.table.value
    store.runs(max_age=-1)
    page.refresh()
    assert read == []
    assert page.table.value is before


def test_only_the_run_that_changed_is_read_again(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.records import index

    store = Store(many)
    first = store.runs(max_age=-1)
    changed = many / first[5].run
    status = json.loads((changed / "status.json").read_text())
    (changed / "status.json").write_text(json.dumps(status | {"device": "another"}))
    seen, real = [], index.read_row
    monkeypatch.setattr(index, "read_row", lambda root, run, stale: seen.append(run) or real(root, run, stale))
    assert store.runs(max_age=-1)[5].device == "another"
    assert seen == [first[5].run]


def test_a_headline_older_than_its_tables_is_not_believed(many: Path) -> None:
    store = Store(many)
    run = store.runs()[7].run
    path = many / run / "headline.json"
    forged = {"dice WT": {"value": 0.123, "low": 0.1, "high": 0.2, "n": 50, "n_subjects": 50}}
    path.write_text(json.dumps(forged))
    assert store.headline(run)["dice WT"].value == 0.123, "as new as its tables: taken"
    os.utime(path, (1, 1))
    assert store.headline(run, wait=False) is None
    assert store.headline(run)["dice WT"].n == 14


def test_a_headline_of_an_older_version_stands_until_there_is_time(many: Path) -> None:
    """Its Dice is a mean over all cases, also those without the region."""
    store = Store(many)
    run = store.runs()[8].run
    (many / run / "headline.json").write_text(json.dumps({"dice WT": {"value": 0.123, "low": 0.1, "high": 0.2, "n": 5}}))
    early = store.headline(run, wait=False)
    assert early is not None
    assert early["dice WT"].value == 0.123
    assert not math.isfinite(early["dice WT"].low), "five cases are no more than five subjects"
    assert store.headline(run)["dice WT"].n == 14
    assert store.headline(run, wait=False)["found WT"].n == 14, "and is kept"


def test_a_damaged_headline_is_worked_out_again(many: Path) -> None:
    store = Store(many)
    run = store.runs()[9].run
    (many / run / "headline.json").write_text('{"dice WT": {"val')
    assert store.headline(run)["dice WT"].n == 14
