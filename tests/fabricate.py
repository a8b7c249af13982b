"""Run folders in the real format with random predictions, for tests of what reads them; loaded by path.

`make_runs(folder)` writes `folder/cohort` and `folder/runs/...`: three completed runs (one of few cases), one running, one
failed, one interrupted, one queued and one unreadable.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from workbench.cohort.table import TRUTH_FILE, Cohort, CohortInfo
from workbench.contracts import MARKER_POSITIVE
from workbench.files import write_json, write_parquet
from workbench.records.run_folder import RunFolder, run_id
from workbench.records.sweep_plan import SweepPlan, write_plan

PRESENT = "t1+t1c+t2+flair"
REGIONS = {"WT": 0.86, "TC": 0.78, "ET": 0.72, "ED": 0.74, "NCR": 0.6}
SITES = ("north", "south", "east")


def make_cases(test: int = 60, validation: int = 40, train: int = 30, external: int = 24) -> pd.DataFrame:
    """The table of subjects with their split and marker truth, some unknown."""
    rng = np.random.default_rng(7)
    rows = []
    for split, count in (("test", test), ("validation", validation), ("train", train), ("external", external)):
        for index in range(count):
            case = f"{len(rows):04d}-000"
            site = "external" if split == "external" else SITES[index % 3]
            idh = float(rng.random() < 0.47)
            grade = rng.choice([2, 3, 4], p=[0.4, 0.4, 0.2] if idh else [0.0, 0.05, 0.95])
            codel = float(idh and rng.random() < 0.36)
            tert = float(rng.random() < (0.3 if idh else 0.8))
            markers = {"idh": idh, "codel": codel, "tert": np.nan if index % 7 == 0 else tert, "grade": float(grade)}
            rows.append({"case": case, "subject": case[:4], "site": site, "fold": 0, "split": split, **markers})
    return pd.DataFrame(rows)


def make_truth(cases: pd.DataFrame) -> pd.DataFrame:
    """The posterior columns of a phantom's truth: a better predictor than any run's."""
    rng = np.random.default_rng(11)
    truth = pd.DataFrame({"case": cases["case"]})
    for marker in ("idh", "codel", "tert", "grade2", "grade3", "grade4"):
        known = cases["grade"] == int(marker[-1]) if marker.startswith("grade") else cases[marker].fillna(0.5)
        truth[f"posterior_{marker}"] = expit(rng.normal((known.astype(float) - 0.5) * 4, 1.2))
    return truth


def marker_rows(cases: pd.DataFrame, skill: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for _, case in cases.iterrows():
        for marker in ("idh", "codel", "tert", "grade"):
            for name in ("2", "3", "4") if marker == "grade" else (MARKER_POSITIVE[marker],):
                truth = float(case["grade"] == int(name)) if marker == "grade" else case[marker]
                logit = float(rng.normal(skill * ((truth if truth == truth else 0.5) - 0.5) * 2, 1.3))
                head = {key: case[key] for key in ("case", "subject", "site", "fold", "split")}
                rows.append(
                    {**head, "present": PRESENT, "marker": marker, "class": name, "truth": truth, "logit": logit,
                     "probability": float(expit(logit))}
                )  # fmt: skip
    return pd.DataFrame(rows)


def metric_rows(cases: pd.DataFrame, shift: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for index, case in cases.iterrows():
        head = {key: case[key] for key in ("case", "subject", "site", "fold", "split")}
        for region, level in REGIONS.items():
            empty = region in ("ET", "NCR") and index % 9 == 0
            dice = 1.0 if empty else float(np.clip(level + shift + rng.normal(0, 0.09), 0.02, 0.99))
            iou = dice / (2 - dice)
            values = {"dice": dice, "hd95": 0.0 if empty else float(rng.gamma(2, 3) * (1.3 - dice) * 2), "iou": iou}
            values |= {"sensitivity": dice, "specificity": 0.99, "precision": dice, "volume_error": float(rng.normal(0, 0.1))}
            for metric, value in values.items():
                size = 0 if empty else 4000
                rows.append(
                    {**head, "present": PRESENT, "region": region, "metric": metric, "value": value, "n_truth": size,
                     "n_prediction": size}
                )  # fmt: skip
    return pd.DataFrame(rows)


def subset_tables(cases: pd.DataFrame, skill: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """24 test cases under all 15 subsets: each sequence that is missing costs a little; the last case has no T2."""
    tested = cases[cases["split"] == "test"].head(24)
    names = PRESENT.split("+")
    metrics, markers = [], []
    for number, chosen in enumerate(c for size in range(1, 5) for c in combinations(names, size)):
        shown = tested.iloc[:-1] if "t2" in chosen else tested
        cost = 0.05 * (4 - len(chosen)) + (0.1 if "flair" not in chosen else 0.0)
        metrics.append(metric_rows(shown, 0.02 * skill - cost, seed + number).assign(present="+".join(chosen)))
        markers.append(marker_rows(shown, skill - cost, seed + number).assign(present="+".join(chosen)))
    return pd.concat(metrics, ignore_index=True), pd.concat(markers, ignore_index=True)


def make_run(
    root: Path, experiment: str, method: str, state: str, *, seed: int, cases: pd.DataFrame, skill: float = 1.0,
    given: dict[str, object] | None = None, subsets: bool = True, draw: int | None = None,
) -> RunFolder:  # fmt: skip
    """One run folder; only a completed one has tables. `given`: further parameters; `draw`: of the numbers."""
    parameters = {"size": "demo", "seed": seed, "epochs": 20, "learning_rate": 0.001} | (given or {})
    cohort = {"name": "demo", "path": "../../../cohort", "fingerprint": "f" * 16, "phantom": True, "external_sites": ["external"]}
    spec = {"run": run_id(parameters | {"method": method}, "f"), "method": method, "experiment": experiment,
            "parameters": parameters, "cohort": cohort, "code_version": "0.1.0", "threads": 1}  # fmt: skip
    run = RunFolder.create(root / experiment, spec)
    if state == "queued":
        return run
    run.claim(device="cpu")
    draw = seed if draw is None else draw
    rng = np.random.default_rng(draw)
    steps = np.arange(10, 410 if state == "completed" else 160, 10)
    lines = []
    for step in steps:
        for name, level in (("dice_ce", 1.4), ("idh", 0.7), ("learning_rate", 0.0)):
            value = (
                1e-3 * np.cos(step / 300) if name == "learning_rate" else level * np.exp(-step / 150) + 0.1 + rng.normal(0, 0.03)
            )
            lines.append({"name": f"train/{name}", "step": int(step), "value": float(value)})
        if step % 50 == 0:
            lines.append({"name": "validation/dice", "step": int(step), "value": float(0.85 * (1 - np.exp(-step / 90)))})
    run.path("events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.heartbeat()
    if state == "completed":
        write_parquet(run.path("metrics.parquet"), metric_rows(cases, 0.02 * skill - 0.02, draw))
        write_parquet(run.path("markers.parquet"), marker_rows(cases, skill, draw))
        if subsets and seed != 3:  # one that was made without
            for name, table in zip(("subset_metrics", "subset_markers"), subset_tables(cases, skill, seed), strict=True):
                write_parquet(run.path(f"{name}.parquet"), table)
        run.set_status("completed", budget={"steps": 400 * seed, "samples": 800 * seed, "flops": 3.2e14, "seconds": 391.0})
    elif state == "running":
        write_json(run.path("progress.json"), {"activity": "training", "done": 150, "total": 400, "detail": ""})
        hours = time.time() + 3 * 3600  # its heartbeat stays fresh for as long as the tests that share it take
        os.utime(run.path("heartbeat"), (hours, hours))
    else:
        run.set_status(state, error="the loss is not finite at step 160" if state == "failed" else None)
    return run


def fold_cases(folds: int = 3, subjects: int = 90, external: int = 0) -> list[pd.DataFrame]:
    """The same subjects split by every fold: fold k tests group k, validates on group k + 1 and trains on the others."""
    table = make_cases(test=subjects, validation=0, train=0, external=external)
    group = np.arange(len(table)) % folds
    found = []
    for fold in range(folds):
        split = np.where(group == fold, "test", np.where(group == (fold + 1) % folds, "validation", "train"))
        found.append(table.assign(fold=fold, split=np.where(table["site"] == "external", "external", split)))
    return found


def make_fold_runs(
    root: Path, experiment: str = "cv", method: str = "mts_unet", *, cases: list[pd.DataFrame] | None = None, skill: float = 1.0
) -> list[RunFolder]:
    """A completed run per fold; their seed is the same: they differ in their fold only."""
    runs = []
    for fold, table in enumerate(cases or fold_cases()):
        held_out = table[table["split"] != "train"].reset_index(drop=True)
        runs.append(
            make_run(
                root,
                experiment,
                method,
                "completed",
                seed=3,
                cases=held_out,
                skill=skill,
                given={"fold": fold, "resamples": 100},
                draw=fold,
            )
        )
    return runs


def make_runs(folder: Path) -> Path:
    """Fill `folder` with a cohort and runs; returns the runs folder."""
    cases = make_cases()
    table = cases.drop(columns=["fold", "split"]).assign(t1=None, t1c=None, t2=None, flair=None, age=50.0)
    info = CohortInfo(name="demo", modalities=("t1", "t1c", "t2", "flair"), phantom=True, external_sites=("external",))
    Cohort.create(folder / "cohort", info, table)
    write_parquet(folder / "cohort" / TRUTH_FILE, make_truth(cases))
    root = folder / "runs"
    make_run(root, "demo", "unet", "completed", seed=1, cases=cases, skill=0.5)
    make_run(root, "demo", "mts_unet", "completed", seed=2, cases=cases, skill=1.4)
    make_run(root, "demo", "mts_unet", "completed", seed=3, cases=make_cases(test=12, validation=9, external=3), skill=1.0)
    make_run(root, "night", "mts_unet", "running", seed=4, cases=cases)
    make_run(root, "night", "unet", "failed", seed=5, cases=cases)
    make_run(root, "night", "unet", "interrupted", seed=6, cases=cases)
    make_run(root, "night", "unet", "queued", seed=7, cases=cases)
    broken = root / "night" / "0broken"
    broken.mkdir()
    (broken / "spec.json").write_text('{"run": "0broken", "meth')
    return root


SWITCHES = {"no_attention": -1.3, "single_branch": -0.4, "no_dropout": 0.0, "wider": 0.3}
"""Switches of the fabricated sweep, and what they change in skill."""


def make_sweep(folder: Path, name: str = "attention") -> Path:
    """Fill `folder` with a cohort and an ablation of 24 cells; returns the runs folder.

    `unet`: baseline and four switches x 2 folds x 2 seeds, of which one is running, one queued, one failed and one missing;
    `mts_unet`: baseline and one switch x 2 folds x 1 seed, all completed.
    """
    every = make_cases(test=120, validation=20, train=0, external=0)
    table = every.drop(columns=["fold", "split"]).assign(t1=None, t1c=None, t2=None, flair=None, age=50.0)
    info = CohortInfo(name="demo", modalities=("t1", "t1c", "t2", "flair"), phantom=True)
    Cohort.create(folder / "cohort", info, table)
    root, cells = folder / "runs", []
    unfinished = {("single_branch", 1, 2): "running", ("wider", 1, 1): "failed", ("wider", 1, 2): "queued",
                  ("no_dropout", 0, 2): "missing"}  # fmt: skip
    plan = [("unet", arm, fold, seed) for arm in ("baseline", *SWITCHES) for fold in (0, 1) for seed in (1, 2)]
    plan += [("mts_unet", arm, fold, 1) for arm in ("baseline", "no_attention") for fold in (0, 1)]
    for method, arm, fold, seed in plan:
        state = unfinished.get((arm, fold, seed), "completed") if method == "unet" else "completed"
        given: dict[str, object] = {"fold": fold} | ({} if arm == "baseline" else {arm: True})
        mine = (every["split"] == "test") & (np.arange(len(every)) % 2 == fold)
        cases = every[mine | (every["split"] == "validation")].assign(fold=fold)
        skill = 1.6 + SWITCHES.get(arm, 0.0)
        if state == "missing":
            made = run_id({"never": "made"}, "f")
        else:
            draw = seed + 10 * fold + 100 * ["baseline", *SWITCHES].index(arm)
            run = make_run(root, name, method, state, seed=seed, cases=cases, skill=skill, given=given, draw=draw, subsets=False)
            made = run.folder.name
        cells.append({"run": f"{name}/{made}", "method": method, "condition": arm, "fold": fold, "seed": seed,
                      "parameters": {**given, "seed": seed}})  # fmt: skip
    cohort = {"name": "demo", "path": "../cohort", "fingerprint": "f" * 16, "phantom": True}
    document = {"name": name, "file": f"../{name}.yaml", "experiment": name, "cohort": cohort, "ablation": True, "cells": cells}
    write_plan(root, SweepPlan.model_validate(document))
    return root


if __name__ == "__main__":
    print(make_runs(Path(sys.argv[1])))
