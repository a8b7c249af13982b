"""The summary tables of an evaluated run."""

from __future__ import annotations

import pandas as pd

from workbench.errors import RunError
from workbench.evaluation.summaries import summarise_markers, summarise_segmentation
from workbench.records.run_folder import RunFolder


def results_of(run: RunFolder, resamples: int) -> dict[str, pd.DataFrame]:
    """Tables with 95 % subject-bootstrap intervals: 'segmentation' and 'markers' (empty where there is no such task).

    Args:
        run: the run folder.
        resamples: bootstrap resamples of subjects.

    Raises:
        RunError: the run is not evaluated yet.
    """
    metrics, markers = run.metrics(), run.markers()
    if metrics is None:
        raise RunError(f"run {run.folder} is not evaluated yet: call .evaluate()")
    return {
        "segmentation": summarise_segmentation(metrics, by_present=False, resamples=resamples),
        "markers": summarise_markers(markers, by_present=False, resamples=resamples) if markers is not None else pd.DataFrame(),
    }
