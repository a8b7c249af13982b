"""What an export says of a run: who it is, and its results summarised with their intervals, as one long table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.contracts import ROUGH_BELOW
from workbench.errors import RunError
from workbench.evaluation.detection import detection
from workbench.evaluation.summaries import leading, summarise_markers, summarise_segmentation, with_available
from workbench.records.run_folder import RunFolder
from workbench.records.spec import SPEC_FILE, run_name

PHANTOM_NOTICE = "Phantom results: synthetic images made by a computer. No patients, no clinical evidence."


COLUMNS = (
    "split", "of", "metric", "value", "low", "high", "n", "n_subjects", "statistic", "interval", "q1", "q3", "penalty",
    "n_positive", "n_empty_truth", "value_all",
)  # fmt: skip


def quality_of(low: float, n_subjects: float) -> str:
    """What an interval is worth: '' (as good as it says), 'rough' of few subjects, 'none'."""
    if low != low:
        return "none"
    return "rough" if n_subjects < ROUGH_BELOW else ""


def open_runs(folders: Sequence[str | Path]) -> list[RunFolder]:
    """The runs to export, each once.

    Raises:
        RunError: none is given, or one is no run.
    """
    runs = {path.resolve(): RunFolder.open(path) for path in map(Path, folders)}
    if not runs:
        raise RunError("give the folder of at least one run")
    return list(runs.values())


def refuse_run_folder(out: Path) -> None:
    """A run folder holds what its run made, and nothing else.

    Raises:
        RunError: `out` is one, or lies in one.
    """
    if run := next((folder for folder in (out, *out.resolve().parents) if (folder / SPEC_FILE).is_file()), None):
        raise RunError(f"--out {out} is in the run folder {run}: an export goes to a folder of its own")


def identity(run: RunFolder) -> dict[str, Any]:
    """The columns by which rows of several runs are told apart."""
    spec = run.spec
    return {
        "run": spec["run"], "experiment": spec["experiment"], "method": spec["method"], "title": run_name(spec),
        "run_fold": str(spec["parameters"].get("fold", "")), "seed": spec["parameters"].get("seed"),
        "cohort": spec["cohort"]["name"], "phantom": bool(spec["cohort"]["phantom"]),
    }  # fmt: skip


def export_name(run: RunFolder) -> str:
    """A name for a run that is the same at every export and no other run's: experiment and id."""
    return f"{run.spec['experiment']}_{run.spec['run']}"


def summary_table(run: RunFolder) -> pd.DataFrame:
    """One row per split, region or marker class, and metric, each case with all its sequences.

    Returns:
        split, of, metric, value, low, high, n, n_subjects, statistic ('mean', of distances 'median'), interval (`quality_of`),
        n_positive (markers); of regions, whose value is of the cases that have them, q1 and q3, penalty, n_empty_truth, and
        value_all, the mean of all cases by the rule for empty masks; in rows of their own the shares `found` and `false`
        (`evaluation.detection`). What is not estimable has no value. No rows for a run that is not evaluated.
    """
    resamples = int(run.spec["parameters"].get("resamples", 1000))
    parts = []
    metrics, markers = run.metrics(), run.markers()
    if metrics is not None and len(metrics):
        table = leading(summarise_segmentation(metrics, by_present=False, resamples=resamples))
        parts.append(table.rename(columns={"region": "of"}))
        found = detection(with_available(metrics))
        for name, cases in (("found", "with"), ("false", "without")):
            shares = found[found[f"n_{cases}"] > 0]
            known = shares[["split", "region", name, f"{name}_low", f"{name}_high", f"n_{cases}", f"subjects_{cases}"]]
            known = known.set_axis(["split", "of", "value", "low", "high", "n", "n_subjects"], axis=1)
            parts.append(known.assign(metric=name, statistic="share"))
    if markers is not None and len(markers):
        table = summarise_markers(markers, by_present=False, resamples=resamples)
        parts.append(table.assign(of=table["marker"].astype(str) + " " + table["class"].astype(str)))
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat([part.reindex(columns=list(COLUMNS)) for part in parts if len(part)], ignore_index=True)
    table["interval"] = [quality_of(*row) for row in table[["low", "n_subjects"]].itertuples(index=False)]
    counts = ["n", "n_subjects", "n_positive", "n_empty_truth"]
    return table.astype(dict.fromkeys(counts, "Int64"))
