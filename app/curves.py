"""Curves: how well a marker is predicted, by the runs that are compared, and what a threshold does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import panel as pn

from app.figures import figure_box, figure_pane
from app.pairs import pair_figure
from app.run_picker import RunPicker, cohorts, gone, unequal_cohorts
from app.state import SPLITS, AppState, Binding
from app.store import Store
from workbench.cohort.phantom.posterior import best_possible
from workbench.contracts import MARKER_POSITIVE, MARKERS
from workbench.errors import WorkbenchError
from workbench.evaluation.intervals import MIN_PER_CLASS
from workbench.evaluation.markers import make_sample, marker_metrics, sample_of
from workbench.evaluation.summaries import with_available
from workbench.evaluation.thresholds import ALL_FOLDS, validation_thresholds, youden_threshold
from workbench.records.index import RunRow
from workbench.views.figures.curves import (
    BEST_REMARK,
    BEST_TITLE,
    CurveData,
    Mark,
    calibration_figure,
    confusion_figure,
    curve_data,
    precision_recall_figure,
    roc_figure,
)
from workbench.views.markup import Html, html_table, lines
from workbench.views.panes import TextPane
from workbench.views.tables import marker_table, marker_title

_NEGATIVE = {"idh": "wild type", "codel": "intact", "tert": "wild type", "mgmt": "unmethylated"}
_TABLE_STYLE = """
table { border-collapse: collapse; font-size: 13.5px; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--wb-line); text-align: left; color: var(--wb-text); }
th { font-weight: 600; }
"""


@dataclass(frozen=True)
class Youden:
    """A run's Youden threshold, from its validation cases."""

    threshold: float
    note: str


class CurvesPage(pn.viewable.Viewer):
    """ROC, precision-recall and calibration of one marker; confusion matrices and metrics at the threshold.

    Args:
        state: marker, split, threshold and runs are followed and written.
        store: where runs are read from.
    """

    def __init__(self, state: AppState, store: Store) -> None:
        super().__init__()
        self.state, self.store = state, store
        self._shown: Any = None
        self._first_youden = float("nan")
        self.runs = RunPicker(state, store)
        self.marker = pn.widgets.Select(label="Marker", options={}, width=260, margin=(0, 16, 0, 0))
        self.split = pn.widgets.Select(label="Split", options=list(SPLITS), value=state.split, width=130, margin=(0, 16, 0, 0))
        self.threshold = pn.widgets.FloatSlider(
            label="Threshold: positive from this probability on",
            start=0,
            end=1,
            step=0.01,
            value=state.threshold,
            width=300,
            margin=(0, 12, 0, 0),
        )
        self.use_youden = pn.widgets.Button(label="Use the Youden threshold", margin=(18, 0, 0, 0), height=32)
        self.notes = TextPane("", sizing_mode="stretch_width", margin=(8, 0, 8, 0), styles={"font-size": "13.5px"})
        self.roc = figure_pane(margin=(0, 12, 0, 0))
        self.recall = figure_pane(margin=(0, 12, 0, 0))
        self.calibration = figure_pane()
        self.pairs = figure_pane()
        self.confusion = figure_box()
        self.table = TextPane("", stylesheets=[_TABLE_STYLE], margin=(8, 0, 0, 0), sizing_mode="stretch_width")
        self.figures = pn.Column(
            figure_box(self.roc, self.recall, self.calibration),
            figure_box(self.pairs),
            self.confusion,
            self.table,
            sizing_mode="stretch_width",
            margin=0,
        )
        self.layout = pn.Column(
            pn.FlexBox(self.marker, self.split, self.runs.widget, self.threshold, self.use_youden, align_items="flex-start"),
            self.notes,
            self.figures,
            sizing_mode="stretch_width",
            margin=0,
        )
        self._binding = Binding(state, marker=self.marker, split=self.split)
        self.threshold.param.watch(lambda event: self._binding.write("threshold", round(event.new, 4)), "value_throttled")
        self.use_youden.on_click(self._to_youden)
        state.param.watch(self.refresh, ["runs", "marker", "split", "threshold", "page"])
        self.refresh()

    def __panel__(self) -> Any:
        return self.layout

    # -- what is shown -----------------------------------------------------------------------------------------------

    def refresh(self, *_: object) -> None:
        """Bring widgets and figures in line with the state and the run folders; draws only what changed."""
        if self.state.page != "curves":
            return
        rows = self.runs.rows()
        tables, problems = self._markers(rows)
        options = marker_options(pd.concat(tables.values()) if tables else None)
        self._follow(options)
        chosen = self.state.marker if self.state.marker in options.values() else next(iter(options.values()), "")
        stamps = tuple((row.run, self.store.stamp(row.run, "markers.parquet")) for row in rows)
        shown = (stamps, chosen, self.state.split, self.state.threshold, self.state.theme, tuple(self.state.runs))
        if shown == self._shown:
            return
        self._shown = shown
        notes = problems + gone(self.state, self.store)
        if not options:
            self._show_nothing(rows, notes)
            return
        if self.state.marker and self.state.marker != chosen:
            notes.append(f"None of these runs predicts '{self.state.marker}'; showing {chosen}.")
        self._draw(rows, tables, chosen, notes)

    def _markers(self, rows: list[RunRow]) -> tuple[dict[str, pd.DataFrame], list[str]]:
        tables, problems = {}, []
        for row in rows:
            try:
                table = self.store.markers(row.run)
            except (WorkbenchError, OSError) as error:
                problems.append(f"{row.title}: {error}")
                continue
            if table is not None and len(table):
                tables[row.run] = table
        return tables, problems

    def _follow(self, options: dict[str, str]) -> None:
        """Set the widgets from the state without writing back."""
        state = self.state
        self.runs.follow()
        with self._binding.following():
            self.marker.param.update(options=options, value=state.marker if state.marker in options.values() else None)
            if options and state.marker not in options.values():
                self.marker.value = next(iter(options.values()))
            self.split.value = state.split
            self.threshold.value = state.threshold

    def _show_nothing(self, rows: list[RunRow], notes: list[str]) -> None:
        if rows:
            methods = ", ".join(dict.fromkeys(row.title for row in rows))
            notes = [
                *notes,
                f"No marker predictions in {methods}. Choose a run of a method that predicts markers, e.g. mts_unet.",
            ]
        else:
            notes = [*notes, "No completed run yet: `workbench run mts_unet --cohort ...` makes one; the Overview lists them."]
        self.figures.visible = self.use_youden.visible = False
        self._say(notes)

    def _draw(self, rows: list[RunRow], tables: dict[str, pd.DataFrame], chosen: str, notes: list[str]) -> None:
        state, marker = self.state, chosen.partition(":")[0]
        runs, marks, youdens, used = [], {}, [], []
        titles = curve_titles(rows)
        for row in rows:
            data = self._data(row, tables.get(row.run), chosen, titles[row.run], notes)
            if data is None:
                continue
            youden = self._youden(row, tables[row.run], chosen)
            notes.append(f"{data.title}: {youden.note}")
            if data.sample.pooled:
                notes.append(f"{data.title}: the ROC curve and the AUC {data.sample.pooled}.")
            marks[data.title] = [Mark(state.threshold, "threshold"), Mark(youden.threshold, "Youden point of validation")]
            runs.append(data)
            youdens.append(youden.threshold)
            used.append(row)
        if not runs:
            self.figures.visible = self.use_youden.visible = False
            self._say([*notes, f"No {state.split} cases with this marker in the runs that are compared."])
            return
        notes += unequal_cohorts(used, "curves")
        best = self._best(used, tables, chosen, notes)
        name = chosen.partition(":")[2]
        title, subtitle = marker_title(marker, name), f"{cohorts(used)}, {state.split} split"
        order = [titles[row.run] for row in rows]
        style: dict[str, Any] = {"subtitle": subtitle, "name": state.theme, "order": order}
        finite = [value for value in youdens if np.isfinite(value)]
        self._first_youden = finite[0] if finite else float("nan")
        with pn.io.hold():
            self.use_youden.visible = bool(finite)
            self.roc.object = roc_figure(runs, best=best, marks=marks, title=f"ROC, {title}", **style)
            self.recall.object = precision_recall_figure(runs, best=best, marks=marks, title="Precision and recall", **style)
            self.calibration.object = calibration_figure(runs, title="Calibration", **style)
            self.confusion[:] = [
                figure_pane(
                    confusion_figure(
                        run, state.threshold, names=class_names(marker, name), index=order.index(run.title), name=state.theme
                    ),
                    margin=(8, 16, 0, 0),
                )
                for run in runs
            ]
            self.table.object = self._table(runs, subtitle)
            notes += self._draw_pairs(used, tables, chosen, subtitle)
            self.figures.visible = True
            notes.append(
                f"On the curves: ● the threshold {state.threshold:.2f}, ★ a run's Youden threshold, from its validation cases."
            )
            if any(run.too_few for run in runs):
                notes.append(
                    f"Not estimable: fewer than {MIN_PER_CLASS} subjects of a class; the curve shows the cases there are."
                )
            self._say(notes)

    def _data(self, row: RunRow, table: pd.DataFrame | None, chosen: str, title: str, notes: list[str]) -> CurveData | None:
        split = self.state.split
        if table is None:
            notes.append(f"{row.title}: predicts no markers.")
            return None
        rows = select(table, chosen, split)
        if rows.empty:
            notes.append(f"{row.title}: no {split} cases with this marker.")
            return None
        stamp = self.store.stamp(row.run, "markers.parquet")
        try:
            return self.store.cached(("curves", row.run, chosen, split, title), stamp, lambda: curve_data(title, rows))
        except WorkbenchError as error:
            notes.append(f"{row.title}: {error}")
            return None

    def _youden(self, row: RunRow, table: pd.DataFrame, chosen: str) -> Youden:
        rows = select(table, chosen, "validation")
        nothing = "no Youden threshold, since the run has no validation cases of this marker."
        if rows.empty:
            return Youden(float("nan"), nothing)
        try:
            sample = sample_of(rows)
            cuts = validation_thresholds(rows)
        except WorkbenchError as error:
            return Youden(float("nan"), f"no Youden threshold: {error}")
        if rows["fold"].nunique() > 1:  # one point on the pooled curve would be no fold's decision
            found = cuts.loc[(cuts["rule"] == "youden") & (cuts["fold"] != ALL_FOLDS), "threshold"].dropna()
            nothing = "no fold has both classes among its validation cases."
            listed = f"{found.min():.2f} to {found.max():.2f}" if len(found) else nothing
            return Youden(float("nan"), f"every fold has a Youden threshold of its own, from its own validation cases: {listed}")
        threshold = youden_threshold(sample.truth, sample.probability)
        positive, n = int(sample.truth.sum()), int(sample.truth.size)
        if not np.isfinite(threshold):
            return Youden(threshold, f"no Youden threshold: the {n} validation cases are all of one class.")
        text = f"Youden threshold {threshold:.2f}, chosen on {n} validation cases ({positive} positive)"
        few = f"; too few to trust it: fewer than {MIN_PER_CLASS} subjects of a class." if not sample.estimable else "."
        return Youden(threshold, text + few)

    def _best(self, rows: list[RunRow], tables: dict[str, pd.DataFrame], chosen: str, notes: list[str]) -> CurveData | None:
        """The best possible predictor on the cases of the phantom run that has the most, where its cohort is still there."""
        phantoms = [row for row in rows if row.phantom]
        if not phantoms:
            return None
        row = max(phantoms, key=lambda row: len(select(tables[row.run], chosen, self.state.split)))
        cohort = self.store.cohort(row.run)
        if cohort is None:
            notes.append(f"No best-possible curve: {self.store.cohort_problem(row.run)}")
            return None
        rows_used = select(tables[row.run], chosen, self.state.split)

        def make() -> CurveData | None:
            truth = cohort.truth
            if truth is None:
                return None
            marker, _, name = chosen.partition(":")
            probability = best_possible(truth, f"{marker}{name}", list(rows_used["case"]))
            sample = make_sample(rows_used["truth"].to_numpy(float), probability, list(rows_used["subject"]))
            return curve_data(BEST_TITLE, sample)

        try:
            key = ("best", row.run, chosen, self.state.split)
            found = self.store.cached(key, self.store.stamp(row.run, "markers.parquet"), make)
        except (WorkbenchError, OSError, ValueError) as error:
            notes.append(f"No best-possible curve: {error}")
            return None
        if found is not None:
            notes.append(f"Dashed: the best possible from the phantom's known truth, image only. {BEST_REMARK}")
        return found

    def _draw_pairs(self, rows: list[RunRow], tables: dict[str, pd.DataFrame], chosen: str, subtitle: str) -> list[str]:
        """AUC of every two runs on the same subjects; returns which pairs are refused."""
        marker, _, name = chosen.partition(":")
        first = tables[rows[0].run]
        of = f"{marker}:{name or first.loc[first['marker'] == marker, 'class'].iloc[0]}"
        style = {"subtitle": subtitle, "name": self.state.theme}
        figure, notes = pair_figure(self.store, rows, f"auc:{of}", self.state.split, **style)
        self.pairs.object = figure
        return notes

    def _table(self, runs: list[CurveData], subtitle: str) -> Html:
        metrics = {run.title: marker_metrics(run.sample, threshold=self.state.threshold) for run in runs}
        table = marker_table(metrics)
        return Html(
            '<div style="font-weight:650;font-size:15px;margin:6px 0">'
            "Metrics at threshold {:.2f} with 95 % intervals over subjects ({})</div>"
            '<div style="font-size:13px;margin:0 0 6px 0">Calibration: slope 1 and intercept 0 are right. An ECE is above 0 by '
            "chance alone; what counts is how far it is beyond that of a calibrated model.</div>"
            '<div style="overflow-x:auto">{}</div>'
        ).format(self.state.threshold, subtitle, html_table(table.columns, table.to_numpy()))

    def _say(self, notes: list[str]) -> None:
        self.notes.object = lines(dict.fromkeys(notes), Html("<div>{}</div>"))

    def _to_youden(self, *_: object) -> None:
        if np.isfinite(self._first_youden):
            self.state.threshold = round(self._first_youden, 4)


def curve_titles(rows: list[RunRow]) -> dict[str, str]:
    """Run -> its title in legends; a long name (pooled folds, imported predictions) goes without the id where no other has it."""
    names = [row.name for row in rows]
    return {row.run: row.name if row.derived and names.count(row.name) == 1 else row.title for row in rows}


def marker_options(markers: pd.DataFrame | None) -> dict[str, str]:
    """Title -> key of every marker and class that some run predicts; the key is 'idh', or 'grade:4' with several classes."""
    if markers is None or markers.empty:
        return {}
    pairs = markers[["marker", "class"]].drop_duplicates().astype(str)
    order = {name: index for index, name in enumerate(MARKERS)}
    found = sorted(pairs.itertuples(index=False, name=None), key=lambda pair: (order.get(pair[0], len(order)), pair[1]))
    return {marker_title(m, c): f"{m}:{c}" if m == "grade" else m for m, c in found}


def select(markers: pd.DataFrame, key: str, split: str) -> pd.DataFrame:
    """The rows of one marker class and split, each case with all its modalities."""
    marker, _, name = key.partition(":")
    rows = markers[(markers["marker"] == marker) & (markers["split"] == split)]
    if name:
        rows = rows[rows["class"] == name]
    return with_available(rows)


def class_names(marker: str, name: str) -> tuple[str, str]:
    """Names of class 0 and class 1, for a confusion matrix."""
    if marker == "grade":
        return f"not {name}", f"grade {name}"
    return _NEGATIVE.get(marker, "negative"), MARKER_POSITIVE.get(marker, "positive")
