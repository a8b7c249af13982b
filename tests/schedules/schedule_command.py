"""`workbench schedule` as a function, and what a schedule is made of here."""

from __future__ import annotations

from pathlib import Path

import yaml
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import WorkbenchError

TINY = {
    "size": "demo", "spacing": "4", "epochs": "1", "steps_per_epoch": "2", "validate_every": "1", "resamples": "100", "maps": "0",
    "threads": "1", "subsets": "none", "width": "4", "levels": "3", "patch": "32",
}  # fmt: skip


def cli(*words: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["schedule", *map(str, words)], catch_exceptions=True)
    if isinstance(found.exception, WorkbenchError):  # as `main` says it
        return 1, f"error: {found.exception}"
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


def write_sweep(path: Path, cohort: Path, **values: object) -> Path:
    content = {"experiment": "nightly", "cohort": str(cohort), "methods": ["unet"], "parameters": {"size": "demo"}, **values}
    path.write_text(yaml.safe_dump(content))
    return path
