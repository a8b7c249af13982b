"""Is one run better than another? Paired tests over the same subjects, with the size of the difference always beside the p value.

Every difference is the first minus the second. Subjects that only one of the two has are an error, never dropped in silence:
a comparison over different patients compares the patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from workbench.errors import InputError, Problem
from workbench.evaluation.intervals import Floats, difference_intervals, subject_codes
from workbench.evaluation.paired_tests import SIGN_FLIPS, paired_tests, too_few_to_tell


@dataclass(frozen=True)
class PairedDifference:
    """Mean paired difference (first minus second), its 95 % interval (`difference_intervals`), the tests of `paired_tests`."""

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float
    """Two-sided, by flipping the signs of the subjects' differences: of the mean, whose interval stands beside it."""
    p_wilcoxon: float
    """Wilcoxon's signed-rank test of the subjects' mean differences: of the shift."""
    shift: float
    """Hodges-Lehmann shift of the subjects' mean differences."""
    shift_low: float
    shift_high: float
    higher: float
    """Share of subjects in whom the first is higher."""
    lower: float
    n: int
    """Cases in which both have a value."""
    n_subjects: int
    n_undefined: int
    """Cases left out since the metric is not defined in one or both."""


def paired_difference(a: pd.Series, b: pd.Series, subjects: pd.Series | None = None, *, seed: int = 0) -> PairedDifference:
    """Compare a metric of two runs case by case.

    Args:
        a: value per case, the index holds the cases; NaN = not defined.
        b: likewise, of the other run; any order.
        subjects: case -> subject; each case is its own subject without.
        seed: same seed, same p.

    Raises:
        InputError: cases that only one of the two has, or that occur twice; the message names them.
    """
    require_same_cases(a.index, b.index)
    names = (a.index if subjects is None else subjects.reindex(a.index)).to_numpy().astype(str)
    left, right = (side.to_numpy(np.float64)[:, None] for side in (a, b.reindex(a.index)))
    return paired_differences(left, right, names, seed=seed)[0]


def paired_differences(a: Floats, b: Floats, subjects: NDArray[np.str_], *, seed: int = 0) -> list[PairedDifference]:
    """`paired_difference` of each column of (n cases, k) values of two runs.

    Args:
        a: of the first run, NaN = not defined.
        b: of the second, cases and columns in the same order.
        subjects: (n,) subject of each case.
        seed: same seed, same p.
    """
    differences = a - b
    both = np.isfinite(differences)
    counts = both.sum(axis=0)
    means = [np.where(both, side, 0.0).sum(axis=0) / np.where(counts, counts, np.nan) for side in (a, b)]
    intervals = difference_intervals(differences, subjects)
    tests = paired_tests(differences, subject_codes(subjects)[0], seed=seed)
    return [
        PairedDifference(
            mean_a=float(means[0][k]),
            mean_b=float(means[1][k]),
            difference=found.value,
            low=found.low,
            high=found.high,
            p=test.p,
            p_wilcoxon=test.p_wilcoxon,
            shift=test.shift.value,
            shift_low=test.shift.low,
            shift_high=test.shift.high,
            higher=test.higher,
            lower=test.lower,
            n=int(counts[k]),
            n_subjects=test.n_subjects,
            n_undefined=len(a) - int(counts[k]),
        )
        for k, (found, test) in enumerate(zip(intervals, tests, strict=True))
    ]


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


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """A table of one family of tests with p_holm, and `too_few`: where its subjects could not have shown any difference.

    Args:
        table: columns p, test, n_subjects (only of sign flips).
    """
    p = table["p"].to_numpy(np.float64)
    family = int(np.isfinite(p).sum())
    rows = zip(p, table["test"], table.get("n_subjects", table["p"]), strict=True)
    remarks = [too_few_to_tell(int(n), family) if test == SIGN_FLIPS and np.isfinite(own) else "" for own, test, n in rows]
    return table.assign(p_holm=holm(p), too_few=pd.Series(remarks, index=table.index, dtype=object))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's step-down adjustment (1979) of p values (k,); NaN stays NaN and does not count as a test."""
    values = np.asarray(p_values, np.float64)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    adjusted = np.full(values.shape, np.nan)  # statsmodels' multipletests collects garbage at every call: 0.2 s
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(order.size, 0, -1)), 1.0)
    return adjusted
