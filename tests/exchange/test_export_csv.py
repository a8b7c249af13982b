"""Runs as CSV: nothing is lost, and every column is explained."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from workbench.exchange.export_csv import DICTIONARY, export_csv
from workbench.records.run_folder import RunFolder


def test_csv_tables_are_those_of_the_run(runs: list[RunFolder], tmp_path: Path) -> None:
    out = export_csv([run.folder for run in runs], tmp_path / "csv")
    mine = out / f"demo_{runs[0].folder.name}"
    for name in ("metrics", "markers", "subset_metrics", "subset_markers"):
        table = getattr(runs[0], name)()
        found = pd.read_csv(mine / f"{name}.csv", dtype={"case": str, "subject": str, "class": str})
        pd.testing.assert_frame_equal(found, table.reset_index(drop=True), check_dtype=False)
        joined = pd.read_csv(out / f"{name}.csv")
        assert len(joined) == len(table)
        assert set(joined["run"]) == {runs[0].folder.name}
        assert joined["phantom"].all()
    assert json.loads((mine / "spec.json").read_text()) == runs[0].spec
    listed = pd.read_csv(out / "runs.csv").set_index("run")
    assert listed.loc[runs[1].folder.name, "status"] == "failed"
    assert json.loads(listed.loc[runs[0].folder.name, "parameters"])["seed"] == 2
    summary = pd.read_csv(mine / "summary.csv").set_index(["split", "of", "metric"]).sort_index()
    row = summary.loc[("test", "WT", "dice")]
    values = runs[0].metrics().query("split == 'test' and region == 'WT' and metric == 'dice'")["value"]
    assert row["value"] == pytest.approx(values.mean())
    assert row["low"] < row["value"] < row["high"]
    assert row["n"] == 30
    assert ("test", "idh mutant", "auc") in summary.index
    assert "Phantom results" in (out / "README.txt").read_text()


def test_every_column_is_in_the_data_dictionary(runs: list[RunFolder], tmp_path: Path) -> None:
    out = export_csv([runs[0].folder], tmp_path / "csv")
    dictionary = pd.read_csv(out / "data_dictionary.csv")
    assert list(dictionary["column"]) == list(DICTIONARY)
    assert dictionary["description"].notna().all()
    for path in out.rglob("*.csv"):
        if path.name != "data_dictionary.csv":
            assert set(pd.read_csv(path, nrows=1).columns) <= set(dictionary["column"]), path.name
