"""Is one run better than another? Paired tests over the same subjects, with the size of the difference always beside the p value.

Every difference is the first minus the second. Subjects that only one of the two has are an error, never dropped in silence:
a comparison over different patients compares the patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from workbench.errors import InputError, Problem
from workbench.evaluation.intervals import RESAMPLES, mean_interval, subject_codes


@dataclass(frozen=True)
class PairedDifference:
    """Mean paired difference (first minus second) with its 95 % subject-bootstrap interval and Wilcoxon's p."""

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float
    """Wilcoxon signed-rank test on the subjects' mean differences, two-sided; 1 where all are zero."""
    n: int
    """Cases in which both have a value."""
    n_subjects: int
    n_undefined: int
    """Cases left out since the metric is not defined in one or both."""


def paired_difference(
    a: pd.Series, b: pd.Series, subjects: pd.Series | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference:
    """Compare a metric of two runs case by case.

    Args:
        a: value per case, the index holds the cases; NaN = not defined.
        b: likewise, of the other run; any order.
        subjects: case -> subject; each case is its own subject without.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same interval.

    Raises:
        InputError: cases that only one of the two has, or that occur twice; the message names them.
    """
    require_same_cases(a.index, b.index)
    b = b.reindex(a.index)
    left, right = a.to_numpy(np.float64), b.to_numpy(np.float64)
    names = (a.index if subjects is None else subjects.reindex(a.index)).to_numpy().astype(str)
    both = np.isfinite(left) & np.isfinite(right)
    left, right, names = left[both], right[both], names[both]
    interval = mean_interval(left - right, names, resamples=resamples, seed=seed)
    mean_a, mean_b = (float(np.mean(side)) if side.size else float("nan") for side in (left, right))
    per_subject = pd.Series(left - right).groupby(names).mean().to_numpy(np.float64)
    return PairedDifference(
        mean_a=mean_a,
        mean_b=mean_b,
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p=signed_rank(per_subject),
        n=int(both.sum()),
        n_subjects=subject_codes(names)[1],
        n_undefined=int((~both).sum()),
    )


def require_same_cases(a: pd.Index, b: pd.Index) -> None:
    """Refuse two runs that were not judged on the same cases.

    Raises:
        InputError: names the cases that only one has, or that one has twice.
    """
    for side, index in (("first", a), ("second", b)):
        if index.has_duplicates:
            twice = str(index[index.duplicated()][0])
            raise InputError(
                Problem(case=twice, message=f"the {side} run has the case twice", remedy="compare one run at a time")
            )
    problems = []
    for side, missing in (("first", a.difference(b)), ("second", b.difference(a))):
        if len(missing):
            listed = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
            problems.append(
                Problem(
                    message=f"{len(missing)} cases were judged in the {side} run only: {listed}",
                    remedy="compare runs of the same cohort, fold and split, or filter both to the cases they share",
                )
            )
    if problems:
        raise InputError(*problems)


def signed_rank(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; zeros are left out; 1 where all are zero, NaN without any difference.

    Exact up to 50 differences, ties with their mean rank (SciPy approximates there, and is far too sure of few differences),
    otherwise the normal approximation with a tie correction.
    """
    values = differences[np.isfinite(differences)]
    if not values.size:
        return float("nan")
    values = values[np.abs(values) > 1e-12]
    if not values.size:
        return 1.0
    if values.size > 50:
        return float(stats.wilcoxon(values, method="approx").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(values))).astype(int)  # doubled: mean ranks are halves
    ways = np.ones(1)  # number of sign patterns for each sum of the positive ranks
    for rank in ranks:
        ways = np.append(ways, np.zeros(rank)) + np.append(np.zeros(rank), ways)
    positive = int(ranks[values > 0].sum())
    return float(min(1.0, 2 * ways[: min(positive, ranks.sum() - positive) + 1].sum() / ways.sum()))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's step-down adjustment (1979) of p values (k,); NaN stays NaN and does not count as a test."""
    values = np.asarray(p_values, np.float64)
    tested = np.isfinite(values)
    adjusted = np.full(values.shape, np.nan)
    if tested.any():
        adjusted[tested] = multipletests(values[tested], method="holm")[1]
    return adjusted
