"""Tests of paired differences, each of the size beside it: sign flips of the mean, Wilcoxon's of the Hodges-Lehmann shift.

Wilcoxon's test is one of symmetry about 0: where differences are skewed it rejects although their mean is exactly 0 (38 % of 100
subjects, 95 % of 500), so that its p must not stand beside an interval of the mean. Flipping the signs of the subjects'
differences (Fisher 1935, The Design of Experiments, section 21) tests the mean: exact where they are symmetric about 0, else
right for many subjects. A subject's cases are flipped together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from workbench.seeding import stream

Floats = NDArray[np.float64]

SIGN_FLIPS, DELONG, MCNEMAR = "sign flips", "DeLong (t)", "McNemar"
"""What the p of a table is of."""
EXACT_FLIPS = 30
"""Subjects up to which every pattern of signs is counted."""
FLIPS, MORE_FLIPS = 9_999, 99_999
"""Random patterns of signs beyond that; the greater number where fewer than `FEW_REACHED` of the first reach what was observed,
so that Holm's correction, which multiplies the smallest p by the number of tests, does not run out of patterns."""
FEW_REACHED = 20
EXACT_RANKS = 50
"""Differences up to which the signed ranks' distribution is exact."""
SIGNIFICANT = 0.05
_SLACK = 1e-9
_CHUNK = 2000


@dataclass(frozen=True)
class Shift:
    """Hodges-Lehmann estimate: the median of all pairwise means of the differences, and its 95 % interval."""

    value: float
    low: float
    high: float


def sign_flip(totals: Floats, *, seed: int = 0) -> Floats:
    """Two-sided p values (k,) of k mean differences, by flipping the signs of the subjects' differences.

    Args:
        totals: (S, k) sum of each subject's differences, which is what the mean over cases adds up; 0 where it has none. The
            order of subjects decides which random signs they get: sort them.
        seed: same seed, same p.

    Returns:
        Never 0: the pattern that was observed counts. 1 where no subject differs; NaN without any subject.
    """
    totals = np.asarray(totals, np.float64)
    count, tests = totals.shape
    if not count:
        return np.full(tests, np.nan)
    differing = np.count_nonzero(totals, axis=0)
    found = np.ones(tests)
    few = (differing > 0) & (differing <= EXACT_FLIPS)
    for column in np.flatnonzero(few):
        found[column] = _every_flip(totals[totals[:, column] != 0, column])
    if len(many := np.flatnonzero(differing > EXACT_FLIPS)):
        found[many] = _random_flips(totals[:, many], seed)
    return found


def _every_flip(totals: Floats) -> float:
    """Share of all patterns of signs whose sum is as far from 0 as the observed one: sums of two halves, joined by sorting."""
    observed = abs(float(totals.sum())) - _SLACK * float(np.abs(totals).sum())
    if observed <= 0:
        return 1.0
    halves = []
    for part in (totals[::2], totals[1::2]):
        sums = np.zeros(1)
        for total in part:
            sums = np.concatenate([sums + total, sums - total])
        halves.append(np.sort(sums))
    reached = halves[1].size - np.searchsorted(halves[1], observed - halves[0])
    return 2.0 * float(reached.sum()) / 2.0**totals.size


def _random_flips(totals: Floats, seed: int) -> Floats:
    reached = _reached(totals, range(0, FLIPS, _CHUNK), seed)
    found = (1 + reached) / (1 + FLIPS)
    if len(rare := np.flatnonzero(reached < FEW_REACHED)):
        reached = reached[rare] + _reached(totals[:, rare], range(FLIPS + 1, MORE_FLIPS, _CHUNK), seed)
        found[rare] = (1 + reached) / (1 + MORE_FLIPS)
    return found


def _reached(totals: Floats, starts: range, seed: int) -> Floats:
    """(k,) number of random patterns, of the chunks that start there, whose sum is as far from 0 as the observed one."""
    whole = totals.sum(axis=0)
    observed = np.abs(whole) - _SLACK * np.abs(totals).sum(axis=0)
    reached = np.zeros(totals.shape[1])
    for start in starts:
        kept = np.unpackbits(_signs(len(totals), start, seed), axis=1, count=len(totals)).astype(np.float64)
        rows = min(_CHUNK, FLIPS - start) if start < FLIPS else _CHUNK
        reached += (np.abs(2 * (kept[:rows] @ totals) - whole) >= observed).sum(axis=0)
    return reached


@lru_cache(maxsize=MORE_FLIPS // _CHUNK + 1)
def _signs(subjects: int, chunk: int, seed: int) -> NDArray[np.uint8]:
    """(`_CHUNK`, S / 8) packed bits: which differences keep their sign."""
    drawn = stream(seed, "sign flips", str(chunk)).integers(0, 256, size=(_CHUNK, -(-subjects // 8)), dtype=np.uint8)
    drawn.setflags(write=False)
    return drawn


def smallest_p(subjects: int) -> float:
    """The smallest p that `sign_flip`, or Wilcoxon's test, can give of so many subjects: all differences of one sign."""
    return min(1.0, 2.0 ** (1 - subjects)) if subjects <= EXACT_FLIPS else 1.0 / (1 + MORE_FLIPS)


def too_few_to_tell(subjects: int, family: int) -> str:
    """A remark where even the clearest difference would not have been significant after Holm's correction; else empty.

    Args:
        subjects: with a difference.
        family: tests that Holm's correction is over.
    """
    least = min(1.0, family * smallest_p(subjects))
    if not subjects or least <= SIGNIFICANT:
        return ""
    after = f"after Holm's correction over {family} tests " if family > 1 else ""
    return f"{subjects} subject{'s' * (subjects != 1)}: {after}p could not have come out below {least:.2g}"


def signed_rank(differences: Floats) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; zeros are left out; 1 where all are zero, NaN without any difference.

    Exact up to `EXACT_RANKS` differences, ties with their mean rank (SciPy approximates there, and is far too sure of few
    differences), otherwise the normal approximation with a tie correction.
    """
    values = differences[np.isfinite(differences)]
    if not values.size:
        return float("nan")
    values = values[np.abs(values) > 1e-12]
    if not values.size:
        return 1.0
    if values.size > EXACT_RANKS:
        return float(stats.wilcoxon(values, method="approx").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(values))).astype(int)  # doubled: mean ranks are halves
    ways = _ways(tuple(sorted(ranks.tolist())))
    positive = int(ranks[values > 0].sum())
    return float(min(1.0, 2 * ways[: min(positive, ranks.sum() - positive) + 1].sum() / ways.sum()))


@lru_cache(maxsize=64)
def _ways(ranks: tuple[int, ...]) -> Floats:
    """Number of sign patterns for each sum of the positive ranks."""
    ways = np.ones(1)
    for rank in ranks:
        ways = np.append(ways, np.zeros(rank)) + np.append(np.zeros(rank), ways)
    return ways


def hodges_lehmann(differences: Floats) -> Shift:
    """The shift that Wilcoxon's test is of, with the interval of all shifts that it would not reject (Hollander and Wolfe 1999,
    Nonparametric Statistical Methods, section 3.3).

    Args:
        differences: (S,) one per subject; NaN is left out.

    Returns:
        NaN without a difference; NaN bounds where fewer than six subjects, or differences that are all alike, do not give any.
    """
    values = np.asarray(differences, np.float64)
    values = values[np.isfinite(values)]
    n, nan = values.size, float("nan")
    if not n:
        return Shift(nan, nan, nan)
    pairs = n * (n + 1) // 2
    below = _beyond(n)  # pairwise means below the lower bound, and above the upper one
    wanted = sorted({(pairs - 1) // 2, pairs // 2} | ({below, pairs - 1 - below} if below >= 0 else set()))
    means = np.concatenate([values[index:] + values[index] for index in range(n)])
    means.partition(wanted)
    means /= 2
    value = float((means[(pairs - 1) // 2] + means[pairs // 2]) / 2)
    if below < 0 or means[below] == means[pairs - 1 - below]:
        return Shift(value, nan, nan)
    return Shift(value, float(means[below]), float(means[pairs - 1 - below]))


@lru_cache(maxsize=64)
def _beyond(n: int) -> int:
    """Pairwise means left out at each end of a 95 % interval of n differences; -1 where even none would leave out too many."""
    if n > EXACT_RANKS:
        centre, spread = n * (n + 1) / 4, np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return int(np.floor(centre - float(stats.norm.ppf(0.975)) * spread))
    ways = _ways(tuple(range(1, n + 1)))
    tail = np.cumsum(ways) / ways.sum()  # chance of a sum of so much or less
    return int(np.searchsorted(tail, 0.025, side="right")) - 1


@dataclass(frozen=True)
class PairedTests:
    """What tests say of one mean difference, and of the subjects behind it."""

    p: float
    """Sign flips of the mean over cases, by subject."""
    p_wilcoxon: float
    """Wilcoxon's signed-rank test of the subjects' mean differences: of `shift`, not of the mean."""
    shift: Shift
    """Of the subjects' mean differences."""
    higher: float
    """Share of subjects whose mean difference is above 0."""
    lower: float
    n_subjects: int


def paired_tests(differences: Floats, codes: NDArray[np.intp], *, seed: int = 0) -> list[PairedTests]:
    """The tests of each column of differences (n cases, k); NaN: not defined, left out.

    Args:
        differences: first minus second.
        codes: (n,) subject of each case as of `intervals.subject_codes`.
        seed: of the random signs.
    """
    count = int(codes.max()) + 1 if codes.size else 0
    defined = np.isfinite(differences)
    filled = np.where(defined, differences, 0.0)
    totals, cases = (
        np.stack([np.bincount(codes, column, count).astype(np.float64) for column in side.T], axis=1)
        for side in (filled, defined.astype(np.float64))
    )
    totals[np.abs(totals) <= 1e-12] = 0.0  # rounding is no difference
    flipped = sign_flip(totals, seed=seed)
    found = []
    for column in range(differences.shape[1]):
        there = cases[:, column] > 0
        means = totals[there, column] / cases[there, column]
        higher, lower = (float(np.mean(side)) if means.size else float("nan") for side in (means > 0, means < 0))
        p = float(flipped[column]) if means.size else float("nan")
        found.append(PairedTests(p, signed_rank(means), hodges_lehmann(means), higher, lower, means.size))
    return found
