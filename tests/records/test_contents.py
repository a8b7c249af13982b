"""What may lie in a run folder; all kinds are tried in test_crafted_runs.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.records.contents import check_contents


def test_files_folders_and_links_within_are_fine(tmp_path: Path) -> None:
    (tmp_path / "run" / "maps").mkdir(parents=True)
    (tmp_path / "run" / "maps" / "a").write_text("x")
    (tmp_path / "run" / "b").symlink_to("maps/a")
    (tmp_path / "run" / "nowhere").symlink_to("maps/gone")
    check_contents(tmp_path / "run")
    (tmp_path / "link").symlink_to("run")
    check_contents(tmp_path / "link")
    check_contents(tmp_path / "missing")


@pytest.mark.parametrize("target", ["..", "../run2/secret", "/etc/passwd", "maps/../../run2"])
def test_a_link_that_leads_out_is_named(tmp_path: Path, target: str) -> None:
    (tmp_path / "run" / "maps").mkdir(parents=True)
    (tmp_path / "run2").mkdir()
    (tmp_path / "run" / "maps" / "x").symlink_to(target if target.startswith("/") else f"../{target}")
    with pytest.raises(RunError, match="maps/x is a link that leads out of it"):
        check_contents(tmp_path / "run")


def test_a_pipe_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    with pytest.raises(RunError, match="p is no file but a pipe"):
        check_contents(tmp_path)
