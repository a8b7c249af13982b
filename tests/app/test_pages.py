"""Pages without a browser: build them, move the state, look at what they hold."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import holoviews as hv
import panel as pn
import pytest
from panel.models.tabulator import CellClickEvent

from app.curves import CurvesPage, marker_options
from app.overview import TICK, OverviewPage
from app.shell import Shell
from app.state import PAGES, AppState, Page
from app.store import Store
from workbench.errors import RunError
from workbench.records.run_folder import RunFolder

pn.extension("tabulator", design="bootstrap")


@pytest.fixture(scope="module")
def store(runs_folder: Path) -> Store:
    return Store(runs_folder)


@pytest.fixture(scope="module")
def done(store: Store) -> dict[int, str]:
    """Seed -> completed run."""
    return {row.parameters["seed"]: row.run for row in store.runs() if row.state == "completed"}


def labels(pane: pn.pane.HoloViews) -> str:
    return " | ".join(element.label for element in pane.object) if pane.object is not None else ""


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


@pytest.mark.parametrize("run", ["", "../cohort", "demo/nothing", "/etc"])
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


def test_overview_lists_all_and_says_what_is_broken(store: Store) -> None:
    page = OverviewPage(AppState(), store)
    assert len(page.table.value) == 8
    states = " ".join(page.table.value["Status"])
    for state in ("completed", "running", "failed", "interrupted", "queued", "unreadable"):
        assert state in states
    assert "1 of them unreadable" in page.count.object
    assert not page.empty.visible


def test_overview_of_nothing_says_what_to_do(tmp_path: Path) -> None:
    page = OverviewPage(AppState(), Store(tmp_path / "none"))
    assert page.empty.visible
    assert "workbench run unet" in page.empty.object
    assert not page.table.visible


def ticked(page: OverviewPage) -> list[str]:
    return [run for run, box in page.table.value[TICK].items() if " checked" in box]


def click(page: OverviewPage, run: str, column: str) -> None:
    """What a click of the user on a cell arrives as."""
    page.table._process_event(CellClickEvent(model=None, column=column, row=list(page.table.value.index).index(run)))


def test_ticks_and_state_follow_each_other(store: Store, done: dict[int, str]) -> None:
    state = AppState(runs=[done[2]])
    page = OverviewPage(state, store)
    assert ticked(page) == [done[2]]
    click(page, done[1], TICK)
    assert state.runs == [done[2], done[1]], "in the order of ticking"
    assert set(ticked(page)) == {done[1], done[2]}
    assert state.run == "", "ticking is not inspecting"
    click(page, done[2], TICK)
    assert state.runs == ticked(page) == [done[1]]
    page.tick.clicks += 1
    assert set(state.runs) == set(ticked(page)) == {row.run for row in store.runs() if row.readable}
    assert state.runs[0] == done[1], "what was ticked keeps its place"
    page.untick.clicks += 1
    assert state.runs == ticked(page) == []
    state.runs = [done[1]]
    click(page, done[1], "Status")
    assert (state.run, state.runs) == (done[1], [done[1]])
    state.runs = [done[3]]
    assert ticked(page) == [done[3]]
    page.table.selection = [0]
    assert state.runs == [done[3]], "what the browser reports of the selection is not a user's"
    assert "cc" in labels(page.comparison.regions) or labels(page.comparison.regions)


def test_comparison_draws_the_ticked_runs(store: Store, done: dict[int, str]) -> None:
    page = OverviewPage(AppState(runs=[done[1], done[2]]), store)
    text = labels(page.comparison.regions)
    assert text.index("unet") < text.index("mts_unet")
    assert "Unequal effort" in page.comparison.notes.object
    page.state.metric = "hd95"
    assert "HD95" in hv.Store.lookup_options("bokeh", page.comparison.regions.object, "plot").kwargs["ylabel"]


def test_a_run_that_is_gone_is_named(store: Store) -> None:
    state = AppState(runs=["demo/gone"], run="demo/gone")
    page = OverviewPage(state, store)
    assert "demo/gone" in page.comparison.notes.object
    assert "not in the runs folder" in page.inspection.title.object


def test_a_failed_run_shows_its_reason(store: Store) -> None:
    failed = next(row for row in store.runs() if row.state == "failed")
    page = OverviewPage(AppState(run=failed.run), store)
    assert "the loss is not finite" in page.inspection.facts.object
    assert page.inspection.loss.object is not None
    assert "Failed at" not in page.inspection.facts.object, "an older run says no more than the sentence"


def test_a_failed_run_shows_cell_and_last_lines(tmp_path: Path) -> None:
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    run = RunFolder.create(tmp_path / "e", spec)
    run.claim()
    failure = {"cell": 7, "source": "experiment.train()", "heading": "Training", "lines": ["ValueError: <b>"], "log": ["epoch 3"]}
    run.set_status("failed", error="cell 7 (experiment.train()): ValueError: <b>", failure=failure)
    shown = OverviewPage(AppState(run="e/r"), Store(tmp_path)).inspection.facts.object
    assert "cell 7 <code>experiment.train()</code>, under “Training”" in shown
    assert "ValueError: &lt;b&gt;" in shown
    assert "epoch 3" in shown


def test_curves_follow_marker_split_and_threshold(store: Store, done: dict[int, str]) -> None:
    state = AppState(page="curves", runs=[done[1], done[2]])
    page = CurvesPage(state, store)
    assert "AUC 0." in labels(page.roc)
    assert "best possible" in labels(page.roc)
    assert "exceed the best possible curve by chance" in page.notes.object
    assert "chosen on 40 validation cases" in page.notes.object
    before = page.table.object
    page.threshold.param.trigger("value_throttled")
    state.threshold = 0.9
    assert page.table.object != before
    assert "threshold 0.90" in page.table.object
    page.marker.value = "grade:4"
    assert state.marker == "grade:4"
    page.split.value = "external"
    assert "external split" in page.table.object


def test_youden_comes_from_validation(store: Store, done: dict[int, str]) -> None:
    state = AppState(page="curves", runs=[done[2]], marker="idh")
    page = CurvesPage(state, store)
    page._to_youden()
    from workbench.evaluation.thresholds import youden_threshold

    rows = store.markers(done[2])
    rows = rows[(rows["marker"] == "idh") & (rows["split"] == "validation")]
    assert state.threshold == pytest.approx(youden_threshold(rows["truth"], rows["probability"]), abs=1e-4)


def test_too_few_cases_are_said(store: Store, done: dict[int, str]) -> None:
    page = CurvesPage(AppState(page="curves", runs=[done[3]], marker="idh"), store)
    assert "not estimable: n+ =" in labels(page.roc)
    assert "too few to trust it" in page.notes.object


def test_a_link_to_an_unknown_marker_falls_back(store: Store, done: dict[int, str]) -> None:
    page = CurvesPage(AppState(page="curves", runs=[done[1]], marker="h3k27"), store)
    assert "h3k27" in page.notes.object
    assert page.figures.visible


def test_curves_without_runs_say_what_to_do(tmp_path: Path) -> None:
    page = CurvesPage(AppState(page="curves"), Store(tmp_path))
    assert "workbench run" in page.notes.object
    assert not page.figures.visible


def test_marker_options() -> None:
    assert marker_options(None) == {}


def test_shell_builds_pages_once_and_survives_a_broken_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    state = AppState()
    shell = Shell(state, store)
    first = shell.page("overview")
    state.page = "curves"
    assert shell.body[0] is shell.page("curves").layout
    assert shell.nav.value == "curves"
    state.page = "overview"
    assert shell.page("overview") is first
    assert shell.body[0] is first.layout
    monkeypatch.setitem(PAGES, "cases", Page("Cases", "app.nowhere:Page"))
    state.page = "cases"
    assert "cannot be shown" in shell.body[0].object
    state.message = "stale"
    assert shell.message.visible
