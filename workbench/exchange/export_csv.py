"""Runs as CSV: one folder per run, the tables of all runs joined, and a data dictionary that explains every column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.contracts import SEGMENTATION
from workbench.evaluation.metrics import metrics_of
from workbench.exchange.export_tables import PHANTOM_NOTICE, export_name, identity, open_runs, refuse_run_folder, summary_table
from workbench.files import atomic_path, write_json, write_text
from workbench.records.run_folder import RunFolder

JOINED = ("summary", "metrics", "markers", "subset_metrics", "subset_markers")
"""Tables that are written per run and for all runs together; `training` is written per run only."""

_WITH_UNIT = [entry for entry in metrics_of(SEGMENTATION).values() if entry.unit]
_IN_UNITS = [f"{entry.name} in {entry.unit}" + " (predicted minus true)" * entry.signed for entry in _WITH_UNIT]

DICTIONARY: dict[str, tuple[str, str]] = {
    "run": ("id of the run, the name of its folder", ""),
    "experiment": ("group of runs", ""),
    "method": ("method, as in `workbench models`; external: predictions made elsewhere", ""),
    "title": ("what people call the run: the method, or the title of imported predictions", ""),
    "run_fold": ("test fold of the run; all: the pooled folds of a cross-validation; empty: not said", ""),
    "seed": ("seed of all randomness", ""),
    "cohort": ("cohort, as in its cohort.json", ""),
    "phantom": ("whether the cohort is synthetic: then no number is clinical evidence", "True, False"),
    "status": ("state of the run", ""),
    "parameters": ("the run's parameters", "JSON"),
    "fingerprint": ("digest of the cohort's tables and images", ""),
    "code_version": ("version of the workbench that made the run", ""),
    "started": ("start of the run", "ISO 8601, UTC"),
    "finished": ("end of the run", "ISO 8601, UTC"),
    "training_samples": ("samples seen in training; of pooled folds the sum", "count"),
    "case": ("imaging session of a subject", ""),
    "subject": ("patient; intervals are by subject", ""),
    "site": ("where the case was scanned", ""),
    "dataset": ("data set that the case comes from, in merged cohorts", ""),
    "lesion": ("kind of lesion, in merged cohorts", ""),
    "fold": ("fold whose model made the row; -1: the models of all folds together, or none of the cohort's folds", ""),
    "split": ("role of the case: validation chooses checkpoint and thresholds, test and external judge", ""),
    "present": ("sequences that were shown, joined by '+'", ""),
    "region": ("tumour region: WT whole tumour, TC core, ET enhancing, ED oedema, NCR necrosis, RC cavity, lesion", ""),
    "metric": (
        "what was measured; accuracy, precision, recall and other decisions are those at a probability of 0.5; found: share of "
        "the cases with the region in which it was found; false: share of the others in which it was",
        "",
    ),
    "value": (
        f"the metric's value; {', '.join(_IN_UNITS)}, the others without unit; empty: not defined or not estimable",
        f"{', '.join(dict.fromkeys(entry.unit for entry in _WITH_UNIT))} or none",
    ),
    "n_truth": ("voxels of the region in the truth", "voxels"),
    "n_prediction": ("voxels of the region in the prediction", "voxels"),
    "marker": ("molecular marker, or grade", ""),
    "class": ("class whose probability is given; grade: 2, 3 or 4 against the rest", ""),
    "truth": ("1: the case is of this class, 0: it is not, empty: unknown", "0, 1"),
    "logit": ("log-odds of the class, uncalibrated", ""),
    "probability": ("probability of the class, uncalibrated", "0 to 1"),
    "of": ("region, or marker and class", ""),
    "low": ("lower end of the 95 % interval over resampled subjects", "as value"),
    "high": ("upper end of the 95 % interval over resampled subjects", "as value"),
    "n": ("cases behind the value", "count"),
    "n_subjects": ("subjects behind the value", "count"),
    "n_positive": ("cases of the class (of several classes together: cases called rightly)", "count"),
    "n_empty_truth": ("cases without the region, scored by the rule for empty masks", "count"),
    "value_all": ("mean over all cases; those without the region count by the rule for empty masks: overlap 1 or 0", "as value"),
    "statistic": ("what value is over the cases that have the region; of markers over all", "mean, median, share or empty"),
    "interval": ("what the interval is worth: none of fewer than 6 subjects, rough of fewer than 15", "none, rough or empty"),
    "q1": ("lower quartile of the cases that have the region", "as value"),
    "q3": ("upper quartile of the cases that have the region", "as value"),
    "penalty": ("what a distance counts as where only truth or prediction has the region", "grid_diagonal, brats, exclude"),
    "name": ("scalar recorded in training", ""),
    "step": ("optimiser step", "count"),
}  # fmt: skip
"""Column -> what it is, and its unit or values."""


def export_csv(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write runs as CSV.

    Args:
        folders: run folders; one that is not evaluated has its spec and training only.
        out: folder: `<experiment>_<run>/` with summary, metrics, markers, subset_metrics, subset_markers, training (CSV) and
            spec.json; beside them the same tables of all runs joined, `runs.csv`, `data_dictionary.csv` and `README.txt`. Files
            of an earlier export are replaced.

    Raises:
        RunError: a folder is no run, its tables cannot be read, or `out` is a run folder.
    """
    out = Path(out)
    runs = open_runs(folders)
    refuse_run_folder(out)
    joined: dict[str, list[pd.DataFrame]] = {name: [] for name in JOINED}
    for run in runs:
        folder = out / export_name(run)
        tables = {"summary": summary_table(run), "metrics": run.metrics(), "markers": run.markers()}
        tables |= {"subset_metrics": run.subset_metrics(), "subset_markers": run.subset_markers()}
        for name, table in tables.items():
            if table is not None and len(table):
                write_csv(table, folder / f"{name}.csv")
                joined[name].append(_identified(run, table))
        write_csv(run.events(), folder / "training.csv")
        write_json(folder / "spec.json", run.spec)
    for name, parts in joined.items():
        if parts:
            write_csv(pd.concat(parts, ignore_index=True), out / f"{name}.csv")
        else:
            (out / f"{name}.csv").unlink(missing_ok=True)  # of an earlier export of other runs
    write_csv(pd.DataFrame([_described(run) for run in runs]), out / "runs.csv")
    write_csv(_dictionary(), out / "data_dictionary.csv")
    write_text(out / "README.txt", _readme(runs))
    return out


def write_csv(table: pd.DataFrame, path: Path, separator: str = ",", missing: str = "") -> None:
    """Write a table atomically, numbers with all their digits."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, sep=separator, na_rep=missing)


def _identified(run: RunFolder, table: pd.DataFrame) -> pd.DataFrame:
    columns = list(table.columns)
    known = identity(run)
    return table.assign(**known)[[*known, *(name for name in columns if name not in known)]]


def _described(run: RunFolder) -> dict[str, Any]:
    status = run.status
    return identity(run) | {
        "status": run.effective_state(),
        "parameters": json.dumps(run.spec["parameters"], ensure_ascii=False),
        "fingerprint": run.spec["cohort"]["fingerprint"],
        "code_version": run.spec["code_version"],
        "started": status.get("started", ""),
        "finished": status.get("finished", ""),
        "training_samples": (status.get("budget") or {}).get("samples"),
    }


def _dictionary() -> pd.DataFrame:
    return pd.DataFrame(
        [(name, *about) for name, about in DICTIONARY.items()], columns=["column", "description", "unit_or_values"]
    )


def _readme(runs: Sequence[RunFolder]) -> str:
    lines = [
        f"Results of {len(runs)} runs of the Brain MRI Workbench.",
        "",
        "summary.csv has the numbers to quote, with 95 % intervals over subjects and their n; metrics.csv and markers.csv have",
        "every case. The value of a region is of the cases that have it; found and false say how often it was found.",
        "data_dictionary.csv explains every column. Quote the split 'test' (or 'external'), not 'validation'.",
    ]
    phantoms = [export_name(run) for run in runs if run.spec["cohort"]["phantom"]]
    return "\n".join([*lines, *(["", f"{PHANTOM_NOTICE} In: {', '.join(phantoms)}."] if phantoms else [])]) + "\n"
