"""Any two or more runs, each pair compared on the same subjects or refused with the reason; one family over all pairs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from workbench.errors import ParameterError
from workbench.evaluation.ablation import Cell, Deltas, ablation_deltas
from workbench.evaluation.comparison import corrected
from workbench.evaluation.detection import GRID_DIAGONAL, require_penalty
from workbench.evaluation.intervals import RESAMPLES
from workbench.evaluation.thresholds import ALL_FOLDS

_REFUSED = {"block": "", "cells": 0, "planned": 1, "seeds": 0, "folds": 0, "remark": ""}


def pair_title(first: str, second: str) -> str:
    """What a pair is called: the difference is the first minus the second."""
    return f"{first} − {second}"


def pairwise_deltas(
    runs: Sequence[Cell],
    *,
    split: str = "test",
    outcomes: Sequence[str] = (),
    penalty: str = GRID_DIAGONAL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Deltas:
    """Paired differences of every two runs, first minus second, in the order of `itertools.combinations`.

    Args:
        runs: one per run, `arm` its title (unique); block, fold and seed are not looked at. Where a run of the pair pools
            folds, an AUC compares cases within a fold, as in `evaluation.ablation`: cases that one model scored in each run.
        split: test, external, or, of runs of one fold, validation.
        outcomes: metrics of the family, as of `ablation_deltas`.
        penalty: what a distance to nothing counts as, of `detection.PENALTIES`.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.

    Returns:
        As `ablation_deltas`; `arm` is the pair's title, block is empty, p_holm is over all pairs and outcomes. A pair that is
        refused (other subjects, other truths, another cohort, no outcome in common) stands in `arms` with the reason.
    """
    require_penalty(penalty)
    tables, arms = [], []
    for first, second in itertools.combinations(runs, 2):
        title, cells = pair_title(first.arm, second.arm), _by_fold(first, second, split)
        try:
            found = ablation_deltas(
                cells, reference="second", split=split, outcomes=outcomes, penalty=penalty, resamples=resamples, seed=seed
            )  # fmt: skip
        except ParameterError as error:  # validation cases of pooled folds
            arms.append(pd.DataFrame([_REFUSED | {"arm": title, "refused": str(error)}]))
            continue
        tables.append(found.table.assign(block="", arm=title))
        arms.append(found.arms.assign(block="", arm=title))
    if not arms:
        return ablation_deltas([])
    tables = tables or [ablation_deltas([]).table]
    table = pd.concat([part for part in tables if len(part)] or tables[:1], ignore_index=True)
    return Deltas(corrected(table), pd.concat(arms, ignore_index=True), split, "the second run", penalty)


def _by_fold(first: Cell, second: Cell, split: str) -> list[Cell]:
    """One cell a side; where a run pools folds, one for each group of cases that a single model of each run scored."""
    folds = [of for run in (first, second) if len(set((of := _folds(run, split)).values())) > 1]
    if not folds:
        return [replace(run, block="", arm=side, fold=0, seed=0) for run, side in ((first, "first"), (second, "second"))]
    models = {case: tuple(of.get(case, ALL_FOLDS) for of in folds) for of in folds for case in of}
    number_of = {scored_by: number for number, scored_by in enumerate(sorted(set(models.values())))}
    group = {case: number_of[scored_by] for case, scored_by in models.items()}

    def part(table: pd.DataFrame | None, number: int) -> pd.DataFrame | None:
        return None if table is None else table[table["case"].map(group).fillna(0) == number]  # others' cases are refused later

    return [
        replace(run, block="", arm=side, fold=n, seed=0, metrics=part(run.metrics, n), markers=part(run.markers, n))
        for run, side in ((first, "first"), (second, "second"))
        for n in number_of.values()
    ]


def _folds(run: Cell, split: str) -> dict[str, int]:
    """Case -> fold whose model scored it."""
    tables = [table[table["split"] == split] for table in (run.metrics, run.markers) if table is not None and "fold" in table]
    return {case: int(fold) for table in tables for case, fold in zip(table["case"], table["fold"], strict=True)}
