"""95 % intervals of shares (sensitivity, precision, found k of n ...) and of what is made of them: never of no width.

Wilson's score interval (1927, JASA 22:209) of a share, whose number of cases is divided by the design effect where subjects have
several cases (effective sample size: Rao and Scott 1992, Biometrics 48:577). The design effect is 1 + (sum k^2 / n - 1) r with k
the cases of each subject and r their intraclass correlation by one-way analysis of variance, drawn towards 1 as if one more
informative case had agreed with its subject: with few errors nothing tells how alike a subject's cases are, and where there is
none (0 or n of n), a subject counts about once. One case per subject: the plain interval.

Simulated coverage with two to ten cases per subject, shares 0.7 to 0.97, r 0.3 and 0.7, 6 to 100 subjects: 94 to 98; with the
variance of the ratio estimator in place of r 88 to 94. With one case each 91 to 98, since a share of few takes few values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from workbench.evaluation.intervals import LEVEL, Interval, subject_codes

Bounds = tuple[float, float]
UNKNOWN: Bounds = (float("nan"), float("nan"))


def intraclass_correlation(values: ArrayLike, codes: NDArray[np.intp]) -> float:
    """How alike the values (n,) of a subject (code 0.. of each) are, 0 to 1: one-way analysis of variance with unequal groups.

    1 where nothing can be told: all values equal, a single subject, or one value per subject.
    """
    x = np.asarray(values, np.float64)
    sizes = np.bincount(codes)
    sizes = sizes[sizes > 0]
    n, groups = x.size, sizes.size
    if groups < 2 or n == groups:
        return 1.0
    counts = np.bincount(codes)
    means = np.bincount(codes, x) / np.maximum(counts, 1)
    between = float(np.sum(counts * (means - x.mean()) ** 2)) / (groups - 1)
    within = float(np.sum((x - means[codes]) ** 2)) / (n - groups)
    typical = (n - float(np.sum(sizes**2)) / n) / (groups - 1)
    spread = between + (typical - 1) * within
    return float(np.clip((between - within) / spread, 0, 1)) if spread > 0 else 1.0


def effective_number(values: ArrayLike, subjects: Sequence[str] | ArrayLike, *, informative: float = np.inf) -> float:
    """How many independent cases the values (n,) are worth: n over the design effect; n itself with one case per subject.

    Args:
        values: whose likeness within a subject counts.
        subjects: subject of each.
        informative: cases behind the correlation, which is drawn towards 1 by one more; infinite = taken as it is.
    """
    codes, _ = subject_codes(subjects)
    n = codes.size
    if n == 0:
        return 0.0
    sizes = np.bincount(codes)
    correlation = intraclass_correlation(values, codes)
    if np.isfinite(informative):
        correlation = (informative * correlation + 1) / (informative + 1)
    return float(n / (1 + (float(np.sum(sizes**2)) / n - 1) * correlation))


def wilson(share: float, number: float) -> Bounds:
    """Wilson's 95 % interval of a share of `number` cases, which may be an effective number; unknown where there is none."""
    if not (number > 0 and 0 <= share <= 1):
        return UNKNOWN
    low, high = proportion_confint(share * number, number, alpha=1 - LEVEL, method="wilson")
    return float(low), float(high)


def share_bounds(hits: ArrayLike, subjects: Sequence[str] | ArrayLike) -> Bounds:
    """95 % interval of the share of hits (n,) 0/1, adjusted for the subjects of the cases (n,)."""
    hit = np.asarray(hits, np.float64)
    if not hit.size:
        return UNKNOWN
    share = float(hit.mean())
    number = effective_number(hit, subjects, informative=hit.size * share * (1 - share))
    return wilson(share, number)


def proportion(hits: ArrayLike, subjects: Sequence[str] | ArrayLike) -> Interval:
    """Share of the cases that are hits, e.g. lesions found, with its 95 % interval over subjects.

    Args:
        hits: (n,) 0/1 or bool.
        subjects: subject of each case.
    """
    hit = np.asarray(hits, np.float64)
    if not hit.size:
        return Interval.unknown()
    return Interval(float(hit.mean()), *share_bounds(hit, subjects), hit.size, subject_codes(subjects)[1])


def from_parts(value: float, *parts: Sequence[float]) -> Bounds:
    """Interval of a statistic of independent shares from their own: the method of variance estimates recovery.

    Zou and Donner (2008, Statistics in Medicine 27:1693): how far each share's bounds move the statistic, added in squares.

    Args:
        value: the statistic.
        parts: (statistic with one share at its lower bound, at its upper bound) of each share; in either order.
    """
    ends = np.array(parts, np.float64)
    down = np.maximum(0, value - ends.min(axis=1))
    up = np.maximum(0, ends.max(axis=1) - value)
    return float(value - np.sqrt(np.sum(down**2))), float(value + np.sqrt(np.sum(up**2)))


def decision_bounds(truth: ArrayLike, called: ArrayLike, subjects: Sequence[str] | ArrayLike) -> dict[str, Bounds]:
    """Intervals of what yes/no decisions are judged by: {metric of `weighted.confusion_metrics`: (low, high)}.

    Shares have Wilson's interval. F1 = 2 J / (1 + J) has that of J, the share of true positives among the cases that are
    positive or called so. Balanced accuracy and MCC, functions of sensitivity, specificity and prevalence, have theirs from those
    of the three (`from_parts`).

    Args:
        truth: (n,) bool.
        called: (n,) bool.
        subjects: subject of each case.
    """
    is_true, is_called, names = np.asarray(truth, bool), np.asarray(called, bool), np.asarray(subjects)
    right = is_true == is_called

    def among(of: NDArray[np.bool_], hits: NDArray[np.bool_] = right) -> Bounds:
        return share_bounds(hits[of], names[of])

    found = {
        "accuracy": among(np.ones(right.size, bool)),
        "precision": among(is_called),
        "npv": among(~is_called),
        "recall": among(is_true),
        "specificity": among(~is_true),
    }
    found["f1"] = _f1(*among(is_true | is_called))
    if not is_true.any() or is_true.all():
        return found | {"balanced_accuracy": UNKNOWN, "mcc": UNKNOWN}
    recall, specificity = float(right[is_true].mean()), float(right[~is_true].mean())
    prevalence = float(is_true.mean())
    found["balanced_accuracy"] = from_parts(
        (recall + specificity) / 2,
        tuple((end + specificity) / 2 for end in found["recall"]),
        tuple((recall + end) / 2 for end in found["specificity"]),
    )
    found["mcc"] = from_parts(
        _mcc(recall, specificity, prevalence),
        tuple(_mcc(end, specificity, prevalence) for end in found["recall"]),
        tuple(_mcc(recall, end, prevalence) for end in found["specificity"]),
        tuple(_mcc(recall, specificity, end) for end in share_bounds(is_true, names)),
    )
    return found


def _f1(low: float, high: float) -> Bounds:
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _mcc(recall: float, specificity: float, prevalence: float) -> float:
    """Matthews' correlation; 0, its limit, where all or none are called positive."""
    called = prevalence * recall + (1 - prevalence) * (1 - specificity)
    if not 0 < called < 1:
        return 0.0
    spread = np.sqrt(prevalence * (1 - prevalence) / (called * (1 - called)))
    return float((recall + specificity - 1) * spread)


def median_interval(values: ArrayLike, subjects: Sequence[str] | ArrayLike) -> Interval:
    """Median of the cases (n,) with its 95 % interval from two of them; NaN values are left out.

    The distribution-free interval of order statistics: half of all cases lie below the median, and how many of n do is binomial;
    of subjects with several cases n is the effective number (Woodruff 1952, JASA 47:635). Unknown where the two are equal.
    """
    every = np.asarray(values, np.float64)
    known = np.isfinite(every)
    found, names = np.sort(every[known]), np.asarray(subjects)[known]
    n = found.size
    if not n:
        return Interval.unknown()
    middle = float(np.median(found))
    number = int(effective_number(every[known] < middle, names, informative=n / 4))
    rank = int(binom.ppf((1 - LEVEL) / 2, number, 0.5) * n // number) if number else 0
    low, high = (float(found[rank - 1]), float(found[n - rank])) if rank else UNKNOWN
    low, high = (low, high) if low < high else UNKNOWN
    return Interval(middle, low, high, n, subject_codes(names)[1])
