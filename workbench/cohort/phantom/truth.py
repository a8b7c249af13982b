"""The truth of a phantom cohort as a table, and the best scores it allows. Needs no image: thousands of rows take a second."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd
from sklearn.metrics import brier_score_loss, roc_auc_score

from workbench.cohort.phantom.classes import Subject, draw_subject
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.posterior import best_possible, posterior
from workbench.cohort.phantom.signals import MARKER_COLUMNS, deal_markers


def case_name(index: int) -> str:
    """Name of a subject's only session."""
    return f"PHANTOM-{index:05d}-000"


def make_truth(subjects: int, seed: int, signal: str, options: PhantomOptions) -> pd.DataFrame:
    """All draws and posteriors of a cohort, without making an image: one row per case.

    Marker columns are as dealt to the cohort's table; `drawn_*` are those the image was made from (they differ in the permuted
    modes only).
    """
    drawn = [draw_subject(seed, index, options, signal) for index in range(subjects)]
    truth = pd.DataFrame([_row(subject) for subject in drawn])
    for marker in MARKER_COLUMNS:
        truth[f"drawn_{marker}"] = truth[marker]
    truth[list(MARKER_COLUMNS)] = deal_markers(truth, seed, signal)
    for with_age, suffix in ((False, ""), (True, "_with_age")):
        table = posterior(truth, options, signal, with_age=with_age)
        for column in table.columns:
            truth[f"posterior_{column}{suffix}"] = table[column]
    return truth


def _row(subject: Subject) -> dict[str, Any]:
    name = case_name(subject.index)
    row = asdict(subject)
    row.pop("index")
    renamed = {"klass": "class", "volume": "volume_ml", "width": "width_mm", "ventricle": "ventricle_mm"}
    row = {renamed.get(key, key): value for key, value in row.items()}
    return {"case": name, "subject": name[:-4], **row, "idh": subject.idh, "codel": subject.codel}


def best_scores(
    truth: pd.DataFrame, marker: str, cases: pd.Series | list[str] | None = None, *, with_age: bool = False
) -> dict[str, float]:
    """AUC and Brier score of the exact posterior on these cases, for a binary marker or 'grade4'.

    On a finite sample a method can exceed them by chance. AUC is NaN where only one class occurs.
    """
    table = truth.set_index("case").loc[list(truth["case"] if cases is None else cases)]
    wanted = (table["grade"] == 4) if marker == "grade4" else table[marker]
    values = wanted.to_numpy(dtype=int)
    probability = best_possible(truth, marker, list(table.index), with_age=with_age)
    auc = float(roc_auc_score(values, probability)) if 0 < values.sum() < len(values) else float("nan")
    return {"auc": auc, "brier": float(brier_score_loss(values, probability, pos_label=1)), "n": float(len(values))}


def population_scores(
    options: PhantomOptions, signal: str, marker: str, *, with_age: bool = False, draws: int = 4000, seed: int = 0
) -> dict[str, float]:
    """The same over a large cohort that is drawn but not imaged: what an ideal reader of these phantoms scores on average."""
    return best_scores(make_truth(draws, seed, signal, options), marker, with_age=with_age)
