"""Ablations: how far a sweep is, what each switch changes against the baseline, and where the single runs are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

import panel as pn

from app.figures import figure_box, figure_pane
from app.state import AppState, Binding
from app.store import Store
from workbench.cohort.table import cohort_title
from workbench.contracts import JUDGED, MARKER_TASK
from workbench.errors import WorkbenchError
from workbench.evaluation.ablation import Deltas, ablation_deltas, join_deltas
from workbench.evaluation.metrics import Place, shown_in
from workbench.records.run_folder import MARKERS_FILE, METRICS_FILE
from workbench.records.sweep_cells import SweepCell, comparable, sweep_cells
from workbench.records.sweep_plan import SweepPlan, list_plans, read_plan
from workbench.views.ablation_tables import (
    cell_matrix,
    completeness,
    delta_notes,
    delta_table,
    failures,
    outcome_options,
    outcome_title,
    shift_table,
)
from workbench.views.figures.forest import ORDERS, forest_figure, forest_rows
from workbench.views.markup import Html, html_table, lines
from workbench.views.panes import TextPane

REFRESH_MS = 10_000
"""Time between two looks at the runs of the sweep."""
POLL_MS = 1000
"""Time between two looks while differences are being computed."""
FEW_FAILURES = 5
"""Cells that ended badly and are listed; the others are folded away."""
NO_SWEEP = Html(
    "There is no sweep in the runs folder yet. A file that names a baseline and switches makes one: "
    "<code>workbench sweep FILE</code>; its runs appear here as soon as it is planned."
)
_TABLE_STYLE = """
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--wb-line); text-align: left; color: var(--wb-text); }
th { font-weight: 600; vertical-align: bottom; } td { white-space: nowrap; }
"""
_HEADING = Html('<h2 style="font-size:19px;font-weight:650;margin:0">{}</h2>')
_SMALL = Html('<div style="font-size:13.5px;color:var(--wb-muted);margin:2px 0">{}</div>')


class AblationsPage(pn.viewable.Viewer):
    """The cells of a sweep as they stand; per method a forest plot and a table of paired differences.

    Args:
        state: sweep, judged, split, against and order are followed and written.
        store: where runs are read from.
    """

    def __init__(self, state: AppState, store: Store) -> None:
        super().__init__()
        self.state, self.store = state, store
        self._shown: Any = None
        self._remarks: list[str] = []
        self._last: tuple[Any, list[Any], Deltas | None] = (None, [], None)
        document = pn.state.curdoc
        self._document = document if document is not None and document.session_context is not None else None
        self._polling = False
        narrow = {"margin": (0, 16, 0, 0)}
        self.sweep = pn.widgets.Select(label="Sweep", options=[], width=340, **narrow)
        self.judged = pn.widgets.Select(label="Outcome", options={}, width=280, **narrow)
        self.split = pn.widgets.Select(label="Split", options=list(JUDGED), width=120, **narrow)
        self.against = pn.widgets.Select(label="Compared with", options=[], width=200, **narrow)
        self.order = pn.widgets.Select(
            label="Order", options={"as declared": "declared", "by effect": "effect"}, width=130, **narrow
        )
        self.title = TextPane("", sizing_mode="stretch_width", margin=(12, 0, 4, 0))
        self.matrix = TextPane("", sizing_mode="stretch_width", margin=(0, 0, 4, 0))
        self.blocks = pn.Column(sizing_mode="stretch_width", margin=0)
        self.notes = TextPane("", sizing_mode="stretch_width", margin=(10, 0, 8, 0), styles={"font-size": "13.5px"})
        self.widgets = pn.FlexBox(self.sweep, self.judged, self.split, self.against, self.order, align_items="flex-start")
        self.layout = pn.Column(
            self.widgets, self.title, self.matrix, self.blocks, self.notes, sizing_mode="stretch_width", margin=0
        )
        bound = {name: getattr(self, name) for name in ("sweep", "judged", "split", "against", "order")}
        self._binding = Binding(state, **bound)
        state.param.watch(self.refresh, [*bound, "page"])
        if self._document is not None:
            pn.state.onload(self.refresh)
            pn.state.add_periodic_callback(self.refresh, period=REFRESH_MS)
        self.refresh()

    def __panel__(self) -> Any:
        return self.layout

    def refresh(self, *_: object) -> None:
        """Bring widgets, matrix and figures in line with the state and the run folders; draws only what changed."""
        if self.state.page != "ablations":
            return
        names = list_plans(self.store.folder)
        name = self.state.sweep if self.state.sweep in names else next(iter(names), "")
        missing = f"There is no sweep '{self.state.sweep}'." if self.state.sweep and name != self.state.sweep else ""
        try:
            plan = read_plan(self.store.folder, name) if name else None
        except WorkbenchError as error:
            plan, missing = None, f"{missing} {error}".strip()
        if plan is None:
            self._show_nothing(names, name, missing or NO_SWEEP)
            return
        rows = {row.run: row for row in self.store.runs()}
        cells = sweep_cells(self.store.folder, plan, lambda cell: rows.get(cell.run))
        arms = list(dict.fromkeys(cell.arm for cell in cells))
        against = self.state.against if self.state.against in arms else plan.baseline if plan.baseline in arms else arms[0]
        split = self.state.split if self.state.split in JUDGED else "test"
        deltas, notes = self._deltas(plan, cells, split, against)
        options = outcome_options(deltas, shown_in(Place.OUTCOME)) if deltas is not None else {}
        judged = self.state.judged if self.state.judged in options.values() else next(iter(options.values()), "")
        self._follow(names, name, options, judged, split, arms, against)
        stamps = tuple((cell.planned.run, cell.state, cell.progress, cell.row.reason) for cell in cells)
        shown = (plan, stamps, id(deltas), judged, self.state.order, self.state.theme)
        with pn.io.hold():
            if shown != self._shown:
                self._shown = shown
                self._remarks = self._draw(plan, cells, deltas, judged)
            self._say([*([missing] if missing else []), *notes, *self._remarks])

    def _show_nothing(self, names: list[str], name: str, text: str) -> None:
        self._follow(names, name, {}, "", "test", [], "")
        self._shown = None
        self.title.object = Html('<div style="font-size:15px">{}</div>').format(text)
        self.matrix.object = self.notes.object = ""
        self.blocks[:] = []

    def _deltas(self, plan: SweepPlan, cells: list[SweepCell], split: str, against: str) -> tuple[Deltas | None, list[str]]:
        """The paired differences, None before all are there; and what belongs beside them.

        Switch by switch, each kept for as long as no run of its own or of the reference changes. In a session they are computed
        in the background, and the last ones that were whole stand until then.
        """
        pairs = {}
        for arm in dict.fromkeys((cell.block, cell.arm) for cell in cells):
            pairs[arm] = [cell for cell in cells if cell.block == arm[0] and cell.arm in (arm[1], against)]
        several = {arm: own for arm, own in pairs.items() if arm[1] != against} or pairs
        compute: Callable[..., Any] = self.store.cached if self._document is None else self.store.later
        if self._document is not None and not pn.state.loaded:
            compute = _not_yet  # the page first
        found = {}
        for arm, own in several.items():
            stamps = tuple(
                (c.planned.run, c.state, *(self.store.stamp(c.planned.run, name) for name in (METRICS_FILE, MARKERS_FILE)))
                for c in own
            )
            found[arm] = compute(
                ("ablation", plan.name, split, against, *arm), stamps, partial(self._compare, own, split, against)
            )
        wrong = {", ".join(arm): part for arm, part in found.items() if isinstance(part, Exception)}
        whole = [part for part in found.values() if part is not None and not isinstance(part, Exception)]
        notes = [f"{arm} cannot be compared: {error}" for arm, error in wrong.items()]
        notes += dict.fromkeys(problem for _, problems in whole for problem in problems)
        waiting = len(found) - len(whole) - len(wrong)
        sort = (plan.name, split, against)
        if self._last[0] != sort:
            self._last = (sort, [], None)
        if waiting:
            self._look_again()
            return self._last[2], [*notes, f"Comparing with {against}: {len(whole)} of {len(found)} conditions are done."]
        if len(whole) != len(self._last[1]) or any(a is not b for a, b in zip(whole, self._last[1], strict=True)):
            self._last = (sort, whole, join_deltas([deltas for deltas, _ in whole]) if whole else None)
        return self._last[2], notes

    def _look_again(self) -> None:
        def look() -> None:
            self._polling = False
            self.refresh()

        if self._document is not None and not self._polling:
            self._polling = True
            self._document.add_timeout_callback(look, POLL_MS)

    def _compare(self, cells: list[SweepCell], split: str, against: str) -> tuple[Deltas, list[str]]:
        tables, problems = comparable(self.store.folder, cells)  # hundreds of tables would push all others out of the cache
        return ablation_deltas(tables, reference=against, split=split), problems

    def _follow(
        self, names: list[str], name: str, options: dict[str, str], judged: str, split: str, arms: list[str], against: str
    ) -> None:
        """Set the widgets without writing back."""
        with self._binding.following():
            self.sweep.param.update(options=names, value=name or None)
            self.judged.param.update(options=options, value=judged or None)
            self.against.param.update(options=arms, value=against or None)
            self.split.value = split
            self.order.value = self.state.order if self.state.order in ORDERS else "declared"
        for widget in (self.judged, self.split, self.against, self.order):
            widget.visible = bool(arms)
        self.sweep.visible = bool(names)

    # -- what is drawn -----------------------------------------------------------------------------------------------

    def _draw(self, plan: SweepPlan, cells: list[SweepCell], deltas: Deltas | None, judged: str) -> list[str]:
        """Draw; returns what belongs beside it."""
        cohort = cohort_title(plan.cohort.name, plan.cohort.phantom)
        self.title.object = _HEADING.format(f"{plan.name}: {completeness(cells)}") + _SMALL.format(
            "; ".join(filter(None, (cohort, plan.given)))
        )
        blocks = list(dict.fromkeys(cell.block for cell in cells))
        own = {block: [cell for cell in cells if cell.block == block] for block in blocks}
        matrices = [cell_matrix(own[b], name=self.state.theme, link=self._link, block=b) for b in blocks]
        ended = failures(cells)
        shown, folded = lines(ended[:FEW_FAILURES], _SMALL), lines(ended[FEW_FAILURES:], _SMALL)
        if folded:
            more = Html("<details><summary>{} more</summary>{}</details>")
            shown += more.format(len(ended) - FEW_FAILURES, folded)
        self.matrix.object = Html("").join([*matrices, shown])
        metric, _, of = judged.partition(":")
        if deltas is None:
            self.blocks[:] = []
            return []
        if not judged:
            self.blocks[:] = [TextPane(_SMALL.format(
                "Nothing can be compared yet: a switch appears once it and the baseline have finished the same fold and seed."
            ))]  # fmt: skip
            return [f"Refused: {line}" for line in deltas.refused]
        subtitle = f"{cohort}, {deltas.split} split; filled: p (Holm) < 0.05 and 0 outside the interval"
        self.blocks[:] = [self._block(block, own[block], deltas, (metric, of), subtitle) for block in blocks]
        return delta_notes(deltas, metric)

    def _block(self, block: str, cells: list[SweepCell], deltas: Deltas, judged: tuple[str, str], subtitle: str) -> Any:
        """Heading, forest plot and table of one method."""
        metric, of = judged
        rows = forest_rows(deltas, block, metric, of, self.state.order)
        heading = TextPane(_HEADING.format(block), margin=(14, 0, 4, 0), sizing_mode="stretch_width")
        if rows.empty:
            return pn.Column(heading, TextPane(_SMALL.format("Only one condition: nothing to compare.")), margin=0)
        marked = deltas.table.loc[deltas.table["block"] == block, "metric"].isin(shown_in(Place.OUTCOME, MARKER_TASK)).any()
        curves = self._curves(cells, deltas.reference) if marked else Html("")
        figure = forest_figure(
            rows, metric=metric, of=of, subtitle=subtitle, name=self.state.theme, against=deltas.reference
        )  # fmt: skip
        table = (
            delta_table(deltas, block, metric).rename_axis(None).reset_index(names=f"{outcome_title(metric, '')}".rstrip(", "))
        )
        shifts = shift_table(deltas, block, metric).rename_axis(None).reset_index(names="shift and subjects")
        below = html_table(shifts.columns, shifts.to_numpy().astype(str).tolist()) if len(shifts) else Html("")
        scrolled = Html('<div style="overflow-x:auto">{}{}</div>')
        html = html_table(table.columns, [[_broken(str(value)) for value in row] for row in table.to_numpy()])
        return pn.Column(
            heading,
            figure_box(figure_pane(figure)),
            TextPane(scrolled.format(html, below), stylesheets=[_TABLE_STYLE], margin=(4, 0, 0, 0), sizing_mode="stretch_width"),
            TextPane(curves, margin=(2, 0, 0, 0), sizing_mode="stretch_width"),
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip

    def _curves(self, cells: list[SweepCell], reference: str) -> Html:
        """Links to the curves of each finished pair of the first fold and seed that has one."""
        done = {(c.arm, c.planned.fold, c.planned.seed): c.planned.run for c in cells if c.state == "completed"}
        links = []
        for arm in dict.fromkeys(c.arm for c in cells if c.arm != reference):
            place = next((key[1:] for key in done if key[0] == arm and (reference, *key[1:]) in done), None)
            if place:
                runs = [done[reference, *place], done[arm, *place]]
                query = self._query(page="curves", runs=runs)
                links.append(Html('<a href="{}" style="color:var(--wb-accent)">{}</a>').format(query, arm))
        beside = Html("ROC and calibration beside {}: {}").format(reference, Html(", ").join(links))
        return _SMALL.format(beside) if links else Html("")

    def _link(self, cell: SweepCell) -> str:
        return self._query(page="overview", run=cell.planned.run)

    def _query(self, **fields: Any) -> str:
        theme = {"theme": self.state.theme} if self.state.theme != "light" else {}
        return "?" + urlencode({**fields, **theme}, doseq=True, safe="/")

    def _say(self, notes: list[str]) -> None:
        self.notes.object = lines(notes, Html('<div style="margin:3px 0;max-width:110ch">{}</div>'))


def _not_yet(*_: object) -> None:
    return None


def _broken(cell: str) -> Html:
    """A difference with its p on a line of its own, and no break before its n."""
    number, comma, test = cell.replace(", n ", ", n\N{NO-BREAK SPACE}").partition(", p ")
    return Html("{}<br>p\N{NO-BREAK SPACE}{}").format(number, test) if comma else Html.escape(number)
