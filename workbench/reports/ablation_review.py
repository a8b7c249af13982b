"""The ablation of a sweep: its cells as they stand and its paired deltas; what the command and the notebook show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from workbench.cohort.table import cohort_title
from workbench.contracts import SEGMENTATION
from workbench.errors import ParameterError
from workbench.evaluation.ablation import ablation_deltas
from workbench.evaluation.detection import GRID_DIAGONAL
from workbench.evaluation.intervals import RESAMPLES
from workbench.evaluation.metrics import Better, Place, metrics_of, shown_in
from workbench.records.sweep_cells import comparable, counts, sweep_cells
from workbench.records.sweep_plan import list_plans, read_plan
from workbench.reports.sentences import sentences
from workbench.reports.stills import still
from workbench.views.ablation_tables import (
    cell_matrix,
    completeness,
    delta_notes,
    delta_table,
    failures,
    outcome_options,
    shift_table,
)
from workbench.views.figures.forest import ORDERS, forest_rows
from workbench.views.figures.forest_stills import forest_still
from workbench.views.markup import Html
from workbench.views.markup import lines as markup_lines


class AblationReview:
    """A sweep reviewed: which of its runs are finished, and what each switch changes.

    Args:
        runs: folder of all runs.
        sweep: name of the sweep; empty = the newest.
        split: test or external.
        against: the condition that the others are compared with; empty = the baseline of an ablation, else the first condition.
        outcomes: metrics of the family of Holm's correction, with commas; empty = all that `evaluation.metrics` names.
        penalty: what a distance to nothing counts as, of `evaluation.detection.PENALTIES`.
        resamples: bootstrap resamples.

    Raises:
        RunError: there is no sweep, or none of this name.
        ParameterError: a split, condition or metric that there is not.
    """

    def __init__(
        self, runs: str | Path = "runs", sweep: str = "", *, split: str = "test", against: str = "", outcomes: str = "",
        penalty: str = GRID_DIAGONAL, resamples: int = RESAMPLES,
    ) -> None:  # fmt: skip
        name = sweep or next(iter(list_plans(runs)), "")
        self.plan = read_plan(runs, name)
        self.cells = sweep_cells(runs, self.plan)
        self.outcomes = parse_outcomes(outcomes)
        arms = list(dict.fromkeys(cell.arm for cell in self.cells))
        self.against = against or (self.plan.baseline if self.plan.ablation else next(iter(arms), ""))
        if arms and self.against not in arms:
            raise ParameterError(f"the sweep '{name}' has no condition '{self.against}'; there are: {', '.join(arms)}")
        tables, self.problems = comparable(runs, self.cells)
        self.deltas = ablation_deltas(
            tables, reference=self.against, split=split, outcomes=self.outcomes, penalty=penalty, resamples=resamples
        )
        self.cohort = cohort_title(self.plan.cohort.name, self.plan.cohort.phantom)
        self.given = f" ({self.plan.given})" if self.plan.given else ""

    def __repr__(self) -> str:
        return f"AblationReview({self.plan.name}: {completeness(self.cells)}, {self.cohort})"

    def overview(self) -> Any:
        """How many runs are finished, every cell, and why those that failed did."""
        lines = [f"**{self.plan.name}**{self.given}, {self.cohort}, {self.deltas.split} split: {completeness(self.cells)}"]
        lines += [f"- {line}" for line in [*failures(self.cells), *self.problems]]
        matrices = [
            cell_matrix([cell for cell in self.cells if cell.block == block], block=block, name="light")
            for block in self._blocks()
        ]
        text = markup_lines((_bold(line) for line in lines), Html("<p>{}</p>"))
        page = Html('<div style="background:white;padding:6px;color:black">{}{}</div>')
        return HTML(page.format(text, Html("").join(matrices)))

    def notes(self, metric: str = "dice") -> Any:
        """What must be known to read the deltas, and what was refused."""
        return sentences("\n".join(f"- {note}" for note in delta_notes(self.deltas, metric)))

    def table(self, metric: str = "dice") -> Any:
        """Deltas of a metric: a row per switch, a column per region or marker."""
        parts = {block: delta_table(self.deltas, block, metric) for block in self._blocks()}
        if not (self.deltas.table["metric"] == metric).any():
            return self._nothing(metric)
        return pd.concat({block: unbroken(part) for block, part in parts.items()}, names=["", f"{metric}, {self.cohort}"])

    def shifts(self, metric: str = "dice") -> Any:
        """Of the same differences the shift with Wilcoxon's p, and the shares of subjects that are better and worse."""
        parts = {block: shift_table(self.deltas, block, metric) for block in self._blocks()}
        parts = {block: unbroken(part) for block, part in parts.items() if len(part)}
        return pd.concat(parts, names=["", f"{metric}, {self.cohort}"]) if parts else self._nothing(metric)

    def forest(self, judged: str = "dice:WT", order: str = "declared") -> Any:
        """Forest plots, one per block: `judged` is 'dice:WT', 'auc:idh:mutant' ...; order 'declared' or 'effect'."""
        if order not in ORDERS:
            raise ParameterError(f"order '{order}' is none of {', '.join(ORDERS)}")
        metric, _, of = judged.partition(":")
        if judged not in outcome_options(self.deltas, self.outcomes).values():
            return self._nothing(judged)
        figures = []
        for block in self._blocks():
            filled = f"filled: p (Holm, {self.deltas.family} tests) < 0.05 and 0 outside"
            title = f"{block}: {self.cohort}, {self.deltas.split} split; {filled}"
            rows = forest_rows(self.deltas, block, metric, of, order)
            if len(rows):
                figures.append(forest_still(rows, metric=metric, of=of, title=title, against=self.against))
        return Gallery(figures)

    def as_document(self) -> dict[str, Any]:
        """Everything as plain values, for JSON; numbers that there are not are null."""
        table = self.deltas.table
        return {
            "sweep": self.plan.name, "cohort": self.plan.cohort.name, "phantom": self.plan.cohort.phantom,
            "split": self.deltas.split, "against": self.against, "states": counts(self.cells), "family": self.deltas.family,
            "penalty": self.deltas.penalty,
            "deltas": json.loads(table.to_json(orient="records")), "arms": json.loads(self.deltas.arms.to_json(orient="records")),
            "cells": [{"run": c.planned.run, "block": c.block, "condition": c.arm, "fold": c.planned.fold, "seed": c.planned.seed,
                       "state": c.state, "reason": c.row.reason} for c in self.cells],
            "problems": [*self.deltas.refused, *self.problems],
        }  # fmt: skip

    def _blocks(self) -> list[str]:
        return list(dict.fromkeys(cell.block for cell in self.cells))

    def _nothing(self, what: str) -> Markdown:
        there = ", ".join(outcome_options(self.deltas, self.outcomes).values())
        if not there:
            return sentences(
                f"*Nothing can be compared yet: {completeness(self.cells)}. `workbench sweep FILE` goes on with it.*"
            )
        return sentences(f"*No finished pair of runs was judged by {what} on the {self.deltas.split} split; there is {there}.*")


class Gallery:
    """Figures below each other in a notebook."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self.figures = list(figures)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for figure in self.figures:
            display(still(figure))


def unbroken(table: pd.DataFrame) -> pd.DataFrame:
    """Texts that a notebook breaks after a comma or semicolon only, not within an interval."""

    def joined(text: str) -> str:
        return text.replace(" ", "\u00a0").replace(",\u00a0", ", ").replace(";\u00a0", "; ").replace(", rough", ",\u00a0rough")

    return table.map(lambda text: joined(text) if isinstance(text, str) else text)


def _bold(line: str) -> Html:
    """Text with **bold** as HTML."""
    return Html("").join(Html("<b>{}</b>").format(part) if index % 2 else part for index, part in enumerate(line.split("**")))


def parse_outcomes(text: str) -> tuple[str, ...]:
    """Metrics with commas; empty: all outcomes.

    Raises:
        ParameterError: one that there is not.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    outcomes = shown_in(Place.OUTCOME)
    judged = [name for name, entry in metrics_of(SEGMENTATION).items() if entry.better is not Better.NEITHER]
    unknown = [name for name in names if name not in (*outcomes, *judged)]
    if unknown:
        raise ParameterError(f"'{unknown[0]}' is no outcome of an ablation; there are: {', '.join(outcomes)}")
    return names or outcomes
