"""The ticked runs beside each other: segmentation per region and markers, with intervals. A part of the Overview."""

from __future__ import annotations

from typing import Any

import pandas as pd
import panel as pn

from app.figures import HEADING, figure_box, figure_pane
from app.pairs import pair_figure
from app.run_picker import cohorts, gone, unequal_cohorts
from app.state import SPLITS, AppState
from app.store import Store
from workbench.contracts import ROUGH_BELOW, SEGMENTATION
from workbench.errors import WorkbenchError
from workbench.evaluation.detection import GRID_DIAGONAL, detection, penalty_text
from workbench.evaluation.metrics import Place, metric_title, shown_in
from workbench.evaluation.summaries import leading, summarise_segmentation, with_available
from workbench.labels import REGIONS
from workbench.records.index import RunRow
from workbench.records.protocol import protocol_remarks
from workbench.views.estimates import ROUGH_NOTE
from workbench.views.figures.results import forest, metric_distribution
from workbench.views.markup import lines
from workbench.views.panes import TextPane
from workbench.views.tables import cautions, found_text, headline_title


class ComparisonPanel(pn.viewable.Viewer):
    """Distribution of one metric per region, and every marker's AUC, for the runs that are compared."""

    def __init__(self, state: AppState, store: Store) -> None:
        super().__init__()
        self.state, self.store = state, store
        self._shown: Any = None
        self._found: dict[str, str] = {}
        self.title = TextPane("", margin=(4, 0, 4, 0), sizing_mode="stretch_width")
        self.metric = pn.widgets.Select(
            label="Metric",
            options={metric_title(m): m for m in shown_in(Place.DASHBOARD, SEGMENTATION)},
            width=200,
            margin=(0, 12, 0, 0),
        )
        self.split = pn.widgets.Select(label="Split", options=list(SPLITS), width=140, margin=0)
        self.region = pn.widgets.Select(label="Region of the differences", options=[], width=190, margin=(0, 0, 0, 12))
        self.pairs = figure_pane()
        self.notes = TextPane("", sizing_mode="stretch_width", margin=(6, 0, 6, 0))
        self.regions = figure_pane(margin=(0, 20, 0, 0))
        self.markers = figure_pane()
        self.layout = pn.Column(
            self.title,
            pn.FlexBox(self.metric, self.split, self.region),
            self.notes,
            figure_box(self.regions, self.markers),
            figure_box(self.pairs),
            sizing_mode="stretch_width",
            margin=0,
        )
        for widget, name in ((self.metric, "metric"), (self.split, "split")):
            if getattr(state, name) in widget.values:
                widget.value = getattr(state, name)
            widget.param.watch(lambda event, name=name: setattr(state, name, event.new), "value")
        self.region.param.watch(lambda event: state.param.update(region=event.new or state.region), "value")
        state.param.watch(self._follow, ["runs", "metric", "split", "region"])

    def __panel__(self) -> Any:
        return self.layout

    def _follow(self, *_: object) -> None:
        if self.state.metric in self.metric.values:
            self.metric.value = self.state.metric
        self.split.value = self.state.split
        self.refresh()

    def refresh(self) -> None:
        """Bring the figures up to date; nothing is drawn anew while nothing changed."""
        rows, chosen = self.store.compared(self.state.runs)
        state = self.state
        stamps = [
            (row.run, self.store.stamp(row.run, "metrics.parquet"), self.store.stamp(row.run, "markers.parquet")) for row in rows
        ]
        shown = (stamps, chosen, tuple(state.runs), state.metric, state.split, state.region, state.theme)
        if shown == self._shown:
            return
        self._shown = shown
        self.layout.visible = bool(rows) or bool(state.runs)
        heading = (
            "Comparison of the ticked runs"
            if chosen
            else "Latest completed run of each method (tick runs above to compare others)"
        )
        self.title.object = HEADING.format(heading)
        notes = self._notes(rows)
        tables, problems = self._tables(rows)
        with pn.io.hold():
            self._draw_regions(rows, tables, notes)
            self._draw_markers(rows, notes, problems)
            notes += self._draw_pairs(rows, tables)
            found = [f"{title}: {text}" for title, text in self._found.items() if text]
            self.notes.object = lines([*notes, *found, *problems])

    def _notes(self, rows: list[RunRow]) -> list[str]:
        return [*gone(self.state, self.store), *unequal_cohorts(rows), *protocol_remarks(rows), *cautions(rows)]

    def _tables(self, rows: list[RunRow]) -> tuple[dict[str, pd.DataFrame], list[str]]:
        tables, problems, self._found = {}, [], {}
        for row in rows:
            try:
                metrics = self.store.metrics(row.run)
            except (WorkbenchError, OSError) as error:
                problems.append(f"{row.title}: {error}")
                continue
            if metrics is not None:
                metrics = metrics[metrics["split"] == self.state.split]
                dice = metrics[metrics["metric"] == "dice"]
                metrics = metrics[metrics["metric"] == self.state.metric]
                if len(metrics):
                    tables[row.title] = with_available(metrics)
                    self._found |= {row.title: found_text(detection(with_available(dice)))} if len(dice) else {}
        return tables, problems

    def _draw_regions(self, rows: list[RunRow], tables: dict[str, pd.DataFrame], notes: list[str]) -> None:
        if not tables:
            self.regions.object = None
            if rows:
                notes.append(f"None of these runs has segmentation results on the {self.state.split} split.")
            return
        summaries = {title: leading(summarise_segmentation(table)) for title, table in tables.items()}
        # one split and one metric each: a row per region
        found = {region for table in tables.values() for region in table["region"]}
        regions = [region for region in REGIONS if region in found]
        if any(table["n_subjects"].min() < ROUGH_BELOW for table in summaries.values()):
            notes.append(ROUGH_NOTE)
        notes += [penalty_text(self.state.metric, GRID_DIAGONAL)] * bool(penalty_text(self.state.metric, GRID_DIAGONAL))
        counts = ", ".join(f"{title} n = {table['case'].nunique()}" for title, table in tables.items())
        self.regions.object = metric_distribution(
            tables,
            summaries,
            metric=self.state.metric,
            regions=regions,
            subtitle=f"{cohorts(rows)}, {self.state.split} split; {counts}",
            name=self.state.theme,
            width=600,
            height=300,
            order=[row.title for row in rows],
        )

    def _draw_pairs(self, rows: list[RunRow], tables: dict[str, pd.DataFrame]) -> list[str]:
        """Differences of every two runs on the same subjects, of the region that is chosen; returns which pairs are refused."""
        found = {region for table in tables.values() for region in table["region"]}
        regions = [region for region in REGIONS if region in found] + sorted(found - set(REGIONS))
        shown = [row for row in rows if row.title in tables]
        region = self.state.region if self.state.region in regions else next(iter(regions), "")
        self.region.param.update(options=regions, value=region or None, visible=len(shown) > 1)
        style = {"subtitle": f"{cohorts(rows)}, {self.state.split} split", "name": self.state.theme}
        judged = f"{self.state.metric}:{region}"
        figure, notes = pair_figure(self.store, shown, judged, self.state.split, **style)
        self.pairs.object = figure
        return notes

    def _draw_markers(self, rows: list[RunRow], notes: list[str], problems: list[str]) -> None:
        lines = []
        for row in rows:
            numbers = self.store.headline(row.run, split=self.state.split) or {}
            for key, interval in numbers.items():
                if key.startswith("auc "):
                    line = {
                        "marker": key,
                        "label": headline_title(key).removeprefix("AUC "),
                        "series": row.title,
                        "n": interval.n,
                    }
                    line |= {"value": interval.value, "low": interval.low, "high": interval.high, "rough": interval.rough}
                    lines.append(line)
        if not lines:
            self.markers.object = None
            return
        table = pd.DataFrame(lines)
        if table["value"].isna().any():
            notes.append("Not estimable: fewer than 10 subjects of one class; see the page Curves for the counts.")
        order = {key: place for place, key in enumerate(table["marker"].unique())}
        table = table.assign(place=table["marker"].map(order)).sort_values(["place"], kind="stable")
        self.markers.object = forest(
            table.drop(columns="marker"),
            title="AUC per marker with 95 % interval",
            xlabel="AUC",
            subtitle=f"{cohorts(rows)}, {self.state.split} split",
            reference=0.5,
            name=self.state.theme,
            width=400,
            order=[row.title for row in rows],
        )
