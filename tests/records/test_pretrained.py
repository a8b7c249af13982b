"""What a run says about the weights it started from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.records.pretrained import PRETRAINED_FILE, PretrainedRecord, read_pretrained_record


def test_a_run_from_random_weights_has_nothing_to_say(tmp_path: Path) -> None:
    found = read_pretrained_record(tmp_path)
    assert found == PretrainedRecord()
    assert (found.mark, found.caution, found.as_dict()) == ("", "", None)


@pytest.mark.parametrize(
    ("verdict", "mark"),
    [("contaminated", "⚠ contaminated test"), ("unknown", "⚠ contamination unknown"), ("clean", "")],
)
def test_the_verdict_is_told_where_the_test_is_not_known_to_be_clean(tmp_path: Path, verdict: str, mark: str) -> None:
    coverage = {"file": "w.pt", "title": "BrainSegFounder", "matched": 7}
    document = {"coverage": coverage, "contamination": {"verdict": verdict, "sentence": "It has seen 3 of them."}}
    (tmp_path / PRETRAINED_FILE).write_text(json.dumps(document))
    found = read_pretrained_record(tmp_path)
    assert found.mark == mark
    assert found.caution == ("It has seen 3 of them." if mark else "")
    assert found.as_dict() == {
        "file": "w.pt", "title": "BrainSegFounder", "verdict": verdict, "sentence": "It has seen 3 of them.",
    }  # fmt: skip
    assert found.document == document


@pytest.mark.parametrize("content", ["{", "[]", '{"coverage": {"file": "w.pt"}}', '{"contamination": 3}'])
def test_a_damaged_record_is_not_taken_for_a_clean_one(tmp_path: Path, content: str) -> None:
    (tmp_path / PRETRAINED_FILE).write_text(content)
    found = read_pretrained_record(tmp_path)
    assert found.mark == "⚠ contamination unknown"
    assert "pretrained.json is damaged" in found.caution
