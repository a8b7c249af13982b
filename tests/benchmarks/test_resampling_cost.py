"""What intervals of marker metrics cost, as a ratio to scikit-learn's AUC on the same cases, and what memory they hold.

Run with `make bench`; in the ordinary suite each compared function runs once, so that it keeps working.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from workbench.evaluation import weighted
from workbench.evaluation.intervals import resampled
from workbench.evaluation.markers import Sample, make_sample, marker_metrics

SUBJECTS, RESAMPLES = 2249, 10_000
SIX = ("auc", "average_precision", "balanced_accuracy", "brier", "log_loss", "ece")


@pytest.fixture(scope="module")
def sample() -> Sample:
    rng = np.random.default_rng(0)
    truth = rng.random(SUBJECTS) < 0.3
    return make_sample(truth, expit(rng.normal(size=SUBJECTS) + 1.5 * truth - 1.5))


def six(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Six metrics (R, 6) by resampling, as paired comparisons need them."""
    truth, p = sample.truth, sample.probability
    decided = weighted.confusion_metrics(weighted.counts(weights, truth, p >= 0.5))["balanced_accuracy"]
    losses = weighted.divide(weights @ weighted.log_losses(truth, sample.logit), weights.sum(axis=1))
    columns = [
        weighted.auc(weights, truth, p), weighted.average_precision(weights, truth, p), decided,
        weighted.brier(weights, truth, p), losses, weighted.calibration_error(weights, truth, p),
    ]  # fmt: skip
    return np.stack(columns, axis=1)


@pytest.mark.benchmark(group="markers of 2,249 subjects")
def test_every_marker_metric_with_its_interval(benchmark, sample):
    table = benchmark(marker_metrics, sample, resamples=200)
    assert table["estimable"].all()


@pytest.mark.benchmark(group="markers of 2,249 subjects")
def test_two_hundred_resamples_of_six_metrics(benchmark, sample):
    draws = benchmark(resampled, lambda weights: six(sample, weights), sample.subjects, 200)
    assert draws.shape == (200, len(SIX))


@pytest.mark.benchmark(group="markers of 2,249 subjects")
def test_two_hundred_aucs_of_scikit_learn(benchmark, sample):
    rng = np.random.default_rng(0)

    def resample() -> list[float]:
        drawn = (rng.integers(0, SUBJECTS, SUBJECTS) for _ in range(200))
        return [roc_auc_score(sample.truth[index], sample.probability[index]) for index in drawn]

    assert len(benchmark(resample)) == 200


def test_memory_does_not_grow_with_the_resamples(sample: Sample) -> None:
    """All weights of 2,000 resamples would be 36 MB; a chunk and its products are held."""
    peaks = []
    for resamples in (1000, 2000):
        tracemalloc.start()
        resampled(lambda weights: six(sample, weights), sample.subjects, resamples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
