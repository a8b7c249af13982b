"""Overview: which runs there are, how they stand, and how those that are ticked compare."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import panel as pn

from app.comparison import ComparisonPanel
from app.figures import figure_box
from app.inspection import RunPanel
from app.state import AppState
from app.store import Store
from workbench.evaluation.intervals import Interval
from workbench.records.index import RunRow
from workbench.views.markup import Html
from workbench.views.panes import TextPane, TextTable
from workbench.views.tables import runs_table

REFRESH_MS = 5000
"""Time between two looks at the runs folder."""
PAGE_SIZE = 10
PATIENCE = 0.6
"""Seconds one look may spend on headline numbers that are not known yet; the next look goes on."""
TICK = "Tick"
"""The column of check boxes. Not Tabulator's own selection: the browser reports that as changed whenever the table is rebuilt or
patched, first emptied and then filled again, and nothing tells this from a user. A click on a cell is always a user's."""

_TABLE_STYLE = """
:host .tabulator.tabulator { font-size: 13px; border: 1px solid var(--wb-line); border-radius: 6px; background: var(--wb-page); }
:host .tabulator.tabulator .tabulator-header, :host .tabulator.tabulator .tabulator-header .tabulator-col {
  background: var(--wb-raised); color: var(--wb-text); font-weight: 600; border-color: var(--wb-line);
}
:host .tabulator.tabulator .tabulator-header .tabulator-col .tabulator-col-content { padding: 6px 8px; }
:host .tabulator.tabulator .tabulator-header .tabulator-col .tabulator-col-title { padding-right: 12px; }
:host .tabulator.tabulator .tabulator-row {
  background: var(--wb-page); color: var(--wb-text); border-bottom: 1px solid var(--wb-line); cursor: pointer;
}
:host .tabulator.tabulator .tabulator-row:hover { background: var(--wb-raised); }
:host .tabulator.tabulator .tabulator-row:has(input:checked), :host .tabulator.tabulator .tabulator-row:has(input:checked):hover {
  background: color-mix(in srgb, var(--wb-accent) 16%, var(--wb-page)) !important;
}
:host .tabulator.tabulator input[type=checkbox] {
  width: 15px; height: 15px; margin: 2px 0; accent-color: var(--wb-accent); cursor: pointer;
}
:host .tabulator.tabulator .tabulator-row .tabulator-cell { padding: 5px 8px; line-height: 1.3; border-color: transparent; }
:host .tabulator.tabulator .tabulator-footer {
  background: var(--wb-raised); color: var(--wb-text); border-top: 1px solid var(--wb-line);
}
:host .tabulator.tabulator .tabulator-frozen { border-color: var(--wb-line); }
:host .tabulator.tabulator small { color: var(--wb-muted); font-size: 11.5px; }
"""
_EMPTY_STYLE = """
h3 { font-size: 20px; font-weight: 650; margin: 8px 0; }
pre { background: var(--wb-raised); border: 1px solid var(--wb-line); border-radius: 6px; padding: 8px 12px; margin: 8px 0; }
pre, code { color: var(--wb-text); font-size: 13.5px; }
"""
EMPTY = Html("""
<h3>No runs yet</h3>
<p>There is no run in the runs folder. A first one takes a few minutes:</p>
<pre>workbench cohort phantom cohorts/phantom --subjects 40 --spacing 3
workbench run unet --cohort cohorts/phantom -p size=demo</pre>
<p>or <code>make demo</code> for both methods at once. Runs appear here by themselves. Runs that are elsewhere: start
the dashboard with <code>workbench app --runs FOLDER</code>.</p>
""")


class OverviewPage(pn.viewable.Viewer):
    """The table of runs, the comparison of the ticked ones, and the run under inspection.

    Args:
        state: `runs` follows the ticks, `run` the row that was clicked last.
        store: where runs are read from.
    """

    def __init__(self, state: AppState, store: Store) -> None:
        super().__init__()
        self.state, self.store = state, store
        self._told: tuple[list[RunRow], dict[str, dict[str, Interval] | None], str] | None = None
        self.tick = pn.widgets.Button(label="Tick all shown", margin=(0, 8, 0, 0), height=30)
        self.untick = pn.widgets.Button(label="Untick all", margin=0, height=30)
        self.count = TextPane("", margin=(0, 16, 0, 0), styles={"color": "var(--wb-muted)", "font-size": "14px"})
        self.empty = TextPane(EMPTY, visible=False, stylesheets=[_EMPTY_STYLE], styles={"font-size": "15px"})
        self.table = TextTable(
            self._with_ticks(runs_table([], {})),
            selectable=False,
            titles={TICK: ""},
            header_tooltips={TICK: "Ticked runs are compared below"},
            show_index=False,
            disabled=True,
            layout="fit_columns",
            page_size=PAGE_SIZE,
            header_filters=False,
            sizing_mode="stretch_width",
            stylesheets=[_TABLE_STYLE],
            margin=(0, 0, 12, 0),
            widths={TICK: 40, "Run": 165, "Status": 130, "Cohort": 155, "Started": 130, "Budget": 105},
            min_width=1300,  # a narrow screen scrolls the list instead of squeezing it
        )
        state.param.watch(lambda *_: self._update_table(self._with_ticks(self.table.value)), "runs")  # before the figures
        self.comparison = ComparisonPanel(state, store)
        self.inspection = RunPanel(state, store)
        self.table.on_click(self._clicked)
        self.tick.on_click(self._tick_shown)
        self.untick.on_click(lambda _: setattr(state, "runs", []))
        state.param.watch(lambda *_: self.refresh(), "page")
        self.layout = pn.Column(
            pn.FlexBox(self.count, self.tick, self.untick, align_items="center", margin=(0, 0, 6, 0)),
            self.empty,
            figure_box(self.table),
            self.comparison,
            self.inspection,
            sizing_mode="stretch_width",
            margin=0,
        )
        if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None:
            self.refresh_table()  # the list is there with the page; the figures follow
            pn.state.onload(self.refresh_figures)  # not the table: Tabulator fails when patched while it is being built
            pn.state.add_periodic_callback(self.refresh, period=REFRESH_MS)
        else:
            self.refresh()

    def __panel__(self) -> Any:
        return self.layout

    def refresh(self) -> None:
        """Look at the runs folder and bring table and figures up to date, touching only what changed."""
        if self.state.page != "overview":
            return
        self.refresh_table()
        self.refresh_figures()

    def refresh_figures(self) -> None:
        """Bring the comparison and the run under inspection up to date."""
        self.comparison.refresh()
        self.inspection.refresh()

    def refresh_table(self) -> None:
        """Bring the list of runs up to date."""
        rows = self.store.runs()
        headlines = self._headlines([row.run for row in rows if row.readable])
        told = (rows, headlines, self.state.theme)
        if self._told is not None and told[2] == self._told[2] and _same(told[0], self._told[0]) and told[1] == self._told[1]:
            return  # the store gives the same rows for as long as their files stay: nothing to draw
        self._told = told
        frame = runs_table(rows, headlines, name=self.state.theme)
        broken = sum(not row.readable for row in rows)
        note = f", {broken} of them unreadable" if broken else ""
        self.count.object = f"{len(rows)} run{'s' * (len(rows) != 1)}{note}" if rows else ""
        self.empty.visible = not rows
        self.table.visible = self.tick.visible = self.untick.visible = bool(rows)
        self._update_table(self._with_ticks(frame))

    def _headlines(self, runs: list[str]) -> dict[str, dict[str, Interval] | None]:
        found: dict[str, dict[str, Interval] | None] = {}
        deadline = time.monotonic() + PATIENCE
        for run in runs:
            found[run] = self.store.headline(run, wait=time.monotonic() < deadline)
        return found

    def _update_table(self, frame: pd.DataFrame) -> None:
        if frame.equals(self.table.value):
            return
        self.table.pagination = "local" if len(frame) > PAGE_SIZE else None
        self.table.put(frame)  # not `patch`: after one, Panel's table is back on its first page

    def _with_ticks(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The list with its check boxes as the state has them; what the table shows of ticks comes from nowhere else."""
        box, ticked = (
            Html('<input type="checkbox" aria-label="compare {}">'),
            Html('<input type="checkbox" checked aria-label="compare {}">'),
        )
        boxes = [(ticked if run in self.state.runs else box).format(run) for run in map(str, frame.index)]
        ticks = pd.DataFrame({TICK: pd.Series(boxes, index=frame.index, dtype=object)})
        return ticks.join(frame.drop(columns=TICK, errors="ignore"))

    def _tick_shown(self, *_: object) -> None:
        """Tick every run of the page of the list that is looked at, as it is sorted; what is ticked elsewhere stays."""
        start = (self.table.page - 1) * PAGE_SIZE if self.table.pagination else 0
        readable = {row.run for row in self.store.runs() if row.readable}
        shown = [run for run in map(str, self.table.current_view.index[start : start + PAGE_SIZE]) if run in readable]
        self.state.runs = list(dict.fromkeys([*self.state.runs, *shown]))

    def _clicked(self, event: Any) -> None:
        index = [str(run) for run in self.table.value.index]
        run = index[event.row]
        if event.column == TICK:
            kept = [other for other in self.state.runs if other != run and other in index]
            self.state.runs = kept if run in self.state.runs else [*kept, run]
        elif event.column in self.table.value.columns:
            self.state.run = run


def _same(rows: list[RunRow], before: list[RunRow]) -> bool:
    return len(rows) == len(before) and all(row is other for row, other in zip(rows, before, strict=True))
