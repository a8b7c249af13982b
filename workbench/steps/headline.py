"""A run's few headline numbers, computed and kept; `records.headline_file` reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.files import write_json
from workbench.records.headline_file import HEADLINE_FILE

if TYPE_CHECKING:  # pandas is not needed to list runs
    from workbench.records.run_folder import RunFolder


def write_headline(run: RunFolder, resamples: int) -> dict[str, dict[str, Any]]:
    """Compute the headline of the test split and keep it. Values are null where a number cannot be estimated."""
    from workbench.evaluation.summaries import headline

    metrics, markers = run.metrics(), run.markers()
    values: dict[str, dict[str, Any]] = {}
    if metrics is not None or markers is not None:
        for name, entry in headline(metrics, markers, split="test", resamples=resamples).items():
            values[name] = {key: _null(getattr(entry, key)) for key in ("value", "low", "high")}
            values[name] |= {"n": int(entry.n), "n_subjects": int(entry.n_subjects)}
    write_json(run.path(HEADLINE_FILE), values)
    return values


def _null(value: float) -> float | None:
    return None if value != value else float(value)
