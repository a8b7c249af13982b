"""A run beside its perfect rerun, and what may be changed in one of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import torch

from workbench.files import read_json, write_json, write_parquet
from workbench.inference.export import save_logits
from workbench.records.run_folder import RunFolder
from workbench.training.checkpoints import load_checkpoint, save_checkpoint

CASES = ("A", "B")


def save_mask(path: Path, labels: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.diag([2.0, 2.0, 3.0, 1.0])), path)


def make_run(folder: Path) -> RunFolder:
    """A finished run with every kind of result, made of noise; no training."""
    spec = {
        "run": "abc", "method": "unet", "experiment": folder.name, "code_version": "0.1.0", "threads": 1, "split": "5" * 16,
        "parameters": {"seed": 0, "fold": 0, "device": "cpu", "threads": -1},
        "cohort": {"name": "small", "path": "../../../cohort", "fingerprint": "f" * 16},
    }  # fmt: skip
    run = RunFolder.create(folder, spec)
    run.claim()
    rng = np.random.default_rng(0)
    write_json(
        run.path("environment.json"), [{"since": "2026", "python": "3.11", "packages": {"torch": "2.13"}, "device": "cpu"}]
    )
    for step in (10, 20, 30):
        run.scalar("train/objective", 1 / step, step)
    weights = {"conv.weight": torch.tensor(rng.normal(size=(4, 3))), "norm.batches": torch.tensor(7)}
    save_checkpoint(
        run.checkpoint("best"), {k: v.float() if k[0] == "c" else v for k, v in weights.items()}, metadata={"seconds": 1}
    )
    write_json(run.path("training.json"), {"checkpoint": "best", "budget": {"seconds": 1.0}})
    rows, markers = [], []
    for index, case in enumerate(CASES):
        labels = np.zeros((8, 9, 7), np.uint8)
        labels[2:6, 2:6, 2:5] = 1 + index
        save_mask(run.path("predictions", f"{case}.nii.gz"), labels)
        save_logits(
            SimpleNamespace(case=case, logits=rng.normal(size=(2, 4, 4, 4))), run.path("predictions", f"{case}.logits.b2nd")
        )
        write_json(run.path("predictions", f"{case}.json"), {"markers": {"idh": [0.25 * index]}, "centre": [4, 4, 3]})
        who = {"case": case, "subject": case, "site": None, "fold": 0, "split": "test", "present": "t1"}
        for metric, value in (("dice", 0.8), ("hd95", 4.0), ("volume_error", 0.1)):
            rows.append({**who, "region": "WT", "metric": metric, "value": value, "n_truth": 60, "n_prediction": 64})
        markers.append(
            {**who, "marker": "idh", "class": "mutant", "truth": [1.0, np.nan][index], "logit": 0.25, "probability": 0.56}
        )
    write_parquet(run.path("metrics.parquet"), pd.DataFrame(rows))
    write_parquet(run.path("markers.parquet"), pd.DataFrame(markers))
    write_json(run.path("fitted.json"), {"run": "abc", "threshold": 0.5})
    run.set_status("completed")
    return run


def make_reruns(runs: Path) -> Path:
    """A runs folder with a run and its perfect rerun; what is volatile differs."""
    first = make_run(runs / "demo").folder
    second = runs / "demo-rerun" / "abc"
    shutil.copytree(first, second)
    status = read_json(second / "status.json")
    write_json(second / "status.json", {**status, "host": "elsewhere", "started": "2031-01-01T00:00:00+00:00"})
    write_json(second / "training.json", {"checkpoint": "best", "budget": {"seconds": 99.0}})
    best = load_checkpoint(second / "checkpoints" / "best")
    save_checkpoint(second / "checkpoints" / "best", best.model, metadata={"seconds": 99})
    lines = (second / "events.jsonl").read_text().replace('"time": "2', '"time": "3')
    (second / "events.jsonl").write_text(lines)
    return runs


def elsewhere(folder: Path) -> None:
    """Say that a run was computed with another torch."""
    known = read_json(folder / "environment.json")
    write_json(folder / "environment.json", [{**known[0], "packages": {"torch": "2.14"}}])


def change_voxel(folder: Path, count: int = 1) -> None:
    path = folder / "predictions" / "B.nii.gz"
    labels = np.asarray(nib.Nifti1Image.from_filename(path).dataobj).copy()
    labels.reshape(-1)[:count] = 1
    save_mask(path, labels)
