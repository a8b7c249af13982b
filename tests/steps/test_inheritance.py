"""What an extension begins with: the files of its parent, once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.errors import RunError
from workbench.records.pretrained import PRETRAINED_FILE
from workbench.records.run_folder import EVENTS_FILE, RunFolder
from workbench.steps import inheritance
from workbench.steps.inheritance import take_up_parent

SPEC: dict[str, Any] = {"method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path, str]]:
    """(parent's checkpoints, own ones, settings) of each time that checkpoints are taken up."""
    calls: list[tuple[Path, Path, str]] = []
    monkeypatch.setattr(inheritance, "take_up", lambda *given: calls.append(given))
    return calls


def extension(folder: Path, kind: str = "extended", parent: str = "parent") -> Any:
    derived = {"kind": kind, "parents": [parent], "after": 8}
    run = RunFolder.create(folder / "e", SPEC | {"run": "child", "derived": derived})
    return SimpleNamespace(run=run, training_settings=lambda: "settings")


def parent_run(folder: Path) -> RunFolder:
    run = RunFolder.create(folder / "e", SPEC | {"run": "parent"})
    run.scalar("train/objective", 0.5, 8)
    return run


def test_events_and_checkpoints_are_taken_over(tmp_path: Path, taken: list[Any]) -> None:
    parent, setup = parent_run(tmp_path), extension(tmp_path)
    take_up_parent(setup)
    assert setup.run.path(EVENTS_FILE).read_bytes() == parent.path(EVENTS_FILE).read_bytes()
    assert not setup.run.path(PRETRAINED_FILE).exists(), "the parent started from no file"
    assert taken == [(parent.folder / "checkpoints", setup.run.folder / "checkpoints", "settings")]
    parent.path(PRETRAINED_FILE).write_text("{}")
    take_up_parent(setup)
    assert setup.run.path(PRETRAINED_FILE).read_text() == "{}"


def test_what_has_a_checkpoint_is_left_alone(tmp_path: Path, taken: list[Any]) -> None:
    """Its events are further than those of the parent."""
    parent_run(tmp_path)
    setup = extension(tmp_path)
    setup.run.checkpoint("last").with_suffix(".safetensors").write_bytes(b"")
    take_up_parent(setup)
    assert not setup.run.path(EVENTS_FILE).exists()
    assert taken == []


def test_other_runs_have_no_parent_to_take_up(tmp_path: Path, taken: list[Any]) -> None:
    parent_run(tmp_path)
    take_up_parent(extension(tmp_path, kind="pooled"))
    plain: Any = SimpleNamespace(run=RunFolder.create(tmp_path / "e", SPEC | {"run": "plain"}))
    take_up_parent(plain)
    assert taken == []


def test_a_parent_that_is_gone_is_named(tmp_path: Path, taken: list[Any]) -> None:
    with pytest.raises(RunError, match="gone"):
        take_up_parent(extension(tmp_path, parent="gone"))
    assert taken == []
