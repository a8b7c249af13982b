"""Rows of metrics.parquet and markers.parquet of made-up cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

FULL = "t1+t1c+t2+flair"


def metrics(cases: int = 8, *, presents: tuple[str, ...] = (FULL,), seed: int = 0, split: str = "test") -> pd.DataFrame:
    """Two cases per subject; every fourth case has no ET, and its sensitivity is undefined there."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(cases):
        for present in presents:
            for region in ("ET", "WT"):
                empty = region == "ET" and index % 4 == 0
                for metric in ("dice", "sensitivity"):
                    value = (np.nan if metric == "sensitivity" else 0.0) if empty else rng.uniform(0.6, 1)
                    rows.append(
                        (f"c{index}", f"s{index // 2}", "north", 0, split, present, region, metric, value, 0 if empty else 50, 60)
                    )
    names = ["case", "subject", "site", "fold", "split", "present", "region", "metric", "value", "n_truth", "n_prediction"]
    return pd.DataFrame(rows, columns=names)


def markers(n: int = 60, *, seed: int = 0, split: str = "test", skill: float = 1.0) -> pd.DataFrame:
    """IDH and a three-class grade; the truth does not depend on the seed."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    truth, grade = fixed.random(n) < 0.5, fixed.integers(2, 5, n)
    rows = []
    for index in range(n):
        who = {
            "case": f"{split}{index:03d}",
            "subject": f"{split}{index:03d}",
            "site": "north",
            "fold": 0,
            "split": split,
            "present": FULL,
        }
        logit = rng.normal() + skill * (2 * truth[index] - 1)
        known = np.nan if index == 7 else float(truth[index])
        rows.append({**who, "marker": "idh", "class": "mutant", "truth": known, "logit": logit, "probability": expit(logit)})
        scores = rng.normal(size=3) + 2 * skill * (np.arange(2, 5) == grade[index])
        probability = np.exp(scores) / np.exp(scores).sum()
        for place, name in enumerate("234"):
            row = {"truth": float(grade[index] == int(name)), "logit": scores[place], "probability": probability[place]}
            rows.append({**who, "marker": "grade", "class": name, **row})
    return pd.DataFrame(rows)
