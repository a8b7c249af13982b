"""A run folder that somebody mailed harms nothing but itself."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from crafted_runs import CONFINED, NAMES, UNREADABLE
from typer.testing import CliRunner

from app.store import Store
from workbench.cli import app as command_line
from workbench.errors import WorkbenchError
from workbench.records.index import RunRow, list_runs
from workbench.records.run_folder import RunFolder
from workbench.views.tables import runs_table


@contextmanager
def answered() -> Iterator[None]:
    """What hangs is stopped, and fails."""

    def stop(*_: object) -> None:
        raise AssertionError("it did not answer within 30 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def good(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one small completed run, `demo/<id>`."""
    root = tmp_path_factory.mktemp("good") / "runs"
    cases = fabricate.make_cases(test=14, validation=12, train=0, external=0)
    run = fabricate.make_run(root, "demo", "unet", "completed", seed=1, cases=cases, subsets=False)
    from workbench.steps.headline import write_headline

    write_headline(run, 50)
    return root


@pytest.fixture
def runs(good: Path, tmp_path: Path) -> Path:
    """The good run and a copy of it to be spoilt: `runs/demo/<id>` and `runs/mailed/bad`."""
    shutil.copytree(good, tmp_path / "runs")
    shutil.copytree(next((good / "demo").iterdir()), tmp_path / "runs" / "mailed" / "bad")
    return tmp_path / "runs"


def ask_everything(runs: Path, row: RunRow) -> list[str]:
    """Ask the store for all it knows of a run; returns what it said of damage. Anything but a `WorkbenchError` fails."""
    store, said = Store(runs), []
    for ask in (store.metrics, store.markers, store.subsets, store.events, store.run, lambda run: store.run(run).status):
        try:
            ask(row.run)
        except WorkbenchError as error:
            said.append(str(error))
    store.headline(row.run)
    store.cohort(row.run)
    said.append(store.cohort_problem(row.run))
    return said


def check(runs: Path) -> RunRow:
    """The row of the spoilt run; the good one beside it shows its numbers, in the list, the table and on the command line."""
    with answered():
        rows = {row.experiment: row for row in list_runs(runs)}
        assert len(rows) == 2
        assert rows["demo"].state == "completed"
        store = Store(runs)
        numbers = {row.run: store.headline(row.run) for row in rows.values() if row.readable}
        assert numbers[rows["demo"].run]["dice WT"].n == 14
        shown = runs_table(list(rows.values()), numbers)
        assert "0." in str(shown.loc[rows["demo"].run, "Dice WT"])
        shown.to_html().encode("utf-8")
    return next(row for name, row in rows.items() if name != "demo")


def test_there_are_enough_of_them() -> None:
    assert len(UNREADABLE) + len(CONFINED) + len(NAMES) >= 72


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_row_with_its_reason(runs: Path, kind: str) -> None:
    UNREADABLE[kind](runs / "mailed" / "bad")
    row = check(runs)
    assert row.state == "unreadable"
    assert len(row.reason) > 10
    assert len(row.reason) < 2000
    with answered(), suppress(WorkbenchError):
        RunFolder.open(runs / row.run)


@pytest.mark.parametrize("kind", CONFINED)
def test_a_run_with_one_damaged_part(runs: Path, kind: str) -> None:
    CONFINED[kind](runs / "mailed" / "bad")
    row = check(runs)
    assert row.readable, row.reason
    with answered():
        said = ask_everything(runs, row)
        assert row.seconds is None or row.seconds >= 0
    if "table" in kind or "flipped" in kind or "probability" in kind or "as class" in kind:
        assert any(".parquet" in text for text in said), said


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_cannot_be_shown(runs: Path, name: str) -> None:
    (runs / "mailed" / "bad").rename(runs / "mailed" / os.fsdecode(NAMES[name]))
    row = check(runs)
    assert row.state == "unreadable"
    assert "rename" in row.reason
    row.run.encode("utf-8")


def test_all_at_once_on_the_command_line(good: Path, tmp_path: Path) -> None:
    runs, source = tmp_path / "runs", next((good / "demo").iterdir())
    shutil.copytree(good, runs)
    for number, craft in enumerate([*UNREADABLE.values(), *CONFINED.values()]):
        shutil.copytree(source, runs / "mailed" / f"bad{number}")
        craft(runs / "mailed" / f"bad{number}")
    with answered():
        shown = [CliRunner().invoke(command_line, ["runs", "--runs", str(runs), *more]) for more in ([], ["--json"])]
    assert [result.exit_code for result in shown] == [0, 0], shown
    assert all(source.name[:6] in result.output for result in shown)
    assert len([row for row in list_runs(runs) if row.state == "unreadable"]) == len(UNREADABLE)


def test_a_run_folder_that_is_a_link_is_listed_and_read(runs: Path, tmp_path: Path) -> None:
    shutil.move(runs / "mailed", tmp_path / "large disk")
    (runs / "mailed").symlink_to(tmp_path / "large disk")
    row: Any = next(row for row in list_runs(runs) if row.experiment == "mailed")
    assert row.state == "completed"
    assert Store(runs).metrics(row.run) is not None
    assert Store(runs).run(row.run).spec["method"] == "unet"
