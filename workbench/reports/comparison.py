"""Compare runs: paired differences on the same subjects, with intervals, tests and Holm's correction over the family."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.contracts import HELD_OUT, PRETRAINING, SEGMENTATION
from workbench.errors import RunError
from workbench.evaluation.comparison import corrected
from workbench.evaluation.detection import GRID_DIAGONAL, penalty_text
from workbench.evaluation.metrics import Place, shown_in
from workbench.evaluation.run_comparison import CaseScores, MarkerScores, compare_markers, compare_segmentation
from workbench.evaluation.summaries import with_available
from workbench.evaluation.thresholds import by_fold, validation_thresholds
from workbench.records.pretrained import read_pretrained_record
from workbench.records.protocol import TREATMENT, RunProtocol, protocol_differences
from workbench.records.run_folder import RunFolder
from workbench.records.spec import run_name
from workbench.views.estimates import few_subjects

COLUMNS = (
    "first", "second", "split", "of", "metric", "value_first", "value_second", "difference", "low", "high", "n", "n_subjects",
    "penalty", "test", "p", "p_holm", "shift", "shift_low", "shift_high", "p_wilcoxon", "better", "worse", "remark",
)  # fmt: skip


def compare(
    *runs: str | Path | RunFolder, split: str = "test", penalty: str = GRID_DIAGONAL, resamples: int = 2000
) -> pd.DataFrame:
    """Compare every pair of runs per region or marker and metric, on the same cases.

    Args:
        runs: two or more evaluated runs.
        split: the split compared.
        penalty: what a distance to nothing counts as, of `evaluation.detection.PENALTIES`.
        resamples: bootstrap resamples of subjects.

    Returns:
        One row per pair, region or marker class, and metric: both values, their difference (first minus second) with its 95 %
        interval, n, n_subjects, penalty (of distances), p with its test (sign flips of the mean for voxel metrics, DeLong for
        AUC, within folds where a run pools them, McNemar for accuracy at each run's Youden threshold from its validation cases),
        p_holm after Holm's correction over the whole table; of voxel metrics the Hodges-Lehmann shift with its interval and
        Wilcoxon's p, which is not corrected, and the shares of subjects in whom the first is better and worse; and a remark where
        the subjects are too few for an interval or for any p, where the budgets differ, or where a run's pretrained weights had
        seen, or may have seen, the test subjects.

    Raises:
        ParameterError: no such penalty.
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
    judged = [JudgedRun.of(run, split, penalty) for run in opened]
    tables = [pair_rows(first, second, split, resamples) for first, second in itertools.combinations(judged, 2)]
    return with_remarks(pd.concat(tables, ignore_index=True))


def with_remarks(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of one family with p_holm, and in the remark what so few subjects can show."""
    table = corrected(table.drop(columns=["p_holm"], errors="ignore"))
    counts = table["n_subjects"].to_numpy(np.int64).tolist()
    few = [few_subjects(n) if known else "" for n, known in zip(counts, table["difference"].notna(), strict=True)]
    remarks = [_join(*parts) for parts in zip(few, table["too_few"], table["remark"], strict=True)]
    return table.assign(remark=remarks)[list(COLUMNS)]


@dataclass(frozen=True)
class JudgedRun:
    """A run's scores in the compared split, read once for all its pairs."""

    run: RunFolder
    voxels: CaseScores
    markers: MarkerScores
    thresholds: dict[tuple[str, str], dict[int, float]]
    caution: str
    penalty: str = GRID_DIAGONAL

    @classmethod
    def of(cls, run: RunFolder, split: str, penalty: str = GRID_DIAGONAL) -> JudgedRun:
        """Read an evaluated run.

        Raises:
            RunError: it is not evaluated.
        """
        names = shown_in(Place.COMPARISON, SEGMENTATION, PRETRAINING)
        voxels = CaseScores.of(_table(run, "metrics"), split, names=names, penalty=penalty)
        markers = _table(run, "markers")
        scores, thresholds = (MarkerScores.of(markers, split), _youden(markers)) if len(markers) else (MarkerScores({}), {})
        return cls(run, voxels, scores, thresholds, read_pretrained_record(run.folder).caution, penalty)


def pair_rows(first: JudgedRun, second: JudgedRun, split: str, resamples: int) -> pd.DataFrame:
    """The rows of `compare` of one pair, for `with_remarks`."""
    voxels = compare_segmentation(first.voxels, second.voxels)
    parts = [voxels.rename(columns={"region": "of", "mean_a": "value_first", "mean_b": "value_second"})]
    found = compare_markers(
        first.markers, second.markers, thresholds_a=first.thresholds, thresholds_b=second.thresholds, resamples=resamples
    )
    of = found["marker"].astype(str) + " " + found["class"].astype(str)
    parts.append(found.assign(of=of).rename(columns={"value_a": "value_first", "value_b": "value_second"}))
    runs = (first.run, second.run)
    filled = [part for part in parts if len(part)]
    if not filled:
        listed = " and ".join(f"{run.folder} ({run.spec['cohort']['name']})" for run in runs)
        raise RunError(
            f"{listed} have no region or marker in common in split '{split}': compare runs of the same cohort and fold"
        )
    table = pd.concat(filled, ignore_index=True).reindex(columns=list(COLUMNS))
    names = [f"{run_name(run.spec)} {run.folder.name}" for run in runs]
    remarks = [_join(own, _remark(first, second)) for own in table["remark"].astype(object).fillna("")]
    policies = [first.penalty if penalty_text(str(metric), first.penalty) else "" for metric in table["metric"]]
    named = {"first": names[0], "second": names[1], "split": split, "penalty": policies, "remark": remarks}
    return table.assign(**named)[list(COLUMNS)]


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


def _remark(first: JudgedRun, second: JudgedRun) -> str:
    samples = [side.run.status.get("budget", {}).get("samples") for side in (first, second)]
    found = [f"{side.run.folder.name}: {side.caution}" for side in (first, second) if side.caution]
    if None not in samples and samples[0] != samples[1]:
        found.insert(0, f"unequal budget: {samples[0]} and {samples[1]} training samples")
    unlike = [topic for topic in protocol_differences(RunProtocol.of(side.run) for side in (first, second)) if topic in TREATMENT]
    return _join(*found, f"not alike in {', '.join(unlike)}" if unlike else "")
