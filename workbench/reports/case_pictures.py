"""Cases as pictures in a notebook: the worst and the best, and what the method attends to."""

from __future__ import annotations

import pandas as pd
from IPython.display import display

from workbench.records.run_folder import ATTRIBUTION_FILE
from workbench.reports.run_report import picture
from workbench.reports.sentences import sentences
from workbench.setup.run_setup import RunSetup
from workbench.steps.explanation import explained_cases
from workbench.views.cases.map_stills import map_figure
from workbench.views.cases.map_tables import attribution_table, read_map_table
from workbench.views.cases.stills import figure_of
from workbench.views.cases.view import open_case


def ranked_cases(metrics: pd.DataFrame, split: str) -> pd.Series:
    """Mean Dice over a case's regions that are not empty, worst first."""
    rows = metrics[(metrics["split"] == split) & (metrics["metric"] == "dice") & (metrics["n_truth"] > 0)]
    return rows.groupby("case")["value"].mean().sort_values(kind="stable")


def case_pictures(setup: RunSetup, *, worst: int, best: int, split: str) -> None:
    """Display the worst and best cases of a split, a row of sequences each."""
    metrics = setup.run.metrics()
    ranks = ranked_cases(metrics, split) if metrics is not None else pd.Series(dtype=float)
    if metrics is None or ranks.empty:
        display(sentences(f"*No {split} case has both truth and prediction.*"))
        return
    worst = min(worst, max(1, len(ranks) // 2))  # of few cases, none is both
    best = min(best, len(ranks) - worst)
    chosen = dict.fromkeys(ranks.index[:worst], "worst") | dict.fromkeys(ranks.index[len(ranks) - best :], "best")
    for case, kind in chosen.items():
        rows = metrics[(metrics["case"] == case) & (metrics["metric"] == "dice")]
        scores = {f"Dice {row['region']}": float(row["value"]) for _, row in rows.iterrows()}
        view = open_case(setup.cohort, str(case), setup.run.folder)
        display(sentences(f"**{kind}**: mean Dice {ranks[case]:.2f} over the regions that the case has"))
        display(picture(setup.run, f"case_{kind}_{case}", figure_of(view, metrics=scores)))


def map_pictures(setup: RunSetup) -> pd.DataFrame | None:
    """Display the maps of each explained case; the table is the mean share of each map inside the regions, beside chance."""
    for case in explained_cases(setup):
        view = open_case(setup.cohort, case, setup.run.folder)
        if view.maps:
            display(picture(setup.run, f"maps_{case}", map_figure(view)))
    table = attribution_table(read_map_table(setup.run.folder / ATTRIBUTION_FILE))
    return None if table.empty else table
