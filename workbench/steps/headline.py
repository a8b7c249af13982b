"""A run's few headline numbers, kept in `headline.json` so that a thousand runs can be listed at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.files import read_json, write_json

if TYPE_CHECKING:  # pandas is not needed to list runs
    from workbench.records.run_folder import RunFolder

HEADLINE_FILE = "headline.json"


def write_headline(run: RunFolder, resamples: int) -> dict[str, dict[str, Any]]:
    """Compute the headline of the test split and keep it. Values are null where a number cannot be estimated."""
    from workbench.evaluation.summaries import headline

    metrics, markers = run.metrics(), run.markers()
    values: dict[str, dict[str, Any]] = {}
    if metrics is not None:
        for name, entry in headline(metrics, markers, split="test", resamples=resamples).items():
            values[name] = {key: _null(getattr(entry, key)) for key in ("value", "low", "high")} | {"n": int(entry.n)}
    write_json(run.path(HEADLINE_FILE), values)
    return values


def headline(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The headline of a run: name -> value, low, high, n; empty where it is not evaluated."""
    path = Path(folder) / HEADLINE_FILE
    try:
        return read_json(path) if path.is_file() else {}
    except WorkbenchError:
        return {}


def _null(value: float) -> float | None:
    return None if value != value else float(value)
