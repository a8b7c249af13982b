"""The comparison of the ticked runs, a part of the Overview."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv

from app.overview import OverviewPage
from app.state import AppState
from app.store import Store


def test_comparison_draws_the_ticked_runs(store: Store, done: dict[int, str], labels: Callable[[Any], str]) -> None:
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
