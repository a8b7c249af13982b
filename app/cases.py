"""Cases: which cases there are and how each went, and the chosen one in three planes and 3-D."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import panel as pn
import param

from app.state import SPLITS, AppState, parse_position
from app.store import Store
from workbench.cohort.table import INFO_FILE, Cohort
from workbench.errors import WorkbenchError
from workbench.records.run_folder import ATTRIBUTION_FILE, WEIGHTS_FILE
from workbench.records.spec import POOLED
from workbench.views.cases.keyboard import Keyboard
from workbench.views.cases.panel import CasePanel
from workbench.views.cases.table import cohort_table, column_digits, facts_html, run_table, worst_first
from workbench.views.cases.view import CaseView, open_case
from workbench.views.cases.viewer_bundle import VIEWER_FILE, viewer_problem
from workbench.views.markup import Html, lines
from workbench.views.panes import Notice, TextPane, TextTable

_COHORT = "cohort:"
_PAGE = 20
_POOLED_VALIDATION = (
    "Pooled folds: the numbers are those of the fold that validated on a case, the mask shown is that of the fold that tested it."
)
MAP_TABLES = (ATTRIBUTION_FILE, WEIGHTS_FILE)
_WISHES = ("modality", "overlay", "region")
_KEYS = {
    "PageDown or ↓": "next case", "PageUp or ↑": "previous case", "1 … 9": "sequence", "o": "overlay on or off",
    "[ and ]": "overlay less or more opaque", "l": "outline or filled", "r": "reset window and position", "?": "this list",
}  # fmt: skip
_MOUSE = {
    "left button": "move the crosshair; turn the 3-D view", "wheel": "next slice", "right button": "window",
    "middle button, or Shift": "pan", "click on a column's head": "sort the cases",
}  # fmt: skip
_TABLE_STYLE = """
:host .tabulator { font-size: 12px !important; }
:host .tabulator .tabulator-header .tabulator-col .tabulator-col-content { padding: 5px 8px; }
:host .tabulator .tabulator-header .tabulator-col .tabulator-col-content .tabulator-col-title { padding-right: 14px; }
:host .tabulator .tabulator-row { cursor: pointer; min-height: 0; }
:host .tabulator .tabulator-row .tabulator-cell { padding: 4px 8px; line-height: 18px; height: 26px !important; }
:host .tabulator .tabulator-footer { padding: 4px; background: transparent; }
:host .tabulator .tabulator-footer .tabulator-page { padding: 2px 8px; font-size: 12px; margin: 0 1px; }
"""
_FACTS_STYLE = """
.facts { display: flex; flex-wrap: wrap; gap: 8px 40px; font-size: 13px; }
table { border-collapse: collapse; height: max-content; }
th, td { text-align: left; padding: 2px 14px 2px 0; vertical-align: top; font-weight: normal; }
th { opacity: .72; }
td { font-variant-numeric: tabular-nums; }
kbd { font: 12px ui-monospace, monospace; border: 1px solid currentColor; border-radius: 4px; padding: 0 5px; opacity: .85; }
.phantom { margin: 0 0 6px; padding: 4px 10px; border-left: 4px solid #E69F00; background: #E69F0024; }
"""


class CasesPage(pn.viewable.Viewer):
    """The table of a run's cases (or of a cohort's) beside the viewer.

    Args:
        state: the session's state.
        store: where runs are read from.
    """

    state: Any = param.ClassSelector(class_=AppState)

    def __init__(self, state: AppState, store: Store) -> None:
        super().__init__(state=state)
        self.store = store
        self._quiet = False
        self._source: tuple[Any, ...] = ()
        self._told = ""
        self.panel = CasePanel(viewer_problem=viewer_problem(Path(__file__).parent / "static" / VIEWER_FILE))
        self.source = pn.widgets.Select(label="Run or cohort", groups={"": [""]}, width=310, margin=(0, 10, 0, 0))
        self.split = pn.widgets.Select(label="Split", options=list(SPLITS), width=110, margin=(0, 10, 0, 0))
        self.notice = Notice()
        self.table = TextTable(
            pd.DataFrame(columns=["case"]), pagination="local", page_size=_PAGE, selectable=1, disabled=True, show_index=False,
            layout="fit_data", height=580, sizing_mode="stretch_width", theme="bootstrap5", margin=0, stylesheets=[_TABLE_STYLE],
            frozen_columns=["case"], configuration={"columnDefaults": {"headerSortTristate": False}},
        )  # fmt: skip
        self.facts = TextPane("", sizing_mode="stretch_width", stylesheets=[_FACTS_STYLE], margin=(10, 0, 0, 0))
        self.help = TextPane(_help_html(), visible=False, stylesheets=[_FACTS_STYLE], margin=(6, 0, 0, 0))
        self.before = pn.widgets.Button(label="‹ Previous", margin=(16, 4, 0, 0), width=88)
        self.after = pn.widgets.Button(label="Next ›", margin=(16, 10, 0, 0), width=72)
        self.help_button = pn.widgets.Button(label="? Keys", margin=(16, 0, 0, 0), width=70)
        self.keyboard = Keyboard(
            self.press, keys=["PageDown", "ArrowDown", "PageUp", "ArrowUp", *"123456789", "o", "[", "]", "l", "r", "?"]
        )
        self.before.on_click(lambda _: self.step(-1))
        self.after.on_click(lambda _: self.step(1))
        self.help_button.on_click(lambda _: self.press("?"))
        self.source.param.watch(self._source_chosen, "value")
        self.split.param.watch(lambda event: self._set(split=event.new, case="", position=""), "value")
        self.table.param.watch(self._row_chosen, "selection")
        for name in ("modality", "overlay", "region"):
            self.panel.param.watch(lambda event: self._set(**{event.name: event.new}), name)
        self.panel.param.watch(lambda event: self._set(position=",".join(f"{v:g}" for v in event.new)), "position")
        state.param.watch(self._state_changed, ["page", "run", "cohort", "case", "split", "metric", *_WISHES, "position"])
        self.follow()

    def __panel__(self) -> Any:
        left = pn.Column(
            pn.FlexBox(self.source, self.split, margin=(0, 0, 8, 0)),
            self.table,
            pn.Row(self.before, self.after, self.help_button, margin=0),
            self.help,
            styles={"flex": "1 1 450px", "min-width": "0"},
            margin=0,
        )
        right = pn.Column(self.panel, self.facts, styles={"flex": "100 1 480px", "min-width": "0"}, margin=0)
        beside = pn.FlexBox(left, right, sizing_mode="stretch_width", gap="0 20px", margin=0)
        return pn.Column(self.notice, beside, self.keyboard, sizing_mode="stretch_width")

    # -- following the state ---------------------------------------------------------------------------------------------

    def _state_changed(self, *events: Any) -> None:
        if {event.name for event in events} <= {*_WISHES, "position"}:
            if self.state.page == "cases" and not self._quiet:
                self._follow_wishes()
        else:
            self.follow()

    def follow(self) -> None:
        """Show what the state says. Does nothing while another page is looked at."""
        shown = self.state.page == "cases"
        self.keyboard.active = shown
        if not shown or self._quiet:
            return
        self._quiet = True
        try:
            self._follow_source()
            self._follow_case()
        finally:
            self._quiet = False

    def _follow_source(self) -> None:
        state = self.state
        groups = self._groups()
        chosen = state.run or (_COHORT + state.cohort if state.cohort else "")
        known = {value for group in groups.values() for value in group.values()}
        if chosen and chosen not in known:
            groups["Not found"] = {chosen: chosen}
        self.source.param.update(groups=groups, value=chosen)
        self.split.value = state.split
        self.split.visible = bool(state.run)
        cohort, problem = self._cohort()
        stamps = [self.store.stamp(state.run, name) for name in ("metrics.parquet", "markers.parquet")] if state.run else []
        source = (chosen, state.split, state.metric, cohort.folder if cohort else None, problem, *stamps)
        if source == self._source:
            return
        self._source = source
        table, remark = self._read_table(cohort)
        sorters = worst_first(table, state.metric, state.region)
        self.table.put(table, sorters=sorters, selection=[], formatters=_formatters(table))
        self.notice.say(problem or remark)

    def _follow_case(self) -> None:
        state, cases = self.state, self.ordered_cases()
        case = state.case
        if not case and cases:
            case = cases[0]
            state.case = case
        cohort, _ = self._cohort()
        names = list(self.table.value["case"])
        selection = [names.index(case)] if case in names else []
        if self.table.selection != selection:
            self.table.selection = selection
        if case in cases:
            self.table.page = cases.index(case) // _PAGE + 1
        try:
            run = self.store.run(state.run) if state.run else None
            view = open_case(cohort, case, run.folder if run else None) if cohort and case else None
        except WorkbenchError as error:
            view = None
            self.notice.say(str(error))
        if view is self.panel.view and view is not None:
            self._follow_wishes()
            if self._told == state.split:
                return
        else:
            self._follow_wishes(view)
        self._told = state.split  # a pooled case has other numbers in another split
        metrics, markers = self._tables()
        try:
            self.facts.object = facts_html(view, metrics, markers, *self._map_tables()) if view is not None else ""
        except WorkbenchError as error:  # an unreadable mask: the panel has said so
            self.facts.object = str(error)

    def _follow_wishes(self, *view: CaseView | None) -> None:
        """Hand the panel what the reader wishes to see, and another case where one is given."""
        before, self._quiet = self._quiet, True
        try:
            wishes = {name: getattr(self.state, name) for name in _WISHES}
            position = list(parse_position(self.state.position)) if self.state.position else []
            if view:
                self.panel.show_case(view[0], position, **wishes)
            else:
                self.panel.param.update(**wishes, position=position)
        finally:
            self._quiet = before

    def _tables(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        try:
            if not self.state.run:
                return None, None
            metrics, markers = self.store.metrics(self.state.run), self.store.markers(self.state.run)
            return _of_split(metrics, self.state.split), _of_split(markers, self.state.split)
        except WorkbenchError:
            return None, None

    def _map_tables(self) -> list[pd.DataFrame]:
        """What the run's explanation maps say by region: shares of attribution, weights of the sequences."""
        return [self.store.map_table(self.state.run, name) if self.state.run else pd.DataFrame() for name in MAP_TABLES]

    def _read_table(self, cohort: Cohort | None) -> tuple[pd.DataFrame, str]:
        state = self.state
        if not state.run:
            if cohort is not None:
                return cohort_table(cohort), ""
            return pd.DataFrame(columns=["case"]), "" if state.cohort else "Choose a run, or a cohort to look at its images."
        try:
            metrics, markers = self.store.metrics(state.run), self.store.markers(state.run)
        except WorkbenchError as error:
            return pd.DataFrame(columns=["case"]), str(error)
        table = run_table(metrics, markers, state.split, state.metric)
        if not table.empty:
            row = self.store.row(state.run)
            pooled = row is not None and row.derived.get("kind") == POOLED and state.split == "validation"
            return table, _POOLED_VALIDATION if pooled else ""
        if metrics is None and markers is None:
            remark = "This run has no predictions yet: the cases of its cohort, without results."
            return (cohort_table(cohort) if cohort is not None else table), remark
        return table, f"This run has no cases in the split '{state.split}'."

    def _cohort(self) -> tuple[Cohort | None, str]:
        if self.state.run:
            return self.store.cohort(self.state.run), self.store.cohort_problem(self.state.run)
        if not self.state.cohort:
            return None, ""
        if self.state.cohort not in list_cohorts():
            return None, f"There is no cohort '{self.state.cohort}' in the folder of cohorts (any more)."
        folder = cohorts_folder() / self.state.cohort
        try:
            return self.store.cached(("cohort", str(folder)), _stamps(folder), lambda: Cohort.open(folder)), ""
        except WorkbenchError as error:
            return None, str(error)

    def _groups(self) -> dict[str, dict[str, str]]:
        runs = {f"{row.run}: {row.title}, {row.cohort}": row.run for row in self.store.runs() if row.readable}
        cohorts = {name: _COHORT + name for name in list_cohorts()}
        groups = {"": {"Choose …": ""}, "Runs": runs, "Cohorts, without predictions": cohorts}
        return {title: options for title, options in groups.items() if options}

    # -- what the reader does --------------------------------------------------------------------------------------------

    def _set(self, **values: Any) -> None:
        if not self._quiet:
            self.state.param.update(**values)

    def _source_chosen(self, event: Any) -> None:
        value = event.new or ""
        cohort = value.removeprefix(_COHORT) if value.startswith(_COHORT) else ""
        self._set(run="" if cohort else value, cohort=cohort, case="", position="")

    def _row_chosen(self, event: Any) -> None:
        if not self._quiet and event.new:
            self._set(case=str(self.table.value["case"].iloc[event.new[0]]), position="")

    def ordered_cases(self) -> list[str]:
        """The cases in the order in which the table shows them."""
        return [str(case) for case in self.table.current_view["case"]]

    def step(self, by: int) -> None:
        """Go to the next (1) or the previous (-1) case of the table, as it is sorted."""
        cases = self.ordered_cases()
        if not cases:
            return
        place = cases.index(self.state.case) + by if self.state.case in cases else 0
        self._set(case=cases[min(max(place, 0), len(cases) - 1)], position="")

    def press(self, key: str) -> None:
        """Do what a key stands for."""
        panel = self.panel
        if key in ("PageDown", "ArrowDown"):
            self.step(1)
        elif key in ("PageUp", "ArrowUp"):
            self.step(-1)
        elif key.isdigit():
            panel.choose_modality(int(key))
        elif key in "[]":
            panel.change_opacity(1 if key == "]" else -1)
        else:
            {"o": panel.toggle_overlay, "l": self._toggle_outline, "r": panel.reset_view, "?": self._toggle_help}[key]()

    def _toggle_outline(self) -> None:
        self.panel.viewer.outline = not self.panel.viewer.outline

    def _toggle_help(self) -> None:
        self.help.visible = not self.help.visible


def _of_split(table: pd.DataFrame | None, split: str) -> pd.DataFrame | None:
    """A run's table with one role per case: in a pooled run a case is tested by one fold and validated on by another."""
    if table is None or table.empty:
        return table
    mine = table["split"] == split
    return table[mine | ~table["case"].isin(table.loc[mine, "case"])]


def cohorts_folder() -> Path:
    """Where cohorts without a run are looked for: the environment variable WORKBENCH_COHORTS, else `./cohorts`."""
    return Path(os.environ.get("WORKBENCH_COHORTS") or "cohorts").resolve()


def list_cohorts() -> list[str]:
    """Names of the folders in `cohorts_folder` that are cohorts."""
    try:
        return sorted(f.name for f in cohorts_folder().iterdir() if (f / INFO_FILE).is_file())
    except OSError:
        return []


def _stamps(folder: Path) -> tuple[int, ...]:
    return tuple(f.stat().st_mtime_ns if f.exists() else 0 for f in (folder / INFO_FILE, folder / "cases.parquet"))


def _formatters(table: pd.DataFrame) -> dict[str, Any]:
    from bokeh.models.widgets.tables import NumberFormatter

    columns = table.select_dtypes("number").columns
    return {name: NumberFormatter(format=f"0.{'0' * column_digits(name)}", text_align="right") for name in columns}


def _help_html() -> Html:
    keys = lines(_KEYS.items(), Html("<tr><td><kbd>{0[0]}</kbd></td><td>{0[1]}</td></tr>"))
    mouse = lines(_MOUSE.items(), Html("<tr><td>{0[0]}</td><td>{0[1]}</td></tr>"))
    return Html('<div class="facts"><table>{}</table><table>{}</table></div>').format(keys, mouse)
