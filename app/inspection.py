"""One run looked at closely: where it stands, what it was asked, how its training went. A part of the Overview."""

from __future__ import annotations

from typing import Any

import panel as pn

from app.figures import HEADING, figure_box, figure_pane
from app.state import AppState
from app.store import Store
from workbench.cohort.table import cohort_title
from workbench.errors import WorkbenchError
from workbench.records.index import RunRow
from workbench.records.spec import EXTENDED, IMPORTED, POOLED
from workbench.views.figures.training import training_curves
from workbench.views.markup import Html
from workbench.views.panes import TextPane
from workbench.views.tables import budget_text, duration_text, state_cell, time_text

_FACTS_STYLE = """
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 14px; margin: 0; font-size: 13.5px; }
dt { color: var(--wb-muted); } dd { margin: 0; overflow-wrap: anywhere; }
pre { font-size: 11.5px; max-height: 260px; overflow: auto; white-space: pre; background: var(--wb-raised); padding: 6px; }
"""
_CODE, _SMALL = Html("<code>{}</code>"), Html("{}<br><small>{}</small>")


class RunPanel(pn.viewable.Viewer):
    """The run of `state.run`; where none is chosen, the latest that can be read."""

    def __init__(self, state: AppState, store: Store) -> None:
        super().__init__()
        self.state, self.store = state, store
        self._shown: Any = None
        self.title = TextPane("", margin=(14, 0, 8, 0), sizing_mode="stretch_width")
        self.facts = TextPane("", sizing_mode="stretch_width", max_width=380, margin=(0, 24, 0, 0), stylesheets=[_FACTS_STYLE])
        self.loss = figure_pane(margin=(0, 16, 0, 0))
        self.score = figure_pane()
        self.layout = pn.Column(self.title, figure_box(self.facts, self.loss, self.score), sizing_mode="stretch_width", margin=0)
        state.param.watch(self.refresh, "run")

    def __panel__(self) -> Any:
        return self.layout

    def row(self) -> RunRow | None:
        """The row that is shown."""
        if self.state.run:
            return self.store.row(self.state.run)
        return next((row for row in self.store.runs() if row.readable), None)

    def refresh(self, *_: object) -> None:
        """Bring the panel up to date; nothing is drawn anew while nothing changed."""
        row = self.row()
        self.layout.visible = bool(row or self.state.run)
        if row is None:
            gone = Html("<b>{}</b> is not in the runs folder (any more).")
            self.title.object = gone.format(self.state.run) if self.state.run else ""
            self._clear()
            return
        shown = (row, self.store.stamp(row.run, "events.jsonl"), self.state.theme, round(row.seconds or 0))
        if shown == self._shown:
            return
        drawn = self._shown is not None and self._shown[1:3] == shown[1:3] and self._shown[0].run == row.run
        self._shown = shown
        self.title.object = HEADING.format(f"Run {row.title}")
        entries = [Html("<dt>{}</dt><dd>{}</dd>").format(key, value) for key, value in self._facts(row)]
        self.facts.object = Html("<dl>{}</dl>").format(Html("").join(entries))
        if not drawn:
            self._draw(row)

    def _clear(self) -> None:
        self._shown = None
        self.facts.object = ""
        self.loss.object = self.score.object = None

    def _draw(self, row: RunRow) -> None:
        figures: dict[str, Any] = {}
        if row.readable:
            try:
                figures = training_curves(
                    self.store.events(row.run),
                    title=row.title,
                    subtitle=cohort_title(row.cohort, row.phantom),
                    name=self.state.theme,
                    width=370,
                    height=230,
                )
            except (WorkbenchError, OSError) as error:
                self.facts.object += Html("<p>The training record cannot be read: {}</p>").format(error)
        for pane, key in ((self.loss, "loss"), (self.score, "score")):
            pane.object = figures.get(key)

    def _failure(self, row: RunRow) -> Html:
        """Cell and last lines of a run that failed; empty where it says nothing of the kind."""
        try:
            details = self.store.run(row.run).status.get("failure")
        except WorkbenchError:
            return Html("")
        if not isinstance(details, dict):
            return Html("")
        place = Html("before the first cell")
        if details.get("cell"):
            place = Html("cell {} <code>{}</code>").format(details["cell"], details.get("source", ""))
            place += f", under “{details['heading']}”" if details.get("heading") else ""
        for title, key in (("traceback", "lines"), ("run.log", "log")):
            if isinstance(ends := details.get(key), list) and ends:
                folded = Html("<details><summary>last lines of {}</summary><pre>{}</pre></details>")
                place += folded.format(title, "\n".join(map(str, ends)))
        return place

    def _facts(self, row: RunRow) -> list[tuple[str, Any]]:
        facts: list[tuple[str, Any]] = [("Status", state_cell(row, self.state.theme))]
        if not row.readable:
            return facts
        parameters = ", ".join(f"{k} {v}" for k, v in row.parameters.items() if v not in ("", -1))
        problem = self.store.cohort_problem(row.run)
        cohort = cohort_title(row.cohort, row.phantom)
        facts += [
            ("Folder", _CODE.format(row.run)),
            ("Method", row.name or row.method),
            ("Cohort", _SMALL.format(cohort, problem) if problem else cohort),
            ("Started", time_text(row.started) or "not yet"),
            ("Duration", duration_text(row.seconds) or "–"),
            ("Where", ", ".join(filter(None, (row.host, row.device))) or "–"),
            ("Budget", ", ".join(budget_text(row.budget)) or "not recorded"),
            ("Parameters", parameters or "–"),
        ]
        if row.derived:
            facts.insert(3, ("Made from", _made_from(row)))
        if row.notes:
            facts.insert(4, ("Notes", Html("<br>").join(row.notes)))
        if row.state == "failed" and (text := self._failure(row)):
            facts.insert(1, ("Failed at", text))
        if row.pretrained.verdict:
            origin = f"{row.pretrained.file}, {row.pretrained.title}"
            facts.insert(4, ("Started from", Html("{}<br><b>{}</b>").format(origin, row.pretrained.sentence)))
        return facts


def _made_from(row: RunRow) -> Html:
    """What a run was made from that was not trained from the start, in words; the runs as their folders."""
    parents = Html(", ").join(_CODE.format(name) for name in row.derived.get("parents", []))
    kind = str(row.derived.get("kind", ""))
    what = {POOLED: "the test cases of all folds, each predicted by the fold that did not train on it"}
    what |= {IMPORTED: "predictions made elsewhere, imported", EXTENDED: "a training that was taken further"}
    return Html("{}: {}" if parents else "{}").format(what.get(kind, kind), parents)
