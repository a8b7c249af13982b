"""What a process leaves that is killed while it writes a figure or a table: no result, and gone with the next start."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.execution import notebook
from workbench.files import atomic_path
from workbench.records.provenance import list_files
from workbench.setup.opening import open_run
from workbench.setup.parameters import ExperimentParameters

NAMES = ("figures/training.png", "metrics.parquet", "predictions/A.nii.gz", "maps/A.gradcam.nii.gz", "report.html")


def _killed_half_way(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_torn_files_are_no_results_and_go_when_the_run_is_taken_up(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"size": "demo", "spacing": 4.0, "cohort": str(tiny_cohort.folder), "runs": str(tmp_path)}
    _, run = open_run(ExperimentParameters.build("unet", values))
    fork = multiprocessing.get_context("fork")
    for name in NAMES:
        process = fork.Process(target=_killed_half_way, args=(run.path(name),))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    pd.DataFrame({"value": [1]}).to_parquet(run.path("markers.parquet"))
    torn = list(run.folder.rglob(".*.tmp.*"))
    assert len(torn) == len(NAMES)
    assert list_files(run.folder) == ["markers.parquet", "spec.json"]
    monkeypatch.setattr(notebook, "_execute", lambda *_: None)
    notebook.run_notebook("unet", values, progress=False, report=False)
    assert [path for path in torn if path.exists()] == []
    assert (run.folder / "markers.parquet").is_file()
