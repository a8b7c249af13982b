"""Robustness: how the runs that are compared do with sequences missing, subset by subset."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import panel as pn

from app.figures import figure_box, figure_pane
from app.run_picker import RunPicker, gone, unequal_cohorts
from app.state import AppState, Binding
from app.store import Store
from workbench.cohort.table import cohort_title
from workbench.contracts import JUDGED, PRETRAINING, ROUGH_BELOW
from workbench.errors import WorkbenchError
from workbench.evaluation.metrics import Better, Place, metric, shown_in
from workbench.evaluation.robustness import (
    added_sequence,
    by_number,
    by_subset,
    judgements,
    scores_of,
    subset_order,
    tolerance_of,
)
from workbench.models.catalogue import CARDS
from workbench.records.index import RunRow
from workbench.records.protocol import protocol_remarks
from workbench.records.run_folder import SUBSET_MARKERS_FILE, SUBSET_METRICS_FILE
from workbench.views.estimates import ROUGH_NOTE
from workbench.views.figures.features import feature_figure
from workbench.views.figures.results import forest
from workbench.views.figures.robustness import (
    judgement_title,
    number_figure,
    score_title,
    subset_heatmap,
    subset_title,
    unequal_cases,
)
from workbench.views.markup import lines
from workbench.views.panes import TextPane
from workbench.views.tables import cautions

HOW = "`workbench robustness RUN` judges a run that was made without it (`subsets=none`)."


class RobustnessPage(pn.viewable.Viewer):
    """Heat map over all subsets, means by number of sequences, what one more sequence does; the features of one run.

    Args:
        state: runs, split and judged are followed and written.
        store: where runs are read from.
    """

    def __init__(self, state: AppState, store: Store) -> None:
        super().__init__()
        self.state, self.store = state, store
        self._shown: Any = None
        self.runs = RunPicker(state, store)
        self.judged = pn.widgets.Select(label="Judged by", options={}, width=260, margin=(0, 16, 0, 0))
        self.split = pn.widgets.Select(label="Split", options=list(JUDGED), width=130, margin=(0, 16, 0, 0))
        self.notes = TextPane("", sizing_mode="stretch_width", margin=(8, 0, 8, 0), styles={"font-size": "13.5px"})
        self.heatmap = figure_pane(margin=(0, 20, 0, 0))
        self.number = figure_pane()
        self.added = figure_pane()
        self.features = pn.Column(sizing_mode="stretch_width", margin=(16, 0, 0, 0))
        self.layout = pn.Column(
            pn.FlexBox(self.judged, self.split, self.runs.widget, align_items="flex-start"),
            self.notes,
            figure_box(self.heatmap, self.number, self.added),
            self.features,
            sizing_mode="stretch_width",
            margin=0,
        )
        self._binding = Binding(state, judged=self.judged, split=self.split)
        state.param.watch(self.refresh, ["runs", "judged", "split", "page"])
        self.refresh()

    def __panel__(self) -> Any:
        return self.layout

    def refresh(self, *_: object) -> None:
        """Bring widgets and figures in line with the state and the run folders; draws only what changed."""
        if self.state.page != "robustness":
            return
        rows = self.runs.rows()
        tables, notes = self._tables(rows)
        options = self._options(tables)
        split = self.state.split if self.state.split in JUDGED else "test"
        judged = self.state.judged if self.state.judged in options.values() else next(iter(options.values()), "")
        self._follow(options, judged, split)
        stamps = tuple((row.run, self.store.stamp(row.run, SUBSET_MARKERS_FILE)) for row in rows)
        shown = (stamps, judged, split, self.state.theme, tuple(self.state.runs))
        if shown == self._shown:
            return
        self._shown = shown
        with pn.io.hold():
            if judged:
                notes += self._draw(rows, tables, judged, split)
            else:
                notes.append("No run was judged under subsets of its sequences yet." if rows else "There are no runs yet.")
                for pane in (self.heatmap, self.number, self.added):
                    pane.object = None
            notes += self._draw_features(rows)
            self.notes.object = lines(notes)

    # -- what there is -----------------------------------------------------------------------------------------------

    def _tables(self, rows: list[RunRow]) -> tuple[dict[str, tuple[pd.DataFrame, pd.DataFrame]], list[str]]:
        tables, notes, without = {}, [], []
        for row in rows:
            if not can_be_judged(row.method):
                continue
            try:
                metrics, markers = self.store.subsets(row.run)
            except (WorkbenchError, OSError) as error:
                notes.append(f"{row.title}: {error}")
                continue
            if metrics is None or markers is None:
                without.append(row.title)
            else:
                tables[row.run] = (metrics, markers)
        if without:
            notes.append(f"Not judged under subsets: {', '.join(without)}. {HOW}")
        return tables, notes + gone(self.state, self.store)

    def _options(self, tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> dict[str, str]:
        found = dict.fromkeys(key for metrics, markers in tables.values() for key in judgements(metrics, markers))
        return {judgement_title(key): key for key in found}

    def _follow(self, options: dict[str, str], judged: str, split: str) -> None:
        self.runs.follow()
        with self._binding.following():
            self.judged.param.update(options=options, value=judged or None)
            self.split.value = split

    # -- what is drawn -----------------------------------------------------------------------------------------------

    def _draw(
        self, rows: list[RunRow], tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]], judged: str, split: str
    ) -> list[str]:
        """Draw; returns what belongs beside it."""
        titles = unique_titles([row for row in rows if row.run in tables])
        found = {
            run: table.assign(column=titles[run]) for run in tables if len(table := self._judged(run, tables[run], judged, split))
        }
        if not found:
            for pane in (self.heatmap, self.number, self.added):
                pane.object = None
            return [f"Nothing of the {split} split was judged by {judgement_title(judged)}."]
        shown = [row for row in rows if row.run in found]
        everything = pd.concat(found.values(), ignore_index=True)
        columns = [titles[row.run] for row in shown]
        heading = f"{judgement_title(judged)}, every subset"
        if len(shown) == 1:  # room for all that this one run is judged by in the same unit
            kinds = [key for key in judgements(*tables[shown[0].run]) if same_unit(key, judged)]
            columns = [judgement_title(key) for key in kinds]
            parts = [
                self._judged(shown[0].run, tables[shown[0].run], key, split).assign(column=judgement_title(key)) for key in kinds
            ]
            everything, heading = pd.concat(parts, ignore_index=True), f"{titles[shown[0].run]}, every subset"
        cohorts = dict.fromkeys(cohort_title(row.cohort, row.phantom) for row in shown)
        subtitle = f"{', '.join(cohorts)}, {split} split, n up to {int(everything['n'].max())}"
        self._draw_heatmap(everything, columns, judged, heading, subtitle)
        order = [titles.get(row.run, row.run) for row in rows]  # a run has its colour of the other pages
        self._draw_numbers({titles[row.run]: tables[row.run] for row in shown}, judged, split, subtitle, order)
        cases = unequal_cases({titles[row.run]: tables[row.run] for row in shown}, split)
        few = [ROUGH_NOTE] if everything["n_subjects"].min() < ROUGH_BELOW else []
        remarks = [*few, *unequal_cohorts(shown), *protocol_remarks(shown)]
        return [*remarks, *([cases] if cases else []), *cautions(shown)]

    def _judged(self, run: str, tables: tuple[pd.DataFrame, pd.DataFrame], judged: str, split: str) -> pd.DataFrame:
        stamp = self.store.stamp(run, SUBSET_METRICS_FILE)
        return self.store.cached(("subsets", run, judged, split), stamp, partial(by_subset, *tables, judged, split))

    def _draw_heatmap(self, table: pd.DataFrame, columns: list[str], judged: str, heading: str, subtitle: str) -> None:
        entry = metric(judged.split(":")[0])
        limits = entry.limits if entry.bounded else (float(table["value"].min()), float(table["value"].max()))
        order = subset_order(table["present"], modality_order(table["present"]))
        figure = subset_heatmap(
            table, subsets=order, columns=columns, title=heading, subtitle=subtitle,
            limits=limits, name=self.state.theme, reverse=entry.better is Better.LOWER,
        )  # fmt: skip
        self.heatmap.object = figure

    def _draw_numbers(
        self, tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]], judged: str, split: str, subtitle: str, order: list[str]
    ) -> None:
        numbers, added = [], []
        for title, (metrics, markers) in tables.items():
            scores = scores_of(metrics, markers, judged, split)
            numbers.append(by_number(scores).assign(series=title))
            table = added_sequence(scores)
            added.append(
                table.assign(
                    series=title, value=table["harmed"], low=table["harmed_low"], high=table["harmed_high"],
                    rough=table["n_subjects"] < ROUGH_BELOW,
                    label=[subset_title(a) if a != "any" else "any sequence" for a in table["added"]],
                )
            )  # fmt: skip
        name = score_title(judged)
        number = number_figure(
            pd.concat(numbers), title="Mean by number of sequences", ylabel=name, subtitle=subtitle,
            name=self.state.theme, order=order,
        )  # fmt: skip
        self.number.object = number
        worse = pd.concat(added).sort_values("label", kind="stable")
        figure = forest(
            worse, title="Where one more sequence hurts",
            xlabel=f"share of pairs of subsets worse by more than {tolerance_of(judged.split(':')[0]):g}",
            subtitle=subtitle, xlim=(0.0, 1.0), name=self.state.theme, order=order,
        ) if len(worse) else None  # fmt: skip
        self.added.object = figure

    def _draw_features(self, rows: list[RunRow]) -> list[str]:
        """Of the first run that has features: a picture of two linked plots is enough at a time. Returns which cannot be read."""
        notes = []
        for row in rows:
            try:
                figure = feature_figure(self.store.run(row.run).folder, name=self.state.theme)
            except (WorkbenchError, OSError, ValueError, KeyError) as error:
                notes.append(f"{row.title}: the table of features cannot be drawn: {error}")
                continue
            if figure is not None:
                self.features[:] = [figure_box(figure_pane(figure))]
                return notes
        self.features[:] = []
        return notes


def can_be_judged(method: str) -> bool:
    """Whether a method reads images of test cases: pretraining predicts none, radiomics has no network. An unknown one may."""
    entry = CARDS.get(method)
    return entry is None or (entry.network and PRETRAINING not in entry.tasks)


def same_unit(key: str, other: str) -> bool:
    """Whether two of `judgements` can share a scale from 0 to 1, or are the same metric."""
    kinds = {key.split(":")[0], other.split(":")[0]}
    return len(kinds) == 1 or kinds <= set(shown_in(Place.SUBSETS))


def modality_order(present: pd.Series) -> list[str]:
    """The sequences in the order in which subsets name them: the longest subsets come first."""
    order: dict[str, None] = {}
    for text in sorted(set(present), key=lambda item: -item.count("+")):
        order |= dict.fromkeys(text.split("+"))
    return list(order)


def unique_titles(rows: list[RunRow]) -> dict[str, str]:
    """Run -> the method's name, with the run id where a method stands there twice."""
    names = [row.name or row.method for row in rows]
    return {row.run: name if names.count(name) == 1 else row.title for row, name in zip(rows, names, strict=True)}
