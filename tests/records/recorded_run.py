"""A finished run with a record of its files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort, CohortInfo
from workbench.files import write_json
from workbench.records.provenance import split_digest, write_artefacts
from workbench.records.run_folder import RunFolder

FILES = (
    "checkpoints/best.safetensors", "checkpoints/last.safetensors", "events.jsonl", "metrics.parquet", "markers.parquet",
    "predictions/A.nii.gz", "predictions/B.nii.gz", "predictions/A.json", "fitted.json", "figures/training.png", "odd.bin",
)  # fmt: skip


def make_cohort(folder: Path, cases: str = "ABCDEF") -> Cohort:
    """A cohort whose images are a few bytes each: only digests are read."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for name in cases:
        (folder / "images" / f"{name}.nii.gz").write_bytes(name.encode() * 10)
        rows.append({"case": name, "subject": name, "site": "north", "t1": f"images/{name}.nii.gz", "idh": ord(name) % 2})
    return Cohort.create(folder, CohortInfo(name="small", modalities=("t1",), phantom=True), pd.DataFrame(rows))


def make_recorded_run(folder: Path) -> RunFolder:
    """A finished run whose files are a few bytes each."""
    cohort = make_cohort(folder / "cohort")
    split = make_folds(cohort, folds=3).split(cohort, 0)
    spec = {
        "run": "abc", "method": "unet", "experiment": "demo", "code_version": "0.1.0", "threads": 1, "split": split_digest(split),
        "parameters": {"fold": 0, "seed": 3, "spacing": 2.0, "pretrained": "blake2b:" + "9" * 32},
        "cohort": {"name": "small", "path": "../../../cohort", "fingerprint": cohort.fingerprint(), "phantom": True},
        "pretrained": "encoder.safetensors",
    }  # fmt: skip
    run = RunFolder.create(folder / "runs" / "demo", spec)
    run.claim()
    for name in FILES:
        run.path(*name.split("/")).write_bytes(name.encode())
    write_json(run.path("training.json"), {"checkpoint": "best", "best_step": 40})
    run.path("run.log").write_text("a log")
    run.set_status("completed")
    write_artefacts(run)
    return run
