from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.errors import InputError, ParameterError, RunError
from workbench.evaluation.comparison import holm
from workbench.files import write_parquet
from workbench.records.run_folder import RunFolder
from workbench.reports.comparison import compare


def run(root: Path, name: str, region: str, cases: list[str], values: list[float], **asked: Any) -> RunFolder:
    cohort = {"name": "tiny", "phantom": True}
    spec = {"run": name, "method": "unet", "experiment": "default", "parameters": asked, "cohort": cohort}
    made = RunFolder.create(root, spec)
    rows = {"case": cases, "subject": cases, "site": "a", "fold": 0, "split": "test", "present": "t1", "region": region}
    table = pd.DataFrame(rows | {"metric": "dice", "value": values, "n_truth": 5, "n_prediction": 5})
    write_parquet(made.path("metrics.parquet"), table)
    columns = ["case", "subject", "site", "fold", "split", "present", "marker", "class", "truth", "logit", "probability"]
    write_parquet(made.path("markers.parquet"), pd.DataFrame(columns=columns))
    return made


def test_the_difference_is_first_minus_second(tmp_path: Path) -> None:
    first = run(tmp_path, "one", "WT", ["a", "b", "c"], [0.5, 0.7, 0.9])
    second = run(tmp_path, "two", "WT", ["a", "b", "c"], [0.4, 0.6, 0.8])
    table = compare(first, second, resamples=200)
    assert table["difference"].tolist() == pytest.approx([0.1])
    assert table["n"].tolist() == [3]
    line = table.iloc[0]
    assert (line["test"], line["p"], line["better"], line["worse"]) == ("sign flips", 0.25, 1.0, 0.0)
    assert table[["low", "high", "shift_low"]].isna().all(axis=None), "three subjects"
    said = "no interval: 3 subjects, 6 are needed; 3 subjects: p could not have come out below 0.25"
    assert line["remark"] == said


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path, "one", "WT", ["a", "b"], [0.5, 0.7])
    with pytest.raises(RunError, match="no region or marker in common"):
        compare(first, run(tmp_path, "lesions", "lesion", ["x", "y"], [0.4, 0.6]))
    with pytest.raises(InputError, match="c"):
        compare(first, run(tmp_path, "others", "WT", ["a", "c"], [0.4, 0.6]))
    with pytest.raises(RunError, match="at least two"):
        compare(first)


def test_a_pair_that_was_not_treated_alike_says_in_what(tmp_path: Path) -> None:
    common: dict[str, Any] = {"optimiser": "sgd", "learning_rate": 0.01, "augment": True, "modality_dropout": 0.0}
    asked = {"one": common, "two": common | {"modality_dropout": 0.3, "mirror": "xyz"}}
    runs = [run(tmp_path, name, "WT", ["a", "b"], [0.5, 0.7], **values) for name, values in asked.items()]
    (remark,) = compare(*runs, resamples=100)["remark"]
    assert remark.endswith("not alike in sequences shown in training, augmentation or mirroring")


def test_what_cannot_be_asked_is_named(tmp_path: Path) -> None:
    first, second = (run(tmp_path, name, "WT", ["a", "b"], [0.5, 0.7]) for name in ("one", "two"))
    with pytest.raises(RunError, match="split 'train' is not judged; there are validation, test, external"):
        compare(first, second, split="train")
    with pytest.raises(ParameterError, match="penalty 'zero' is unknown"):
        compare(first, second, penalty="zero")
    with pytest.raises(RunError, match="is named twice"):
        compare(first, second, first.folder)


def test_a_marker_of_too_few_cases_says_why_it_has_no_number(tmp_path: Path) -> None:
    runs = [run(tmp_path, name, "WT", ["a", "b"], [0.5, 0.7]) for name in ("one", "two")]
    for made in runs:
        rows = {"case": ["a", "b"], "subject": ["a", "b"], "site": "a", "fold": 0, "split": "test", "present": "t1"}
        table = pd.DataFrame(rows | {"marker": "idh", "class": "mutant", "truth": [0.0, 1.0], "logit": 0.0, "probability": 0.5})
        write_parquet(made.path("markers.parquet"), table)
    table = compare(*runs, resamples=100).set_index("of")
    assert table.loc["WT", "remark"].startswith("no interval: 2 subjects, 6 are needed; 2 subjects: p could not")
    assert set(table.loc["idh mutant", "remark"]) == {"not estimable: 1 positive and 1 negative subjects, 10 of each are needed"}
    assert table.loc["idh mutant", "difference"].isna().all()


def test_three_runs_are_one_family_and_each_pair_is_what_two_runs_give(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases = [f"c{index:02d}" for index in range(20)]
    runs = [run(tmp_path, name, "WT", cases, rng.uniform(0.5, 0.9, 20).tolist()) for name in ("one", "two", "three")]
    table = compare(*runs, resamples=200)
    assert list(zip(table["first"], table["second"], strict=True)) == [
        ("unet one", "unet two"), ("unet one", "unet three"), ("unet two", "unet three")
    ]  # fmt: skip
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"]))
    assert set(table["remark"]) == {""}
    alone = compare(*runs[1:], resamples=200).drop(columns="p_holm")
    pd.testing.assert_frame_equal(table.drop(columns="p_holm").tail(1).reset_index(drop=True), alone)
