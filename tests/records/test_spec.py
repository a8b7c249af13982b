"""What was asked of a run: its document, checked, and the name that follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asked_run import make_spec

from workbench.errors import RunError
from workbench.records.run_folder import RunFolder, run_id


def test_id_depends_on_parameters_and_cohort_only() -> None:
    assert run_id({"a": 1, "b": 2}, "f") == run_id({"b": 2, "a": 1}, "f")
    assert len({run_id({"a": 1}, "f"), run_id({"a": 2}, "f"), run_id({"a": 1}, "g")}) == 3


@pytest.mark.parametrize("name", ["../escape", "a/b", ".hidden", ""])
def test_a_run_name_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="run"):
        RunFolder.create(tmp_path, make_spec(run=name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("content", "reason"), [("{", "JSON"), ("[]", "does not describe"), ('{"run": "x"}', "method")])
def test_a_damaged_spec_says_what_is_wrong(run: RunFolder, content: str, reason: str) -> None:
    (run.folder / "spec.json").write_text(content)
    with pytest.raises(RunError, match=reason):
        RunFolder.open(run.folder)


def test_a_run_named_as_in_the_list_is_pointed_at(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder.parents[2])
    with pytest.raises(RunError, match=r"run folder demo/abc123 is not there; did you mean runs/demo/abc123\?"):
        RunFolder.open("demo/abc123")


def test_newer_schema_is_refused(run: RunFolder) -> None:
    spec = json.loads((run.folder / "spec.json").read_text())
    (run.folder / "spec.json").write_text(json.dumps(spec | {"schema_version": 99}))
    with pytest.raises(RunError, match="newer"):
        RunFolder.open(run.folder)
