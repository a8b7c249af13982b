"""Any two or more runs compared: what `notebooks/compare.ipynb` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown

from workbench.cohort.table import cohort_title
from workbench.errors import ParameterError, RunError, WorkbenchError
from workbench.evaluation.ablation import Cell
from workbench.evaluation.detection import GRID_DIAGONAL
from workbench.evaluation.intervals import RESAMPLES
from workbench.evaluation.pairwise import pairwise_deltas
from workbench.evaluation.run_comparison import split_rows
from workbench.records.index import RunRow, list_runs
from workbench.records.protocol import protocol_remarks
from workbench.records.run_folder import RunFolder
from workbench.reports.ablation_review import Gallery, parse_outcomes, unbroken
from workbench.reports.sentences import sentences
from workbench.views.ablation_tables import delta_notes, delta_table, outcome_options, shift_table
from workbench.views.figures.curve_stills import overlay_still
from workbench.views.figures.forest import ORDERS, forest_rows
from workbench.views.figures.forest_stills import forest_still
from workbench.views.tables import cautions, marker_title

MOST = 8
"""Runs that are compared at once: 28 pairs."""


class CompareReview:
    """Completed runs, each pair on the same subjects.

    Args:
        runs: folder of all runs.
        chosen: runs with commas: 'experiment/run id', or as many letters of a run id as name one; empty = the newest completed
            run of each method.
        experiment: only runs of this group.
        split: test, external or validation.
        outcomes: metrics of the family of Holm's correction, with commas; empty = all.
        penalty: what a distance to nothing counts as, of `evaluation.detection.PENALTIES`.
        resamples: bootstrap resamples.

    Raises:
        RunError: a chosen run is not there, is not the only one of that name, or is not completed; or more than `MOST`.
        ParameterError: a split or metric that there is not.
    """

    def __init__(
        self, runs: str | Path = "runs", chosen: str = "", *, experiment: str = "", split: str = "test", outcomes: str = "",
        penalty: str = GRID_DIAGONAL, resamples: int = RESAMPLES,
    ) -> None:  # fmt: skip
        self.outcomes, self.split = parse_outcomes(outcomes), split
        every = [row for row in list_runs(runs) if experiment in ("", row.experiment)]
        names = [name.strip() for name in chosen.split(",") if name.strip()]
        self.rows = [_find(every, name) for name in names] if names else _latest(every)
        if len(self.rows) > MOST:
            raise RunError(f"{len(self.rows)} runs are {len(self.rows) * (len(self.rows) - 1) // 2} pairs: choose {MOST} at most")
        names = [row.name or row.method for row in self.rows]
        unique = {row.run: name if names.count(name) == 1 else row.title for row, name in zip(self.rows, names, strict=True)}
        self.titles = unique
        self.markers: dict[str, pd.DataFrame] = {}
        self.problems: list[str] = []
        cells = [cell for row in self.rows if (cell := self._cell(Path(runs), row)) is not None]
        self.deltas = pairwise_deltas(cells, split=split, outcomes=self.outcomes, penalty=penalty, resamples=resamples)
        self.cohort = ", ".join(dict.fromkeys(cohort_title(row.cohort, row.phantom) for row in self.rows))
        self._resamples = resamples

    def __repr__(self) -> str:
        return f"CompareReview({len(self.rows)} runs on {self.cohort or 'no cohort'}, {self.split} split)"

    def _cell(self, root: Path, row: RunRow) -> Cell | None:
        try:
            run = RunFolder.open(root / row.run)
            metrics, markers = run.metrics(), run.markers()
        except (WorkbenchError, OSError) as error:
            self.problems.append(f"{row.title}: {error}")
            return None
        title, samples = self.titles[row.run], row.budget.get("samples")
        if markers is not None and len(markers):
            self.markers[title] = split_rows(markers, self.split)
        spent = float(samples) if isinstance(samples, int | float) else None
        return Cell("", title, 0, 0, row.run, metrics, markers, row.fingerprint, spent, row.pretrained.caution)

    def overview(self) -> Any:
        """The runs, and what belongs beside them: unequal effort, weights that saw the test subjects, pairs that are refused."""
        if len(self.rows) < 2:
            there = f"only {self.rows[0].run}" if self.rows else "none"
            return sentences(
                f"*Comparing needs two completed runs, there is {there}: `workbench run unet -p size=demo` makes one.*"
            )
        lines = [f"{self.titles[row.run]}: {row.run}" for row in self.rows]
        notes = [*self.problems, *protocol_remarks(self.rows), *cautions(self.rows)]
        notes += [f"Refused: {line}" for line in self.deltas.refused]
        return sentences(f"**{self.cohort}, {self.split} split**\n\n" + "\n".join(f"- {line}" for line in [*lines, *notes]))

    def table(self, metric: str = "dice") -> Any:
        """Differences of a metric: a row per pair, a column per region or marker."""
        if not (self.deltas.table["metric"] == metric).any():
            return self._nothing(metric)
        table = unbroken(delta_table(self.deltas, "", metric)).drop(columns="runs").rename_axis("first − second")
        table.columns.name = f"{metric}, {self.cohort}"
        return table

    def shifts(self, metric: str = "dice") -> Any:
        """Of the same differences the shift with Wilcoxon's p, and the shares of subjects in whom the first run is better."""
        table = shift_table(self.deltas, "", metric)
        if table.empty:
            return self._nothing(metric)
        return unbroken(table).rename_axis(index="first − second", columns=f"{metric}, {self.cohort}")

    def notes(self, metric: str = "dice") -> Any:
        """What must be known to read the differences."""
        return sentences("\n".join(f"- {note}" for note in delta_notes(self.deltas, metric, pairs=True)))

    def forest(self, judged: str = "dice:WT", order: str = "declared") -> Any:
        """Forest plot of all pairs: `judged` is 'dice:WT', 'auc:idh:mutant' ...; order 'declared' or 'effect'."""
        if order not in ORDERS:
            raise ParameterError(f"order '{order}' is none of {', '.join(ORDERS)}")
        metric, _, of = judged.partition(":")
        if judged not in outcome_options(self.deltas, self.outcomes).values():
            return self._nothing(judged)
        title = f"{self.cohort}, {self.split} split; filled: p (Holm, {self.deltas.family} tests) < 0.05 and 0 outside"
        rows = forest_rows(self.deltas, "", metric, of, order)
        return Gallery([forest_still(rows, metric=metric, of=of, title=title, against=self.deltas.reference)])

    def curves(self, marker: str = "idh") -> Any:
        """ROC and calibration of a marker ('idh', 'grade:4') in all runs that predict it."""
        name, _, chosen = marker.partition(":")
        found = {}
        for title, table in self.markers.items():
            rows = table[table["marker"] == name]
            rows = rows[rows["class"].astype(str) == chosen] if chosen else rows
            if rows["class"].nunique() == 1 and rows["truth"].notna().any():
                found[title] = rows
        if not found:
            return sentences(f"*None of these runs predicts {marker} on the {self.split} split.*")
        cases = {frozenset(rows.loc[rows["truth"].notna(), "case"]) for rows in found.values()}
        caution = "" if len(cases) == 1 else "\nnot the same cases: do not compare these curves"
        if any(rows["fold"].nunique() > 1 for rows in found.values()):
            caution += "\npooled folds: curves and AUC over all their models; the table counts pairs within a fold"
        shown = marker_title(name, chosen) if name == "grade" else marker_title(name, "")
        title = f"{shown}: {self.cohort}, {self.split} split{caution}"
        return Gallery([overlay_still(found, title=title, resamples=self._resamples)])

    def _nothing(self, what: str) -> Markdown:
        there = ", ".join(outcome_options(self.deltas, self.outcomes).values()) or "nothing"
        return sentences(f"*No two of these runs can be compared by {what} on the {self.split} split; there is {there}.*")


def _find(rows: list[RunRow], name: str) -> RunRow:
    """The run of this name.

    Raises:
        RunError: none, several, or one that is not completed.
    """
    found = [row for row in rows if row.run == name] or [row for row in rows if Path(row.run).name.startswith(name)]
    if len(found) != 1:
        listed = ", ".join(row.run for row in found[:6]) or "none"
        raise RunError(f"'{name}' does not name one run (it fits: {listed}); `workbench runs` lists them")
    if found[0].state != "completed":
        raise RunError(f"run {found[0].run} is {found[0].state}: only completed runs are compared")
    return found[0]


def _latest(rows: list[RunRow]) -> list[RunRow]:
    """The newest completed run of each method."""
    latest: dict[str, RunRow] = {}
    for row in rows:
        if row.state == "completed":
            latest.setdefault(row.name or row.method, row)
    return list(latest.values())[:MOST]
