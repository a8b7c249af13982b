"""A run or a cohort that is deleted, damaged or being written while a page shows it: a note, no exception, on every page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from app.shell import Shell
from app.state import PAGES, AppState
from app.store import Store
from workbench.cohort.table import Cohort
from workbench.files import write_json
from workbench.records.sweep_plan import plan_path, read_plan
from workbench.views.panes import Notice

CASE_RUN = "tiny/0123456789ab"
COHORTS = ("cohort", "tiny")


def delete(run: Path) -> None:
    shutil.rmtree(run)


def lose_cohort(run: Path) -> None:
    for name in COHORTS:
        shutil.rmtree(run.parents[2] / name)


def lose_images(run: Path) -> None:
    for image in run.parents[2].glob("tiny/**/*.nii*"):
        image.unlink()


def halve_tables(run: Path) -> None:
    for file in run.glob("*.parquet"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def halve_events(run: Path) -> None:
    with (run / "events.jsonl").open("a") as file:
        file.write('{"step": 12, "loss/tr')


def halve_status(run: Path) -> None:
    (run / "status.json").write_text('{"state": "comp')


FAULTS = (delete, lose_cohort, lose_images, halve_tables, halve_events, halve_status)
TOLD = (delete, halve_tables)
"""What is said with the run's name."""


@pytest.fixture(scope="module")
def whole(fabricate: ModuleType, tiny_cohort: Cohort, make_case_run: Callable, sweep_runs: Path, tmp_path_factory) -> Path:
    """Two cohorts, and runs for every page."""
    folder = tmp_path_factory.mktemp("whole")
    fabricate.make_runs(folder)
    shutil.copytree(tiny_cohort.folder, folder / "tiny")
    make_case_run(Cohort.open(folder / "tiny"), folder / "runs")
    plan = read_plan(sweep_runs, "attention")
    cells = tuple(cell for cell in plan.cells if cell.method == "mts_unet")
    for cell in cells:
        shutil.copytree(sweep_runs / cell.run, folder / "runs" / cell.run)
    write_json(plan_path(folder / "runs", plan.name), plan.model_copy(update={"cells": cells}).model_dump(mode="json"))
    return folder


@pytest.fixture(scope="module")
def store(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of a copy that a test may break."""
    return Store(Path(shutil.copytree(whole, tmp_path_factory.mktemp("copy") / "all")) / "runs")


@pytest.fixture(autouse=True)
def mended(whole: Path, store: Store) -> Iterator[None]:
    """What a test breaks is put back with its old times: what the store has read of the other runs is still good."""
    yield
    copy = store.folder.parent
    shutil.rmtree(copy)
    shutil.copytree(whole, copy)
    store.runs(-1.0)


def shown_state(page: str, store: Store) -> tuple[AppState, str]:
    """A state in which the page shows the run that is struck, and that run."""
    if page == "cases":
        return AppState(page=page, run=CASE_RUN), CASE_RUN
    experiment = "attention" if page == "ablations" else "demo"
    rows = [row for row in store.runs() if row.experiment == experiment and row.method == "mts_unet"]
    runs = [row.run for row in sorted(rows, key=lambda row: int(row.parameters["seed"]))]
    return AppState(page=page, run=runs[0], runs=runs), runs[0]


def look(shell: Shell) -> None:
    """What the page's timer does, and a reader who clicks on it again."""
    page = shell.page(shell.state.page)
    (page.refresh if hasattr(page, "refresh") else page.follow)()


def said(shell: Shell) -> str:
    """All text of the page that is shown."""
    panes = shell.page(shell.state.page).__panel__().select(lambda pane: hasattr(pane, "object"))
    return " ".join(str(pane.object) for pane in panes if isinstance(pane.object, str))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("key", PAGES)
def test_a_run_that_changes_under_a_page_is_a_note(store: Store, key: str, fault: Callable[[Path], None]) -> None:
    """At once, while the list of runs is still the old one; after the list was read again; and for a session that comes later."""
    state, run = shown_state(key, store)
    title = next(row.title for row in store.runs() if row.run == run)
    shell = Shell(state, store)
    look(shell)
    fault(store.folder / run)
    for max_age in (1e9, -1.0):
        assert len(store.runs(max_age)) > 6, "the other runs are there"
        look(shell)
        state.split = "validation"
        state.split = "test"
        if state.case:
            shell.page(key).step(1)
            shell.page(key).step(-1)
    late = AppState(page=key, run=state.run, runs=state.runs, case=state.case)
    assert not isinstance(Shell(late, store).page(key), Notice)
    if fault in TOLD and key not in ("cases", "ablations"):  # which show one run, or the cells of a sweep
        assert run in said(shell) or title in said(shell), said(shell)
