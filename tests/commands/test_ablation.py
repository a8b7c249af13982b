"""`workbench ablation`: one document, and exit 1 where something was refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from workbench.cli import app
from workbench.records.sweep_plan import read_plan


def test_the_command_prints_one_document(small_sweep: Path) -> None:
    done = CliRunner().invoke(app, ["ablation", "attention", "--runs", str(small_sweep), "--outcomes", "dice", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["family"] == 5
    assert document["states"] == {"completed": 4}
    assert len(document["cells"]) == 4
    assert {row["arm"] for row in document["deltas"]} == {"no_attention"}


def test_a_refused_switch_ends_the_command_with_1_and_stands_in_the_table(small_sweep: Path) -> None:
    words = ["ablation", "attention", "--runs", str(small_sweep), "--outcomes", "dice"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert "Dice, mts_unet\n  baseline: WT 0." in done.stdout
    assert "\n  no_attention against baseline, 2/2 runs\n    WT   " in done.stdout
    assert "Not all runs are finished" not in done.stderr
    assert "4 of 4" in done.stderr
    assert "4 of 4" not in done.stdout
    path = small_sweep / read_plan(small_sweep, "attention").cells[2].run / "metrics.parquet"
    table = pd.read_parquet(path)
    table[table["case"] != table.loc[table["split"] == "test", "case"].iloc[0]].to_parquet(path)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "Refused: mts_unet, no_attention: 1 cases were judged in the first run only" in done.stderr
