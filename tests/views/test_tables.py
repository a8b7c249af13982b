"""Tables that people read: runs, headlines, marker metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from workbench.evaluation.markers import make_sample, marker_metrics
from workbench.evaluation.summaries import headline
from workbench.records.index import RunRow, list_runs
from workbench.records.run_folder import RunFolder
from workbench.views.tables import (
    duration_text,
    found_text,
    headline_title,
    marker_table,
    runs_table,
    state_cell,
    time_text,
)


def test_texts() -> None:
    assert (duration_text(None), duration_text(42), duration_text(391), duration_text(7300)) == (
        "",
        "42 s",
        "6 min 31 s",
        "2 h 1 min",
    )
    assert time_text("nonsense") == "nonsense"
    assert headline_title("auc codel") == "AUC 1p/19q"
    assert headline_title("auc grade 4") == "AUC grade 4"


def test_runs_table(runs_folder: Path) -> None:
    rows = list_runs(runs_folder)
    done = next(row for row in rows if row.state == "completed" and row.parameters["seed"] == 1)
    run = RunFolder.open(runs_folder / done.run)
    numbers = headline(run.metrics(), run.markers(), resamples=50)
    table = runs_table(rows, {done.run: numbers})
    assert list(table.index) == [row.run for row in rows]
    cell = table.loc[done.run, "Dice WT"]
    assert f"{numbers['dice WT'].value:.2f}" in cell
    assert "n = 60" in cell
    assert "phantom cohort demo" in table.loc[done.run, "Cohort"]
    broken = next(row for row in rows if not row.readable)
    assert "unreadable" in table.loc[broken.run, "Status"]
    assert "JSON" in table.loc[broken.run, "Status"]


def test_text_from_disk_is_escaped() -> None:
    row = RunRow("e/<i>", "e", "failed", reason='<script>"x"</script>', method="<b>")
    cells = " ".join(runs_table([row], {}).iloc[0].astype(str)) + state_cell(row, "dark")
    assert "<script>" not in cells
    assert "<b>" not in cells
    assert '"x"' not in cells


def test_missed_and_invented_regions_are_said() -> None:
    rows = [
        {"region": "WT", "n_with": 60, "n_found": 60, "n_without": 0, "n_false": 0},
        {"region": "TC", "n_with": 60, "n_found": 58, "n_without": 0, "n_false": 0},
        {"region": "ET", "n_with": 57, "n_found": 50, "n_without": 3, "n_false": 1},
        {"region": "RC", "n_with": 20, "n_found": 20, "n_without": 40, "n_false": 2},
    ]
    assert found_text(pd.DataFrame(rows)) == (
        "TC found in 58 of 60; ET found in 50 of 57, falsely in 1 of 3 without; RC falsely found in 2 of 40 without"
    )
    assert found_text(pd.DataFrame(rows[:1])) == ""


def test_marker_table_has_counts_and_intervals() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    good = marker_metrics(make_sample(truth, np.clip(truth * 0.4 + rng.random(40) * 0.6, 0, 1)), resamples=50)
    few = marker_metrics(make_sample([0, 1, 1], [0.1, 0.4, 0.6]))
    table = marker_table({"a": good, "b": few}).set_index("Metric")
    assert table.loc["Cases", "a"] == "n = 40: 20 positive, 20 negative"
    assert "(" in table.loc["AUC", "a"]
    assert table.loc["AUC", "b"] == "not estimable: 2 positive and 1 negative subjects, 10 of each are needed"
    assert "(" not in table.loc["ECE", "a"].replace("(no interval)", ""), "chance alone makes an ECE"
