"""The Curves page without a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.curves import CurvesPage, marker_options
from app.state import AppState
from app.store import Store


def test_curves_follow_marker_split_and_threshold(store: Store, done: dict[int, str], labels: Callable[[Any], str]) -> None:
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


def test_too_few_cases_are_said(store: Store, done: dict[int, str], labels: Callable[[Any], str]) -> None:
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
