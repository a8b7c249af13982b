"""What a notebook shows of a pretraining: its results, and the verdict on its features."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.errors import RunError
from workbench.evaluation.collapse import Collapse
from workbench.files import write_parquet
from workbench.records.run_folder import RunFolder
from workbench.reports import pretraining as module
from workbench.reports.pretraining import collapse_report, pretraining_table, reconstruction_pictures


@pytest.fixture
def setup_of(tmp_path: Path) -> Any:
    spec = {"run": "r", "method": "pretrain_swin", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    return SimpleNamespace(
        run=RunFolder.create(tmp_path / "e", spec), parameters=SimpleNamespace(method="pretrain_swin", resamples=100, maps=2),
        cohort=SimpleNamespace(info=SimpleNamespace(name="demo", phantom=True)), training={"best_step": 4},
        cases_by_split={"validation": pd.DataFrame({"case": ["a", "b"]}), "test": pd.DataFrame({"case": []})},
    )  # fmt: skip


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(module, "trained_pretraining", lambda setup: None)
    monkeypatch.setattr(module, "display", lambda what: seen.append(what.data))
    return seen


def test_results_are_means_per_split_with_titles(setup_of: Any) -> None:
    with pytest.raises(RunError, match="is not evaluated yet"):
        pretraining_table(setup_of)
    rows = [
        {"case": case, "subject": case, "site": "s", "fold": 0, "split": split, "present": "t1", "region": "brain",
         "metric": metric, "value": value, "n_truth": 9, "n_prediction": 9}
        for split, cases in (("validation", "ab"), ("test", "cde")) for number, case in enumerate(cases)
        for metric, value in (("reconstruction_l1", float(number)), ("rotation_accuracy", 1.0))
    ]  # fmt: skip
    write_parquet(setup_of.run.path("metrics.parquet"), pd.DataFrame(rows))
    table = pretraining_table(setup_of)
    assert list(table.columns) == ["n", "Reconstruction L1 (z-score)", "Rotations named rightly"]
    assert table["n"].to_dict() == {"validation": 2, "test": 3}
    assert table.loc["test", "Reconstruction L1 (z-score)"].startswith("1.00")
    assert table.columns.name == "phantom cohort demo"


def test_monitors_are_those_of_the_training_and_of_the_kept_checkpoint(
    setup_of: Any, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Collapse(effective_rank=30.0, directions=64, between_subjects=0.2, within_subjects=0.9, off_diagonal=0.5, subjects=2)
    monkeypatch.setattr(module, "measure_collapse", lambda *_: found)
    for step, rank in ((2, 10.0), (4, 29.0), (4, 31.0)):  # step 4 was recorded again after an interruption
        setup_of.run.scalar("collapse/effective_rank", rank, step)
        setup_of.run.scalar("train/objective", 1.0, step)
    for name in ("between_subjects", "within_subjects", "off_diagonal"):
        setup_of.run.scalar(f"collapse/{name}", 0.25, 4)
    table = collapse_report(setup_of)
    assert table["effective rank of tokens (at most 64)"].to_dict() == {"step 2": 10.0, "step 4": 31.0, "kept: step 4": 30.0}
    assert np.isnan(table.loc["step 2", "similarity between subjects"])
    assert table.loc["kept: step 4", "one sequence to all, same subject"] == 0.9
    assert shown == [f"**{found.sentence}** (2 validation cases of phantom cohort demo)"]


def test_where_nothing_can_be_monitored_or_shown_it_is_said(
    setup_of: Any, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_collapse", lambda *_: None)
    with pytest.raises(RunError, match="pretrain_swin has no token features, or there is no validation case"):
        collapse_report(setup_of)
    reconstruction_pictures(setup_of)
    assert shown == ["*There is no test case to show.*"]
