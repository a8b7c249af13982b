"""`workbench pool`: the run folder on standard output, what is to be known of it on standard error."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import RunError


@pytest.mark.parametrize(("words", "given"), [([], (True, True)), (["--without-external", "--quiet"], (False, False))])
def test_the_pooled_run_is_printed_and_its_notes_are_said(
    words: list[str], given: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[Path], dict[str, Any]]] = []

    def pool(folders: list[Path], **options: Any) -> SimpleNamespace:
        asked.append((folders, options))
        return SimpleNamespace(folder=Path("runs/e/pooled"), status={"notes": ["fold 1 lacks a case"]})

    monkeypatch.setattr("workbench.experiments.pooling.pool", pool)
    done = CliRunner().invoke(app, ["pool", "runs/e/a", "runs/e/b", *words])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "runs/e/pooled\n", "note: fold 1 lacks a case\n")
    assert asked == [([Path("runs/e/a"), Path("runs/e/b")], {"external": given[0], "progress": given[1]})]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["pool", str(tmp_path / "a"), str(tmp_path / "b")])
    assert isinstance(done.exception, RunError)
    assert done.stdout == ""
