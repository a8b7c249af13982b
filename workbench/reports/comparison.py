"""Compare runs: paired differences on the same subjects, with intervals, tests and Holm's correction over the family."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd

from workbench.contracts import HELD_OUT, PRETRAINING, SEGMENTATION
from workbench.errors import RunError
from workbench.evaluation.comparison import holm
from workbench.evaluation.intervals import MIN_PER_CLASS
from workbench.evaluation.metrics import Place, shown_in
from workbench.evaluation.run_comparison import compare_markers, compare_segmentation
from workbench.evaluation.summaries import with_available
from workbench.evaluation.thresholds import by_fold, validation_thresholds
from workbench.records.pretrained import read_pretrained_record
from workbench.records.run_folder import RunFolder
from workbench.records.spec import run_name


def compare(*runs: str | Path | RunFolder, split: str = "test", resamples: int = 2000) -> pd.DataFrame:
    """Compare every pair of runs per region or marker and metric, on the same cases.

    Args:
        runs: two or more evaluated runs.
        split: the split compared.
        resamples: bootstrap resamples of subjects.

    Returns:
        One row per pair, region or marker class, and metric: both values, their difference (first minus second) with its 95 %
        interval, n, p (Wilcoxon for voxel metrics, DeLong for AUC, within folds where a run pools them, McNemar for accuracy at
        each run's Youden threshold from its validation cases), p after Holm's correction over the whole table, and a
        remark where the budgets differ or a run's pretrained weights had seen, or may have seen, the test subjects.

    Raises:
        RunError: fewer than two runs, one named twice or not evaluated, no such split, or no region or marker in common.
        InputError: the runs do not hold the same cases (they are not paired).
    """
    opened = [run if isinstance(run, RunFolder) else RunFolder.open(run) for run in runs]
    if len(opened) < 2:
        raise RunError("comparing needs at least two runs")
    if split not in HELD_OUT:
        raise RunError(f"split '{split}' is not judged; there are {', '.join(HELD_OUT)}")
    places = [run.folder.resolve() for run in opened]
    if twice := [place for place in places if places.count(place) > 1]:
        raise RunError(f"run {twice[0]} is named twice: it does not differ from itself")
    tables = [_pair(first, second, split, resamples) for first, second in itertools.combinations(opened, 2)]
    table = pd.concat(tables, ignore_index=True)
    if len(table):
        table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    return table


def _pair(first: RunFolder, second: RunFolder, split: str, resamples: int) -> pd.DataFrame:
    voxels = compare_segmentation(_table(first, "metrics"), _table(second, "metrics"), split=split, resamples=resamples)
    voxels = voxels[voxels["metric"].isin(shown_in(Place.COMPARISON, SEGMENTATION, PRETRAINING))]
    voxels = voxels.rename(columns={"region": "of", "mean_a": "value_first", "mean_b": "value_second"})
    parts = [voxels]
    left, right = _table(first, "markers"), _table(second, "markers")
    if len(left) and len(right):
        found = compare_markers(
            left, right, split=split, thresholds_a=_youden(left), thresholds_b=_youden(right), resamples=resamples
        )
        of = found["marker"].astype(str) + " " + found["class"].astype(str)
        parts.append(found.assign(of=of).rename(columns={"value_a": "value_first", "value_b": "value_second"}))
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        raise RunError(
            f"{first.folder} ({first.spec['cohort']['name']}) and {second.folder} ({second.spec['cohort']['name']}) "
            f"have no region or marker in common in split '{split}': compare runs of the same cohort and fold"
        )
    names = [f"{run_name(run.spec)} {run.folder.name}" for run in (first, second)]
    columns = [
        "first",
        "second",
        "split",
        "of",
        "metric",
        "value_first",
        "value_second",
        "difference",
        "low",
        "high",
        "n",
        "p",
        "remark",
    ]
    remarks = [_join(_few(row), _remark(first, second)) for _, row in table.iterrows()]
    return table.assign(first=names[0], second=names[1], split=split, remark=remarks)[columns]


def _few(row: pd.Series) -> str:
    """Why a marker's row has no number; empty where it has."""
    if pd.isna(row.get("n_positive")) or row["estimable"]:
        return ""
    negative = int(row["n"] - row["n_positive"])
    return f"not estimable: {int(row['n_positive'])} positive and {negative} negative cases, {MIN_PER_CLASS} of each are needed"


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _youden(markers: pd.DataFrame) -> dict[tuple[str, str], dict[int, float]]:
    """(marker, class) -> fold -> the run's own Youden threshold, from that fold's validation cases."""
    return by_fold(validation_thresholds(with_available(markers)), "youden")


def _table(run: RunFolder, name: str) -> pd.DataFrame:
    table = run.metrics() if name == "metrics" else run.markers()
    if table is None:
        raise RunError(f"run {run.folder} is not evaluated: it has no {name}.parquet")
    return table


def _remark(first: RunFolder, second: RunFolder) -> str:
    samples = [run.status.get("budget", {}).get("samples") for run in (first, second)]
    cautions = [(run.folder.name, read_pretrained_record(run.folder).caution) for run in (first, second)]
    found = [f"{name}: {caution}" for name, caution in cautions if caution]
    if None not in samples and samples[0] != samples[1]:
        found.insert(0, f"unequal budget: {samples[0]} and {samples[1]} training samples")
    return "; ".join(found)
