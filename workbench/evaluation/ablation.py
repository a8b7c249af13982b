"""A declared factorial: what each switch changes against the baseline, paired by subject over the same folds and seeds.

The family of Holm's correction is every p value of the table: all switches, all blocks, all outcomes. A switch is estimated on
the (fold, seed) cells that both sides have; how many of how many is in the table, and what cannot be paired is refused with the
reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.contracts import JUDGED, MARKER_TASK, MARKERS
from workbench.errors import InputError, ParameterError, Problem, WorkbenchError
from workbench.evaluation.comparison import corrected, require_same_cases
from workbench.evaluation.detection import GRID_DIAGONAL, require_penalty, with_penalty
from workbench.evaluation.intervals import MIN_PER_CLASS, RESAMPLES, subject_codes
from workbench.evaluation.metrics import Place, shown_in
from workbench.evaluation.paired_tests import DELONG, SIGN_FLIPS, paired_tests
from workbench.evaluation.replicates import Scores, auc_difference, mean_difference
from workbench.evaluation.run_comparison import better_and_worse, require_same_truth, split_rows
from workbench.labels import REGIONS

BASELINE = "baseline"
COLUMNS = (
    "block", "arm", "of", "metric", "value_reference", "value", "difference", "low", "high", "p", "p_holm", "test", "too_few",
    "shift", "shift_low", "shift_high", "p_wilcoxon", "better", "worse", "n", "n_subjects", "n_positive", "n_undefined",
    "estimable", "cells", "planned", "seeds", "remark",
)  # fmt: skip
_NUMBERS = ("value_reference", "value", "difference", "low", "high", "shift", "shift_low", "shift_high", "better", "worse")
_KEY = ["fold", "seed", "case"]


@dataclass(frozen=True)
class Cell:
    """One planned run of the factorial, with its tables where it is evaluated."""

    block: str
    """What is held fixed in the comparison: the method, and the values of further crossed parameters."""
    arm: str
    """'baseline', or the name of a switch."""
    fold: int
    seed: int
    run: str = ""
    """What names the run in messages."""
    metrics: pd.DataFrame | None = None
    """Rows of its metrics.parquet."""
    markers: pd.DataFrame | None = None
    """Rows of its markers.parquet."""
    fingerprint: str = ""
    """Of the cohort it was made from."""
    samples: float | None = None
    """Training samples it took."""
    caution: str = ""
    """Why its test may not be clean, e.g. contaminated weights."""

    @property
    def evaluated(self) -> bool:
        """Whether there is anything to compare."""
        return self.metrics is not None or self.markers is not None


@dataclass(frozen=True)
class Deltas:
    """What the switches change."""

    table: pd.DataFrame
    """One row per block, arm, region or marker class, and metric; see `ablation_deltas`."""
    arms: pd.DataFrame
    """One row per block and arm: cells (that both sides have), planned, seeds, folds, remark, refused (why; empty: it is not)."""
    split: str = "test"
    reference: str = BASELINE
    penalty: str = GRID_DIAGONAL
    """What a distance to nothing counted as, of `detection.PENALTIES`."""

    @property
    def family(self) -> int:
        """Number of tests that Holm's correction is over."""
        return int(self.table["p"].notna().sum()) if len(self.table) else 0

    @property
    def refused(self) -> list[str]:
        """'block, arm: why', for each comparison that was refused."""
        rows = self.arms[self.arms["refused"] != ""]
        return [", ".join(filter(None, (r["block"], r["arm"]))) + f": {r['refused']}" for _, r in rows.iterrows()]


def ablation_deltas(
    cells: Sequence[Cell],
    *,
    reference: str = BASELINE,
    split: str = "test",
    outcomes: Sequence[str] = (),
    penalty: str = GRID_DIAGONAL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Deltas:
    """Paired deltas, arm minus reference, of every outcome within each block.

    Args:
        cells: all planned cells; those that are not evaluated count as planned.
        reference: the arm the others are compared with.
        split: test or external; within one fold also validation.
        outcomes: metrics of the family, of these what the runs have; none: those that are an OUTCOME in `evaluation.metrics`.
        penalty: what a distance to nothing counts as, of `detection.PENALTIES`.
        resamples: bootstrap resamples of subjects, and of seeds where there are several.
        seed: same seed, same intervals.

    Returns:
        `table`: block, arm, of (region, or 'marker:class'), metric, value_reference, value, difference, low, high (see
        `evaluation.replicates`), p (of that mean, over cases and seeds, by flipping the signs of the subjects' differences; of an
        AUC DeLong's, by fold; none of the Brier score), p_holm, test, too_few (see `comparison.corrected`), shift with shift_low
        and shift_high (Hodges-Lehmann, of the subjects' mean differences) and p_wilcoxon, better, worse (shares of subjects), n
        (cases), n_subjects, n_positive, n_undefined (cases without a value in one of the two), estimable, cells, planned, seeds,
        remark.

    Raises:
        ParameterError: a split that is not compared, no such penalty, or a cell that is planned twice.
    """
    if split not in JUDGED and len({cell.fold for cell in cells}) > 1:
        raise ParameterError(f"split '{split}' is not compared over folds; there are {' and '.join(JUDGED)}")
    places = [(cell.block, cell.arm, cell.fold, cell.seed) for cell in cells]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice:
        raise ParameterError(f"the cell {', '.join(map(str, twice))} (block, arm, fold, seed) is planned twice")
    outcomes = tuple(outcomes) or shown_in(Place.OUTCOME)
    require_penalty(penalty)
    cells = [_of_split(cell, split, outcomes, penalty) for cell in cells]
    rows: list[dict[str, Any]] = []
    arms: list[dict[str, Any]] = []
    for block in dict.fromkeys(cell.block for cell in cells):
        own = [cell for cell in cells if cell.block == block]
        base = {(c.fold, c.seed): c for c in own if c.arm == reference}
        for arm in dict.fromkeys(cell.arm for cell in own if cell.arm != reference):
            other = {(c.fold, c.seed): c for c in own if c.arm == arm}
            planned = base.keys() | other.keys()
            shared = sorted(key for key in base.keys() & other.keys() if base[key].evaluated and other[key].evaluated)
            pairs = [(base[key], other[key]) for key in shared]
            named = {"block": block, "arm": arm, "cells": len(shared), "planned": len(planned)}
            named |= {"seeds": len({key[1] for key in shared})}
            remark, refused, found = _remark(pairs), "", []
            try:
                if pairs:
                    _require_one_cohort(pairs)
                    found = _outcomes(pairs, outcomes, resamples, seed)
                    refused = "" if found else f"the two sides have no outcome in common on the {split} split"
            except WorkbenchError as error:
                refused = str(error)
            arms.append({**named, "folds": len({key[0] for key in shared}), "remark": remark, "refused": refused})
            rows += [{**named, **row, "remark": "; ".join(filter(None, (row["remark"], remark)))} for row in found]
    table = corrected(pd.DataFrame(rows, columns=list(COLUMNS)))[list(COLUMNS)]
    listed = pd.DataFrame(arms, columns=["block", "arm", "cells", "planned", "seeds", "folds", "remark", "refused"])
    return Deltas(table, listed, split, reference, penalty)


def join_deltas(parts: Sequence[Deltas]) -> Deltas:
    """Deltas that were computed apart, e.g. switch by switch, as one: Holm's correction is over all of them.

    Args:
        parts: at least one, of the same split and reference and with the same outcomes, resamples and seed.
    """
    table = pd.DataFrame([row for part in parts for row in part.table.to_dict("records")], columns=list(COLUMNS))
    arms = pd.concat([part.arms for part in parts], ignore_index=True)
    return Deltas(corrected(table), arms, parts[0].split, parts[0].reference, parts[0].penalty)


def _of_split(cell: Cell, split: str, outcomes: Sequence[str], penalty: str) -> Cell:
    """The cell with only the rows that are compared, each case with all it has."""
    metrics, markers = cell.metrics, cell.markers
    if metrics is not None:
        metrics = with_penalty(metrics[metrics["metric"].isin(list(outcomes))], penalty)
    if markers is not None and not set(shown_in(Place.OUTCOME, MARKER_TASK)) & set(outcomes):
        markers = markers.iloc[:0]
    return replace(
        cell,
        metrics=None if metrics is None else split_rows(metrics, split),
        markers=None if markers is None else split_rows(markers, split),
    )


def outcome_key(metric: str, of: str) -> str:
    """'dice:WT', 'auc:idh:mutant': what names an outcome in links."""
    return f"{metric}:{of}"


def _remark(pairs: list[tuple[Cell, Cell]]) -> str:
    """Unequal budgets, and weights that may have seen the test subjects."""
    remarks = []
    spent = [tuple(cell.samples for cell in pair) for pair in pairs]
    unequal = [(a, b) for a, b in spent if a is not None and b is not None and a != b]
    if unequal:
        a, b = unequal[0]
        remarks.append(f"unequal budget in {len(unequal)} of {len(pairs)} cells, e.g. {a:,.0f} and {b:,.0f} training samples")
    cautions = dict.fromkeys(cell.caution for pair in pairs for cell in pair if cell.caution)
    return "; ".join([*remarks, *cautions])


def _require_one_cohort(pairs: list[tuple[Cell, Cell]]) -> None:
    first = pairs[0][0]
    for cell in (cell for pair in pairs for cell in pair):
        if cell.fingerprint != first.fingerprint:
            raise InputError(
                Problem(
                    message=f"{first.run or 'one run'} and {cell.run or 'another'} were made from different cohorts "
                    f"(fingerprints {first.fingerprint or 'unknown'} and {cell.fingerprint or 'unknown'})",
                    remedy="compare runs of one cohort; where it has changed since a run was made, make that run again",
                )
            )


def _outcomes(pairs: list[tuple[Cell, Cell]], outcomes: Sequence[str], n: int, seed: int) -> list[dict[str, Any]]:
    both = [_stacked([pair[side] for pair in pairs], "metrics", ["region", "metric"]) for side in (0, 1)]
    rows = []
    for region, metric in _shared(both, (tuple(REGIONS), tuple(outcomes))):
        a, b = _paired(both[0][region, metric], both[1][region, metric], "n_truth", region)
        rows.append(_mean_row(region, metric, a, a["value"], b["value"], n, seed))
    both = [_stacked([pair[side] for pair in pairs], "markers", ["marker", "class"]) for side in (0, 1)]
    for marker, name in _shared(both, (MARKERS, ())):
        a, b = _paired(both[0][marker, name], both[1][marker, name], "truth", marker)
        rows += _marker_rows(f"{marker}:{name}", a, b, outcomes, n, seed)
    return rows


def _stacked(cells: list[Cell], kind: str, by: list[str]) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of all cells with their fold and seed, by region and metric or by marker and class; of known truth."""
    tables = [(cell, getattr(cell, kind)) for cell in cells]
    parts = [t.assign(fold=c.fold, seed=c.seed) for c, t in tables if t is not None and len(t)]
    parts = [known for t in parts if len(known := t[t["truth"].notna()] if "truth" in t else t)]
    if not parts:
        return {}
    whole = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(["case", "subject"], object))
    return {(str(one), str(other)): rows for (one, other), rows in whole.groupby(by, sort=False)}


def _shared(both: list[dict[tuple[str, str], pd.DataFrame]], order: tuple[tuple[str, ...], ...]) -> list[tuple[str, str]]:
    """The keys that both sides have, in the order in which tables show them."""
    places = [{name: index for index, name in enumerate(names)} for names in order]
    found = both[0].keys() & both[1].keys()
    return sorted(found, key=lambda pair: [(p.get(v, len(p)), v) for p, v in zip(places, pair, strict=True)])


def _paired(a: pd.DataFrame, b: pd.DataFrame, truth: str, what: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both sides in the same order of (fold, seed, case).

    Raises:
        InputError: cases of one side only, other truths, or folds that share some subjects but not all.
    """
    a, b = (part.set_index(_label(part)).sort_index() for part in (a, b))
    require_same_cases(a.index, b.index)
    require_same_truth(a[truth], b[truth], what)
    judged = a.groupby(["fold", "seed"])["case"].agg(frozenset).groupby("fold").nunique()
    if (judged > 1).any():
        raise InputError(Problem(
            channel=what, message=f"the seeds of fold {judged.index[judged > 1][0]} were not judged on the same cases",
            remedy="evaluate all runs on the same version of the cohort",
        ))  # fmt: skip
    per_case = a.groupby("case")[truth].nunique(dropna=False)
    if (per_case > 1).any():
        raise InputError(Problem(
            case=str(per_case.index[per_case > 1][0]), channel=what, message="its truth differs between folds or seeds",
            remedy="evaluate all runs on the same version of the cohort",
        ))  # fmt: skip
    people = [frozenset(rows["subject"].astype(str)) for _, rows in a.groupby("fold")]
    if len(set(people)) > 1 and len(frozenset.union(*people)) < sum(map(len, people)):
        raise InputError(Problem(
            channel=what, message="folds share some of their subjects, but not all", remedy="compare folds of one split",
        ))  # fmt: skip
    return a.reset_index(drop=True), b.reset_index(drop=True)


def _label(part: pd.DataFrame) -> pd.Index:
    """What messages call a row."""
    names = zip(part["case"], part["fold"], part["seed"], strict=True)
    return pd.Index([f"{case} (fold {fold}, seed {seed})" for case, fold, seed in names], dtype=object)


def _mean_row(of: str, metric: str, who: pd.DataFrame, first: pd.Series, second: pd.Series, n: int, seed: int) -> dict[str, Any]:
    """The row of an outcome that is a mean over cases."""
    delta = second.to_numpy(np.float64) - first.to_numpy(np.float64)
    frame = who[[*_KEY, "subject"]].assign(delta=delta)
    wide = frame.pivot(index="case", columns=["fold", "seed"], values="delta")
    subjects = frame.drop_duplicates("case").set_index("case")["subject"].reindex(wide.index).to_numpy().astype(str)
    seeds = wide.columns.get_level_values("seed").to_numpy(np.int64)
    interval = mean_difference(wide.to_numpy(np.float64), subjects, seeds, resamples=n, seed=seed)
    both = np.isfinite(delta)
    own = wide.mean(axis=1).to_numpy(np.float64)[:, None]
    tested = paired_tests(own, subject_codes(subjects)[0], seed=seed)[0]
    better, worse = better_and_worse(metric, tested.higher, tested.lower)
    tests: dict[str, Any] = {"p": tested.p, "p_wilcoxon": tested.p_wilcoxon, "test": SIGN_FLIPS}
    if metric == "brier":  # the AUC's test speaks for the marker: one outcome, one test
        tests = {"p": float("nan"), "p_wilcoxon": float("nan"), "test": ""}
    sides = [float(side[both].groupby(who["case"][both]).mean().mean()) for side in (first, second)]
    return {
        "of": of, "metric": metric, "value_reference": sides[0], "value": sides[1], "difference": interval.value,
        "low": interval.low, "high": interval.high, **tests, "shift": tested.shift.value, "shift_low": tested.shift.low,
        "shift_high": tested.shift.high, "better": better, "worse": worse, "n": interval.n, "n_subjects": interval.n_subjects,
        "n_positive": None, "n_undefined": len(wide) - interval.n, "estimable": interval.estimable, "remark": "",
    }  # fmt: skip


def _marker_rows(of: str, a: pd.DataFrame, b: pd.DataFrame, outcomes: Sequence[str], n: int, seed: int) -> list[dict[str, Any]]:
    """AUC and Brier score of a marker class."""
    for side in (a, b):
        bad = side[~side["probability"].between(0, 1)]
        if len(bad):
            raise InputError(Problem(
                case=str(bad["case"].iloc[0]), channel=of, message=f"the probability is {bad['probability'].iloc[0]}",
                remedy="the training probably diverged: look at its losses, lower the learning rate",
            ))  # fmt: skip
    positive = a.drop_duplicates("case")["truth"].sum()
    subjects = [a.loc[a["truth"] == side, "subject"].nunique() for side in (1, 0)]
    few = min(subjects) < MIN_PER_CLASS
    counts = f"{subjects[0]} positive and {subjects[1]} negative subjects, {MIN_PER_CLASS} of each are needed"
    remark = f"not estimable: {counts}" if few else ""
    rows = []
    if "auc" in outcomes:
        row = _auc_row(of, a, b, n, seed)
        rows.append(row | {"remark": remark or row["remark"]})
    if "brier" in outcomes:
        first, second = ((side["probability"] - a["truth"]) ** 2 for side in (a, b.loc[a.index]))
        row = _mean_row(of, "brier", a, first, second, n, seed) | {"n_positive": int(positive), "remark": remark}
        if few:
            row |= dict.fromkeys(_NUMBERS, float("nan")) | {"estimable": False}
        rows.append(row)
    return rows


def _auc_row(of: str, a: pd.DataFrame, b: pd.DataFrame, n: int, seed: int) -> dict[str, Any]:
    recurring = a.groupby("fold")["subject"].agg(frozenset).nunique() == 1
    scores = [
        Scores("" if recurring else str(fold), int(str(own)),
               (rows["truth"] > 0.5).to_numpy(), rows["subject"].to_numpy().astype(str),
               rows["probability"].to_numpy(np.float64), b.loc[rows.index, "probability"].to_numpy(np.float64))
        for (fold, own), rows in a.groupby(["fold", "seed"])
    ]  # fmt: skip
    found = auc_difference(scores, resamples=n, seed=seed)
    left_out = f"{found.left_out} folds with fewer than two subjects of a class left out of the AUC" if found.left_out else ""
    return {
        "of": of, "metric": "auc", "value_reference": found.first, "value": found.second, "difference": found.interval.value,
        "low": found.interval.low, "high": found.interval.high, "p": found.p, "test": DELONG, "n": found.interval.n,
        "n_subjects": found.interval.n_subjects, "n_positive": found.n_positive, "n_undefined": 0,
        "estimable": found.interval.estimable, "remark": left_out,
    }  # fmt: skip
