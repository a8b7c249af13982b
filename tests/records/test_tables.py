"""Tables of runs as anybody may have written them; kinds of damage are tried in test_crafted_runs.py."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.errors import RunError
from workbench.records.tables import METRICS_FILE, SUBSET_METRICS_FILE, read_events, read_table

ROW = {"case": "a", "subject": "s", "split": "test", "region": "WT", "metric": "dice", "value": 0.5}


def test_a_table_is_read(tmp_path: Path) -> None:
    assert read_table(tmp_path / METRICS_FILE) is None
    pd.DataFrame([ROW]).to_parquet(tmp_path / METRICS_FILE)
    assert read_table(tmp_path / METRICS_FILE)["value"].tolist() == [0.5]
    pd.DataFrame([ROW | {"value": None, "case": None}]).astype({"case": "category"}).to_parquet(tmp_path / METRICS_FILE)
    assert len(read_table(tmp_path / METRICS_FILE)) == 1


@pytest.mark.parametrize(
    ("change", "said"), [({"value": "x"}, "'value' holds no numbers"), ({"case": 3}, "'case' holds no text")]
)
def test_another_table_is_refused_by_column(tmp_path: Path, change: dict[str, object], said: str) -> None:
    pd.DataFrame([ROW | change]).to_parquet(tmp_path / METRICS_FILE)
    with pytest.raises(RunError, match=said):
        read_table(tmp_path / METRICS_FILE)


def test_a_table_of_subsets_says_how_to_make_it_anew(tmp_path: Path) -> None:
    pd.DataFrame([ROW]).to_parquet(tmp_path / SUBSET_METRICS_FILE)
    with pytest.raises(RunError, match=r"'present' is missing.*workbench robustness"):
        read_table(tmp_path / SUBSET_METRICS_FILE)


def test_too_many_rows_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame([ROW] * 3).to_parquet(tmp_path / METRICS_FILE)
    monkeypatch.setattr("workbench.records.tables.MOST_ROWS", 2)
    with pytest.raises(RunError, match="too large"):
        read_table(tmp_path / METRICS_FILE)


def test_half_lines_and_foreign_ones_are_left_out(tmp_path: Path) -> None:
    good = b'{"name": "train/a", "step": 1, "value": 2}\n'
    (tmp_path / "events.jsonl").write_bytes(good + b'{"name": 1, "step": 1e999, "value": 1}\n[[\n\xff\n' + good[:20])
    assert read_events(tmp_path / "events.jsonl").to_dict("records") == [{"name": "train/a", "step": 1, "value": 2.0}]
