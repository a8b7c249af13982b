"""Every two compared runs on the same subjects, on Overview and Curves."""

from __future__ import annotations

import holoviews as hv
import pytest

from app.curves import CurvesPage
from app.overview import OverviewPage
from app.pairs import MOST, pair_figure
from app.state import AppState
from app.store import Store
from workbench.evaluation.delong import delong


def said(figure: hv.Overlay) -> str:
    return " | ".join(str(text) for part in figure if isinstance(part, hv.Labels) for text in part.dframe()["said"])


def test_curves_show_the_paired_difference_of_the_auc(store: Store, done: dict[int, str]) -> None:
    page = CurvesPage(AppState(page="curves", runs=[done[1], done[2]], marker="idh"), store)
    assert page.pairs.object is not None
    tables = [store.markers(done[seed]) for seed in (1, 2)]
    a, b = (t[(t["marker"] == "idh") & (t["split"] == "test")] for t in tables)
    expected = delong(a["truth"], a["probability"], b["probability"], a["subject"].tolist()).difference
    assert f"{expected:+.3f}".replace("-", "−") in said(page.pairs.object)
    page.state.runs = [done[1]]
    assert page.pairs.object is None


def test_runs_on_other_cases_are_not_paired_and_the_reason_is_given(store: Store, done: dict[int, str]) -> None:
    page = CurvesPage(AppState(page="curves", runs=[done[1], done[3], done[2]], marker="idh"), store)
    assert page.pairs.object is not None
    assert said(page.pairs.object).count("refused") == 2
    assert "Not paired: unet" in page.notes.object
    assert "were judged in the" in page.notes.object


@pytest.mark.slow
def test_overview_pairs_the_region_that_is_chosen(store: Store, done: dict[int, str]) -> None:
    state = AppState(runs=[done[1], done[2]], region="ET")
    panel = OverviewPage(state, store).comparison
    assert panel.region.value == "ET"
    assert panel.pairs.object.opts.get("plot").kwargs["title"].startswith("Dice, ET")
    panel.region.value = "TC"
    assert state.region == "TC"
    state.metric = "hd95"
    assert panel.pairs.object.opts.get("plot").kwargs["title"].startswith("HD95 (mm), TC")
    assert "← better" in said(panel.pairs.object)


def test_validation_cases_can_be_paired_too_and_many_runs_are_said(store: Store, done: dict[int, str]) -> None:
    rows = [store.row(done[seed]) for seed in (1, 2)]
    style = {"subtitle": "", "name": "light"}
    assert pair_figure(store, rows, "dice:WT", "validation", **style)[0] is not None
    assert pair_figure(store, rows, "dice:moon", "test", **style)[0] is None
    assert "at most" in pair_figure(store, rows * MOST, "dice:WT", "test", **style)[1][0]
