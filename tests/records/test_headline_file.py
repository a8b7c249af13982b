"""The numbers a run wrote down, read from anybody's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.records.headline_file import HEADLINE_FILE, read_headline

NUMBER = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}


def test_numbers_are_read_and_names_made_visible(tmp_path: Path) -> None:
    assert read_headline(tmp_path) == {}
    (tmp_path / HEADLINE_FILE).write_text(
        json.dumps({"dice WT": NUMBER | {"later": 1, "n_subjects": 2}, "a\u202eb": NUMBER | {"value": None}})
    )
    assert read_headline(tmp_path) == {"dice WT": NUMBER | {"n_subjects": 2}, "a\\u202eb": NUMBER | {"value": None}}


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"a": 1},
        {"a": NUMBER | {"n": -1}},
        {"a": NUMBER | {"n_subjects": 0.5}},
        {"a": NUMBER | {"value": "0.5"}},
        {"a": {"value": 1.0}},
    ],
)
def test_other_things_are_refused(tmp_path: Path, wrong: object) -> None:
    (tmp_path / HEADLINE_FILE).write_text(json.dumps(wrong))
    with pytest.raises(RunError, match=HEADLINE_FILE):
        read_headline(tmp_path)
