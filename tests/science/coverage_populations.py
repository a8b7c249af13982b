"""Populations of known truth for the simulation of coverage: cases are drawn from them, and their parameters are known.

Where subjects are clustered, each has 2 to 10 sessions whose deviates correlate with `ICC`; a session's marginal distribution is
that of a single case, so that the truth of a statistic over cases does not depend on clustering.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from workbench.evaluation.markers import Sample, make_sample

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

ICC = 0.5
SUBSETS = ("t1", "t2", "t1+t2")
DIAGONAL = 270.0
"""Diagonal in mm of every made-up native grid: the distance to a region that was missed."""
DICE = stats.beta(8, 1.6)
"""Dice of a region that is there and found: mean 0.83, skewed to the left."""
HD95 = stats.lognorm(0.8, scale=5)
"""HD95 in mm of a region that is there and found: median 5, mean 6.9, skewed to the right."""
EMPTY, CALLED_EMPTY = 0.1, 0.7
"""Share of cases without the region, and the share of them in which nothing is predicted."""


@dataclass(frozen=True)
class Setting:
    """How many are drawn, and how."""

    n: int
    """Subjects."""
    prevalence: float
    """Of the positive class; of misses, in segmentation; of harm, in a robustness table."""
    clustered: bool

    def sessions(self, rng: np.random.Generator) -> Codes:
        """Subject 0..n-1 of each case."""
        return np.repeat(np.arange(self.n), rng.integers(2, 11, self.n) if self.clustered else 1)


def deviates(rng: np.random.Generator, codes: Codes, columns: int = 1) -> Floats:
    """(n cases, columns) standard normal; a subject's cases correlate with `ICC` in each column, columns are independent."""
    subjects, cases = rng.standard_normal((int(codes[-1]) + 1, columns)), rng.standard_normal((codes.size, columns))
    if codes.size == int(codes[-1]) + 1:  # one case each: it is the subject
        return subjects
    return np.sqrt(ICC) * subjects[codes] + np.sqrt(1 - ICC) * cases


def correlated(rng: np.random.Generator, codes: Codes, rho: float, columns: int = 1) -> tuple[Floats, Floats]:
    """Two arrays as of `deviates`, correlated with rho: two models on the same cases."""
    first, other = deviates(rng, codes, columns), deviates(rng, codes, columns)
    return first, rho * first + np.sqrt(1 - rho**2) * other


@dataclass(frozen=True)
class Judgements:
    """What a model says of a marker: binormal scores, whose log-odds are known, and what the model makes of them."""

    distance: float
    """Between the classes' means, in standard deviations: AUC = Phi(distance / sqrt(2))."""
    stretch: float = 1.0
    shift: float = 0.0
    """Predicted log-odds = stretch x true log-odds + shift: calibrated with 1 and 0."""

    def logits(self, score: Floats, prevalence: float) -> Floats:
        """Predicted log-odds of scores whose negatives are N(0, 1)."""
        return self.stretch * (self.distance * score - self.distance**2 / 2 + logit(prevalence)) + self.shift

    def sample(self, setting: Setting, rng: np.random.Generator) -> Sample:
        """Cases drawn; all of a subject's cases have its marker."""
        codes = setting.sessions(rng)
        positive = (rng.random(setting.n) < setting.prevalence)[codes]
        return _sample(positive, self.logits(self.distance * positive + deviates(rng, codes)[:, 0], setting.prevalence), codes)

    def population(self, prevalence: float, size: int = 20_000) -> Sample:
        """The population, thinned to its quantiles: metrics of these cases are the true ones, to some 1e-4."""
        positives = round(size * prevalence)
        parts = [stats.norm.ppf((np.arange(count) + 0.5) / count) for count in (positives, size - positives)]
        score = np.concatenate([parts[0] + self.distance, parts[1]])
        return _sample(np.arange(size) < positives, self.logits(score, prevalence), np.arange(size))


def _sample(positive: NDArray[np.bool_], logits: Floats, codes: Codes) -> Sample:
    return make_sample(positive, expit(logits), subject_names(codes).tolist())


def subject_names(codes: Codes) -> NDArray[np.str_]:
    """'s0007' of each case."""
    return np.array([f"s{code:05d}" for code in range(int(codes.max()) + 1)])[codes]


def marker_rows(truth: Floats, probability: Floats, codes: Codes, name: str = "mutant", marker: str = "idh") -> pd.DataFrame:
    """Rows of markers.parquet."""
    frame = case_rows(codes, "t1")
    return frame.assign(marker=marker, truth=truth, logit=logit(probability), probability=probability, **{"class": name})


def case_rows(codes: Codes, present: str) -> pd.DataFrame:
    """The columns that every long table has, of cases of the test split."""
    subject = subject_names(codes)
    case = np.char.add(np.char.add(subject, "/"), np.arange(codes.size).astype(str))
    return pd.DataFrame({"case": case, "subject": subject, "site": "north", "fold": 0, "split": "test", "present": present})


@dataclass(frozen=True)
class Segmented:
    """A region in many samples of the same subjects: arrays (n cases, samples)."""

    dice: Floats
    hd95: Floats
    empty: NDArray[np.bool_]
    """The case has no such region."""
    predicted: NDArray[np.bool_]
    """Something was predicted."""


def segmented(setting: Setting, rng: np.random.Generator, codes: Codes, samples: int) -> Segmented:
    """Some cases lack the region, some are missed."""
    quality, missed, there, called = (deviates(rng, codes, samples) for _ in range(4))
    empty, void = there < stats.norm.ppf(EMPTY), called < stats.norm.ppf(CALLED_EMPTY)
    miss = ~empty & (missed < stats.norm.ppf(setting.prevalence))
    good = np.where(empty, np.where(void, 1.0, 0.0), np.where(miss, 0.0, quantiles(DICE, quality)))
    far = np.where(empty, np.where(void, 0.0, DIAGONAL), np.where(miss, DIAGONAL, quantiles(HD95, -quality)))
    return Segmented(good, far, empty, ~(miss | (empty & void)))


def quantiles(distribution: Any, normal: Floats) -> Floats:
    """The distribution's quantiles at standard normal deviates, from a table: beta's own take most of the time otherwise."""
    return np.interp(normal, *_quantile_table(distribution))


@lru_cache
def _quantile_table(distribution: Any) -> tuple[Floats, Floats]:
    grid = np.linspace(-6, 6, 6001)
    return grid, distribution.ppf(stats.norm.cdf(grid))


def paired_dice(setting: Setting, rng: np.random.Generator, codes: Codes, gain: str, samples: int) -> tuple[Floats, Floats]:
    """Dice (n cases, samples) of two models on the same cases.

    Args:
        setting: its prevalence is the share of cases that the first model misses.
        rng: draws them.
        codes: subject of each case.
        gain: 'none': the models are exchangeable, both miss; 'skewed': the first misses some and is better else, so that the mean
            difference is 0 and its distribution skewed; 'better': as 'none', but the first is better by `GAIN` wherever it finds.
        samples: how many.
    """
    quality, missed = (correlated(rng, codes, rho, samples) for rho in (0.7, 0.3))
    first, second = (quantiles(DICE, side) for side in quality)
    misses = [side < stats.norm.ppf(setting.prevalence) for side in missed]
    first = np.where(misses[0], 0.0, first)
    if gain == "skewed":
        return first, (1 - setting.prevalence) * second
    return first, np.where(misses[1], 0.0, second) * (1 - GAIN if gain == "better" else 1)


GAIN = 0.05


@lru_cache
def pseudo_median(prevalence: float, clustered: bool, gain: str) -> float:
    """The true Hodges-Lehmann shift of the subjects' mean differences in `paired_dice`: the median of the mean of two of them."""
    setting, rng = Setting(100_000, prevalence, clustered), np.random.default_rng(0)
    codes = setting.sessions(rng)
    first, second = paired_dice(setting, rng, codes, gain, 1)
    difference = np.bincount(codes, (first - second)[:, 0]) / np.bincount(codes)
    return float(np.median(np.concatenate([difference + np.roll(difference, step) for step in range(1, 6)]) / 2))


def subset_scores(setting: Setting, rng: np.random.Generator) -> pd.DataFrame:
    """Dice by subset of two sequences: the second adds 0.03 (SD 0.02), but takes 0.2 in a share `prevalence` of the cases."""
    codes = setting.sessions(rng)
    quality, other, change, harm = deviates(rng, codes, 4).T
    one, two = (0.6 + 0.1 * part for part in (quality, 0.6 * quality + 0.8 * other))
    both = one + np.where(harm < stats.norm.ppf(setting.prevalence), -0.2, np.maximum(0.03 + 0.02 * change, -0.005))
    parts = [
        case_rows(codes, present).assign(region="WT", metric="dice", value=value, n_truth=1000)
        for present, value in zip(SUBSETS, (one, two, both), strict=True)
    ]
    return pd.concat(parts, ignore_index=True)
