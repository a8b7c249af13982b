"""`workbench compare` of ten runs on 500 subjects, all 45 pairs, beside SciPy's bootstrap and permutation test of such means."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy import stats
from scipy.special import expit

from workbench.contracts import SEGMENTATION
from workbench.evaluation.metrics import metrics_of
from workbench.evaluation.paired_tests import FLIPS
from workbench.files import write_parquet
from workbench.records.run_folder import RunFolder
from workbench.reports.comparison import compare

RUNS, SUBJECTS, VALIDATION, RESAMPLES = 10, 500, 100, 2000
MARKERS = {"idh": "mutant", "codel": "co-deleted", "tert": "mutant", "mgmt": "methylated"}


def make_runs(folder: Path) -> list[RunFolder]:
    """Runs with three regions, all metrics, four markers and the grade, of the same cases."""
    count = SUBJECTS + VALIDATION
    names = [f"c{index:04d}" for index in range(count)]
    head = pd.DataFrame({"case": names, "subject": names, "site": "a", "fold": 0, "present": "t1+t1c+t2+flair"})
    head["split"] = ["test"] * SUBJECTS + ["validation"] * VALIDATION
    fixed = np.random.default_rng(99)
    truth = {(marker, name): fixed.random(count) < 0.4 for marker, name in MARKERS.items()}
    grade, ease = fixed.integers(2, 5, count), fixed.normal(0, 0.08, count)
    truth |= {("grade", str(number)): grade == number for number in (2, 3, 4)}
    runs = []
    for number in range(RUNS):
        rng = np.random.default_rng(number)
        voxels, markers = [], []
        for region in ("WT", "TC", "ET"):
            dice = np.clip(0.85 + ease + rng.normal(0, 0.05, count) - 0.002 * number, 0, 1)
            for name in metrics_of(SEGMENTATION):
                value = 10 * (1 - dice) if name == "hd95" else dice
                voxels.append(head.assign(region=region, metric=name, value=value, n_truth=500, n_prediction=510))
        for (marker, name), true in truth.items():
            logit = 2 * (true - 0.5) + rng.normal(0, 1, count)
            known = {"marker": marker, "class": name, "truth": true.astype(float), "logit": logit, "probability": expit(logit)}
            markers.append(head.assign(**known))
        cohort = {"name": "tiny", "phantom": True}
        spec = {"run": f"r{number}", "method": "unet", "experiment": "e", "parameters": {}, "cohort": cohort}
        runs.append(RunFolder.create(folder, spec))
        write_parquet(runs[-1].path("metrics.parquet"), pd.concat(voxels, ignore_index=True))
        write_parquet(runs[-1].path("markers.parquet"), pd.concat(markers, ignore_index=True))
    return runs


def processor_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.slow
def test_all_pairs_cost_a_fraction_of_as_many_means_by_scipy(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    runs = make_runs(tmp_path)
    compare(*runs[:2])  # imports and the resamples, which stay

    differences = np.random.default_rng(0).normal(0.01, 0.05, SUBJECTS)

    def peer() -> None:
        """One mean difference of one pair."""
        stats.bootstrap((differences,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(0))
        rng = np.random.default_rng(0)
        stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=FLIPS, rng=rng)

    def measure() -> tuple[float, float]:
        return processor_seconds(lambda: compare(*runs)), min(processor_seconds(peer) for _ in range(3))

    ours, single = benchmark.pedantic(measure, rounds=1)
    means = RUNS * (RUNS - 1) // 2 * 3 * 2
    benchmark.extra_info |= {"compare, 45 pairs (s)": round(ours, 2), f"SciPy, {means} means (s)": round(means * single, 2)}
    table = compare(*runs[:3])
    assert len(table) == 3 * (3 * 2 + 7 * 3), "Dice and HD95 of three regions; AUC, accuracy and Brier score of seven classes"
    assert ours < 0.6 * means * single  # 0.16 to 0.36, as busy as the machine is; 1.1 when every pair read its runs anew
