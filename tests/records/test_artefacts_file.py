"""Files of a finished run are what they were, or refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from recorded_run import make_recorded_run

from workbench.errors import RunError
from workbench.records.artefacts_file import ARTEFACTS_FILE, check_unchanged, read_artefacts
from workbench.records.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_recorded_run(tmp_path)


def test_what_was_not_touched_passes(run: RunFolder) -> None:
    check_unchanged(run.folder / "metrics.parquet")
    os.utime(run.folder / "metrics.parquet")  # a copy has other times
    check_unchanged(run.folder / "metrics.parquet")
    check_unchanged(run.folder / "not there")
    (run.folder / "new").write_text("x")
    check_unchanged(run.folder / "new")


def test_other_bytes_and_other_sizes_are_told(run: RunFolder) -> None:
    path = run.folder / "metrics.parquet"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="other bytes"):
        check_unchanged(path)
    path.write_bytes(content + b"x")
    with pytest.raises(RunError, match="bytes and has"):
        check_unchanged(path)
    content[0] ^= 1
    path.write_bytes(content)
    check_unchanged(path)


@pytest.mark.parametrize("document", ["[]", "{", '{"run": "a", "inputs": {}, "files": {"metrics.parquet": 3}}', '{"run": 3}'])
def test_a_damaged_record_is_told(run: RunFolder, document: str) -> None:
    (run.folder / ARTEFACTS_FILE).write_text(document)
    with pytest.raises(RunError, match=ARTEFACTS_FILE):
        read_artefacts(run.folder)
    with pytest.raises(RunError, match=ARTEFACTS_FILE):
        check_unchanged(run.folder / "metrics.parquet")


def test_keys_of_the_future_stay(run: RunFolder) -> None:
    path = run.folder / ARTEFACTS_FILE
    document = json.loads(path.read_text()) | {"later": [1]}
    path.write_text(json.dumps(document))
    assert read_artefacts(run.folder) == document


def test_without_a_record_nothing_is_checked(run: RunFolder) -> None:
    (run.folder / ARTEFACTS_FILE).unlink()
    (run.folder / "metrics.parquet").write_bytes(b"other")
    check_unchanged(run.folder / "metrics.parquet")
