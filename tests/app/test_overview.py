"""The Overview without a browser: the list of runs and its ticks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from panel.models.tabulator import CellClickEvent

from app.overview import TICK, OverviewPage
from app.state import AppState
from app.store import Store


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


def test_ticks_and_state_follow_each_other(store: Store, done: dict[int, str], labels: Callable[[Any], str]) -> None:
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
