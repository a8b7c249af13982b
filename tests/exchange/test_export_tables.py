"""What an export says of a run, and where it may be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.exchange.export_csv import export_csv
from workbench.exchange.export_mlflow import export_mlflow
from workbench.exchange.export_tables import export_name, identity, open_runs, quality_of, summary_table
from workbench.records.run_folder import RunFolder


def test_nothing_is_exported_into_a_run_folder(runs: list[RunFolder], tmp_path: Path) -> None:
    before = sorted(path.name for path in runs[0].folder.iterdir())
    for out in (runs[0].folder, runs[0].folder / "csv"):
        with pytest.raises(RunError, match="an export goes to a folder of its own"):
            export_csv([runs[0].folder], out)
        with pytest.raises(RunError, match="an export goes to a folder of its own"):
            export_mlflow([runs[0].folder], out)
    assert sorted(path.name for path in runs[0].folder.iterdir()) == before


def test_every_run_is_told_apart_and_one_given_twice_is_one(runs: list[RunFolder]) -> None:
    done, failed = open_runs([runs[0].folder, runs[1].folder, runs[0].folder])
    assert identity(done) == {
        "run": done.folder.name, "experiment": "demo", "method": "mts_unet", "title": "mts_unet", "run_fold": "", "seed": 2,
        "cohort": "demo", "phantom": True,
    }  # fmt: skip
    assert export_name(failed) == f"demo_{failed.folder.name}"
    with pytest.raises(RunError, match="at least one run"):
        open_runs([])


def test_a_run_that_is_not_evaluated_has_the_columns_and_no_rows(runs: list[RunFolder]) -> None:
    done, failed = (summary_table(run) for run in runs)
    assert failed.empty
    assert list(failed.columns) == list(done.columns)
    assert done["n"].dtype == "Int64", "a count stays a whole number where another kind of result has none"
    assert done["n_positive"].isna().any()


def test_a_region_has_its_quality_where_it_is_and_apart_how_often_it_was_found(runs: list[RunFolder]) -> None:
    run = runs[0]
    table = summary_table(run).set_index(["split", "of", "metric"])
    rows = run.metrics().query("split == 'test' and region == 'ET'")
    dice, distance = (rows[(rows["metric"] == name)] for name in ("dice", "hd95"))
    there = dice["n_truth"].to_numpy() > 0
    line = table.loc[("test", "ET", "dice")]
    assert line["value"] == pytest.approx(dice["value"][there].mean())
    assert line["value_all"] == pytest.approx(dice["value"].mean())
    assert (line["n"], line["statistic"]) == (there.sum(), "mean")
    far = table.loc[("test", "ET", "hd95")]
    assert (far["value"], far["statistic"], far["penalty"]) == (
        pytest.approx(distance["value"][there].median()), "median", "grid_diagonal"
    )  # fmt: skip
    found = table.loc[("test", "ET", "found")]
    assert (found["value"], found["n"], found["statistic"]) == (
        pytest.approx((dice["value"][there] > 0).mean()), there.sum(), "share"
    )  # fmt: skip


def test_what_an_interval_is_worth_is_said() -> None:
    assert [quality_of(*row) for row in ((float("nan"), 60), (0.1, 14), (0.1, 15))] == ["none", "rough", ""]
