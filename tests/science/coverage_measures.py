"""What the workbench shows of a sample, by the public functions of its tables, beside the truth of the population drawn from.

A study draws samples and gives an `Outcome` for each interval and p value that is shown of each. Where a function judges many
columns of the same subjects at once, samples are columns: the resamples of a block's samples are the same, its cases are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, nan
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from tests.science.coverage_populations import (
    CALLED_EMPTY,
    DIAGONAL,
    DICE,
    EMPTY,
    GAIN,
    HD95,
    Judgements,
    Setting,
    case_rows,
    correlated,
    deviates,
    marker_rows,
    paired_dice,
    pseudo_median,
    segmented,
    subject_names,
    subset_scores,
)
from workbench.evaluation import curves
from workbench.evaluation.comparison import paired_differences
from workbench.evaluation.detection import detection
from workbench.evaluation.markers import marker_metrics, metric_values
from workbench.evaluation.proportions import median_interval
from workbench.evaluation.replicates import Scores, auc_difference, mean_difference
from workbench.evaluation.robustness import added_sequence, by_number
from workbench.evaluation.run_comparison import compare_markers
from workbench.evaluation.summaries import multiclass_metrics, summarise_segmentation

RESAMPLES = 400
Kind = Literal["interval", "test", "exact test"]


@dataclass(frozen=True)
class Outcome:
    """One interval, or one p value of a true null hypothesis, as a table shows it."""

    quantity: str
    kind: Kind = "interval"
    low: float = nan
    high: float = nan
    truth: float = nan
    p: float = nan

    @property
    def shown(self) -> bool:
        """Whether the table shows any."""
        return isfinite(self.p) if self.kind != "interval" else isfinite(self.low) and isfinite(self.high)


Study = Callable[[Setting, np.random.Generator, int, int], Iterator[Outcome]]
"""(setting, generator, seed, samples) -> outcomes of so many samples."""


def one_by_one(study: Callable[[Setting, np.random.Generator, int], Iterator[Outcome]]) -> Study:
    """A study of a function that judges one sample at a time."""

    def repeated(setting: Setting, rng: np.random.Generator, seed: int, samples: int) -> Iterator[Outcome]:
        for index in range(samples):
            yield from study(setting, rng, seed + index)

    return repeated


MODELS = {"AUC .80": Judgements(1.19), "AUC .80, overconfident": Judgements(1.19, 1.6, 0.4), "AUC .98": Judgements(2.9)}
CALIBRATION = ("brier", "brier_skill", "log_loss", "ece", "ece_excess", "calibration_slope", "calibration_intercept")


@lru_cache
def true_metrics(model: str, prevalence: float) -> dict[str, float]:
    """The metrics of the whole population."""
    sample = MODELS[model].population(prevalence)
    found = {name: float(value[0]) for name, value in metric_values(sample, np.ones((1, sample.truth.size)), prevalence).items()}
    if MODELS[model].stretch == 1 and MODELS[model].shift == 0:
        found |= {"ece": 0.0, "calibration_slope": 1.0, "calibration_intercept": 0.0}
    return found | {"ece_excess": found["ece"]}


def marker_study(model: str) -> Study:
    """Every metric of a marker at the threshold at which both likelihoods are alike."""

    def study(setting: Setting, rng: np.random.Generator, seed: int) -> Iterator[Outcome]:
        sample = MODELS[model].sample(setting, rng)
        table = marker_metrics(sample, threshold=setting.prevalence, resamples=RESAMPLES, seed=seed)
        truth = true_metrics(model, setting.prevalence)
        for row in table.to_dict("records"):
            if row["metric"] in truth and (MODELS[model].stretch == 1 or row["metric"] in CALIBRATION):
                yield Outcome(row["metric"], low=row["low"], high=row["high"], truth=truth[row["metric"]])

    return one_by_one(study)


def curve_study(setting: Setting, rng: np.random.Generator, seed: int) -> Iterator[Outcome]:
    """One point of each curve: of the ROC curve's band, and the middle bin of the calibration plot."""
    sample = MODELS["AUC .80"].sample(setting, rng)
    roc = curves.roc_curve_band(sample, points=6, resamples=RESAMPLES, seed=seed)
    at = roc.iloc[1] if len(roc) else {"low": nan, "high": nan}
    true_tpr = float(stats.norm.sf(stats.norm.isf(0.2) - MODELS["AUC .80"].distance))
    yield Outcome("ROC band at FPR .2", low=at["low"], high=at["high"], truth=true_tpr)
    bins = curves.calibration_bins(sample)
    middle = bins.iloc[len(bins) // 2]
    yield Outcome("calibration bin", low=middle["low"], high=middle["high"], truth=middle["probability"])


def grade_study(setting: Setting, rng: np.random.Generator, _: int) -> Iterator[Outcome]:
    """A marker of three classes as a whole: the rarest has the setting's prevalence."""
    shares = np.array([setting.prevalence, 0.3, 0.7 - setting.prevalence])
    recalls = np.array([0.6, 0.7, 0.9])
    codes = setting.sessions(rng)
    grade = rng.choice(3, setting.n, p=shares)[codes]
    right = deviates(rng, codes)[:, 0] < stats.norm.ppf(recalls)[grade]
    called = np.where(right, grade, (grade + 1) % 3)
    rows = [
        marker_rows((grade == of).astype(float), np.where(called == of, 0.8, 0.1), codes, str(of + 2), "grade") for of in range(3)
    ]
    table = multiclass_metrics(pd.concat(rows, ignore_index=True)).set_index("metric")
    for metric, truth in (("accuracy", shares @ recalls), ("balanced_accuracy", recalls.mean())):
        yield Outcome(f"{metric} of 3 classes", low=table["low"][metric], high=table["high"][metric], truth=float(truth))


def segmentation_study(setting: Setting, rng: np.random.Generator, seed: int, samples: int) -> Iterator[Outcome]:
    """A region that is sometimes missed and sometimes not there; each sample is a region of its own in the table."""
    codes = setting.sessions(rng)
    drawn = segmented(setting, rng, codes, samples)
    base = case_rows(codes, "t1")
    rows = [
        base.assign(
            region=f"{index:02d}", metric=metric, value=getattr(drawn, metric)[:, index],
            n_truth=np.where(drawn.empty[:, index], 0, 1000), n_prediction=np.where(drawn.predicted[:, index], 1000, 0),
        )
        for index in range(samples) for metric in ("dice", "hd95")
    ]  # fmt: skip
    table = pd.concat(rows, ignore_index=True)
    found = 1 - setting.prevalence
    there = {"dice": found * DICE.mean(), "hd95": found * HD95.mean() + setting.prevalence * DIAGONAL}
    empty = {"dice": CALLED_EMPTY, "hd95": (1 - CALLED_EMPTY) * DIAGONAL}
    for row in summarise_segmentation(table, resamples=RESAMPLES, seed=seed).to_dict("records"):
        metric = row["metric"]
        every = float((1 - EMPTY) * there[metric] + EMPTY * empty[metric])
        yield Outcome(f"mean {metric}, all cases", low=row["low"], high=row["high"], truth=every)
        bounds = {"low": row["low_nonempty"], "high": row["high_nonempty"]}
        yield Outcome(f"mean {metric}, region there", **bounds, truth=float(there[metric]))
    for row in detection(table).to_dict("records"):
        yield Outcome("found k of n", low=row["found_low"], high=row["found_high"], truth=found)
        yield Outcome("false in k of m", low=row["false_low"], high=row["false_high"], truth=1 - CALLED_EMPTY)
    subjects = subject_names(codes)
    for index in range(samples):
        of = ~drawn.empty[:, index]
        median = median_interval(drawn.hd95[of, index], subjects[of])
        yield Outcome("median hd95, region there", low=median.low, high=median.high, truth=float(HD95.ppf(0.5 / found)))


def paired_study(gain: str) -> Study:
    """Dice of two models on the same cases."""

    def study(setting: Setting, rng: np.random.Generator, seed: int, samples: int) -> Iterator[Outcome]:
        codes = setting.sessions(rng)
        sides = paired_dice(setting, rng, codes, gain, samples)
        mean = (1 - setting.prevalence) * float(DICE.mean()) * GAIN if gain == "better" else 0.0
        shift = 0.0 if gain == "none" else pseudo_median(setting.prevalence, setting.clustered, gain)
        for row in paired_differences(*sides, subject_names(codes), seed=seed):
            yield Outcome("mean difference", low=row.low, high=row.high, truth=mean)
            yield Outcome("Hodges-Lehmann shift", low=row.shift_low, high=row.shift_high, truth=shift)
            if gain != "better":
                yield Outcome("p of the mean difference", "exact test" if gain == "none" else "test", p=row.p)
            if gain == "none":
                yield Outcome("Wilcoxon's p", "exact test", p=row.p_wilcoxon)

    return study


def marker_pair_study(distances: tuple[float, float]) -> Study:
    """Two models' judgements of the same cases, decided where likelihoods are alike.

    Each sample is a class of its own in the table.
    """
    models = [Judgements(distance) for distance in distances]
    area, right = ([float(stats.norm.cdf(distance / scale)) for distance in distances] for scale in (np.sqrt(2), 2))
    true = {"auc": area[0] - area[1], "accuracy": right[0] - right[1]} | ({"brier": 0.0} if distances[0] == distances[1] else {})

    def study(setting: Setting, rng: np.random.Generator, seed: int, samples: int) -> Iterator[Outcome]:
        codes = setting.sessions(rng)
        truth = (rng.random((setting.n, samples)) < setting.prevalence)[codes].astype(float)
        tables = []
        for model, side in zip(models, correlated(rng, codes, 0.6, samples), strict=True):
            chance = expit(model.logits(side + truth * model.distance, setting.prevalence))
            names = [f"{index:02d}" for index in range(samples)]
            rows = [marker_rows(truth[:, index], chance[:, index], codes, name) for index, name in enumerate(names)]
            tables.append(pd.concat(rows, ignore_index=True))
        cut = {("idh", name): setting.prevalence for name in names}
        table = compare_markers(*tables, thresholds_a=cut, thresholds_b=cut, resamples=RESAMPLES, seed=seed)
        for row in table.to_dict("records"):
            metric = row["metric"]
            if metric in true:
                yield Outcome(f"{metric} difference", low=row["low"], high=row["high"], truth=true[metric])
            if metric in ("auc", "accuracy") and distances[0] == distances[1]:
                yield Outcome(f"p of the {metric} difference", "test" if metric == "auc" else "exact test", p=row["p"])

    return study


SEED_LUCK = 0.5
"""Spread of the mean of the seeds' luck, in standard errors over subjects."""


def seeds_study(setting: Setting, rng: np.random.Generator, seed: int) -> Iterator[Outcome]:
    """Mean difference over three seeds, each of which has its own luck."""
    codes = setting.sessions(rng)
    own = stats.skewnorm.ppf(stats.norm.cdf(deviates(rng, codes)[:, 0]), 4, scale=0.1)
    centre = float(stats.skewnorm.mean(4, scale=0.1))
    spread = SEED_LUCK * float(stats.skewnorm.std(4, scale=0.1)) / np.sqrt(setting.n) * np.sqrt(3)
    differences = own[:, None] - centre + spread * rng.standard_normal(3) + 0.03 * rng.standard_normal((codes.size, 3))
    found = mean_difference(differences, subject_names(codes), np.arange(3), resamples=RESAMPLES, seed=seed)
    yield Outcome("mean difference over 3 seeds", low=found.low, high=found.high, truth=0.0)


def replicates_study(folds: int, seeds: int) -> Study:
    """Difference of two AUCs of .87 over folds or seeds; each model's scores are on a scale of its own."""
    over = f"{folds} folds" if folds > 1 else f"{seeds} seeds"

    def study(setting: Setting, rng: np.random.Generator, seed: int) -> Iterator[Outcome]:
        codes = setting.sessions(rng)
        positive, names = (rng.random(setting.n) < setting.prevalence)[codes], subject_names(codes)
        shared = deviates(rng, codes)[:, 0]
        scores = []
        for number in range(seeds):
            sides = [np.sqrt(0.6) * shared + np.sqrt(0.4) * deviates(rng, codes)[:, 0] + 1.6 * positive for _ in range(2)]
            for fold in range(folds):
                own = [rng.standard_normal() + side * (1 + rng.random()) for side in sides]
                of = codes % folds == fold
                scores.append(Scores(str(fold), number, positive[of], names[of], own[0][of], own[1][of]))
        found = auc_difference(scores, resamples=RESAMPLES, seed=seed)
        yield Outcome(f"auc difference over {over}", low=found.interval.low, high=found.interval.high, truth=0.0)
        yield Outcome(f"p of the auc difference over {over}", "test", p=found.p)

    return one_by_one(study)


def robustness_study(setting: Setting, rng: np.random.Generator, seed: int) -> Iterator[Outcome]:
    """A second sequence that mostly helps."""
    scores = subset_scores(setting, rng)
    two = by_number(scores, resamples=RESAMPLES, seed=seed).set_index("number").loc[2]
    gain, harmed, both = true_robustness(setting.prevalence)
    yield Outcome("mean dice of 2 sequences", low=two["low"], high=two["high"], truth=both)
    row = added_sequence(scores).set_index("added").loc["t2"]
    yield Outcome("gain by a sequence", low=row["gain_low"], high=row["gain_high"], truth=gain)
    yield Outcome("share harmed by a sequence", low=row["harmed_low"], high=row["harmed_high"], truth=harmed)


@lru_cache
def true_robustness(prevalence: float) -> tuple[float, float, float]:
    """Mean gain by the second sequence, share harmed by it, and mean Dice of both."""
    scores = subset_scores(Setting(1_000_000, prevalence, False), np.random.default_rng(0))
    one, both = (scores.loc[scores["present"] == name, "value"].to_numpy() for name in ("t1", "t1+t2"))
    return float((both - one).mean()), float((both - one < -0.01).mean()), float(both.mean())


STUDIES: dict[str, Study] = {
    **{f"marker, {model}": marker_study(model) for model in MODELS},
    "curves, AUC .80": one_by_one(curve_study),
    "marker of 3 classes": one_by_one(grade_study),
    "segmentation": segmentation_study,
    "two models, exchangeable": paired_study("none"),
    "two models, mean difference 0, skewed": paired_study("skewed"),
    "two models, first better": paired_study("better"),
    "two markers, AUC .80 and .80": marker_pair_study((1.19, 1.19)),
    "two markers, AUC .87 and .76": marker_pair_study((1.6, 1.0)),
    "two markers, AUC .98 and .87": marker_pair_study((2.9, 1.6)),
    "3 seeds": one_by_one(seeds_study),
    "5 folds, AUC .87 and .87": replicates_study(5, 1),
    "3 seeds, AUC .87 and .87": replicates_study(1, 3),
    "subsets of sequences": one_by_one(robustness_study),
}
TOGETHER = ("segmentation", "two models, exchangeable", "two models, mean difference 0, skewed", "two models, first better")
"""Studies that judge many samples in one call."""
