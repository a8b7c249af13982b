"""Any two or more runs, each pair compared on the same subjects or refused with the reason; one family over all pairs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from workbench.evaluation.ablation import OUTCOMES, Cell, Deltas, ablation_deltas
from workbench.evaluation.comparison import holm
from workbench.evaluation.intervals import RESAMPLES


def pair_title(first: str, second: str) -> str:
    """What a pair is called: the difference is the first minus the second."""
    return f"{first} − {second}"


def pairwise_deltas(
    runs: Sequence[Cell], *, split: str = "test", outcomes: Sequence[str] = OUTCOMES, resamples: int = RESAMPLES, seed: int = 0
) -> Deltas:
    """Paired differences of every two runs, first minus second, in the order of `itertools.combinations`.

    Args:
        runs: one per run, `arm` its title (unique); block, fold and seed are not looked at. Where both tables of a pair pool
            the same folds, an AUC compares cases within a fold, as in `evaluation.ablation`.
        split: test, external, or, of runs of one fold, validation.
        outcomes: metrics of the family.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        As `ablation_deltas`; `arm` is the pair's title, block is empty, p_holm is over all pairs and outcomes. A pair that is
        refused (other subjects, other truths, another cohort, no outcome in common) stands in `arms` with the reason.
    """
    tables, arms = [], []
    for first, second in itertools.combinations(runs, 2):
        cells = _by_fold(first, second)
        found = ablation_deltas(
            cells, reference="second", split=split, outcomes=outcomes, resamples=resamples, seed=seed
        )  # fmt: skip
        title = pair_title(first.arm, second.arm)
        tables.append(found.table.assign(block="", arm=title))
        arms.append(found.arms.assign(block="", arm=title))
    if not tables:
        return ablation_deltas([])
    table = pd.concat([part for part in tables if len(part)] or tables[:1], ignore_index=True)
    table = table.assign(p_holm=holm(table["p"].to_numpy(np.float64)))
    return Deltas(table, pd.concat(arms, ignore_index=True), split, "the second run")


def _by_fold(first: Cell, second: Cell) -> list[Cell]:
    """One cell a side; one per fold and side where both pool the same folds."""
    folds = _folds(first)
    if len(folds) < 2 or folds != _folds(second):
        return [replace(run, block="", arm=side, fold=0, seed=0) for run, side in ((first, "first"), (second, "second"))]

    def part(table: pd.DataFrame | None, fold: int) -> pd.DataFrame | None:
        return None if table is None else table[table["fold"] == fold]

    return [
        replace(run, block="", arm=side, fold=fold, seed=0, metrics=part(run.metrics, fold), markers=part(run.markers, fold))
        for run, side in ((first, "first"), (second, "second"))
        for fold in folds
    ]


def _folds(run: Cell) -> list[int]:
    tables = [table for table in (run.metrics, run.markers) if table is not None and "fold" in table]
    return sorted({int(fold) for table in tables for fold in table["fold"].unique()})
