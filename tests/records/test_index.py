"""The list of runs: complete, tolerant, fast."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest

from workbench import files
from workbench.records.index import KnownRows, RunRow, list_runs
from workbench.records.run_folder import RunFolder


def spec_of(name: str) -> dict:
    return {
        "run": name,
        "method": "unet",
        "experiment": "e",
        "parameters": {"seed": 1},
        "cohort": {"name": "demo", "phantom": True},
    }


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    good = RunFolder.create(tmp_path / "runs" / "e", spec_of("good"))
    good.claim(device="cpu")
    good.set_status("completed", budget={"steps": 10})
    return tmp_path / "runs"


def by_name(runs: Path) -> dict[str, RunRow]:
    return {Path(row.run).name: row for row in list_runs(runs)}


def test_a_good_run(runs: Path) -> None:
    (row,) = list_runs(runs)
    assert (row.run, row.state, row.method, row.cohort, row.phantom) == ("e/good", "completed", "unet", "demo", True)
    assert row.budget == {"steps": 10}
    assert row.seconds is not None
    assert row.seconds < 60


def test_no_folder_is_no_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "spec.json").write_text("not json"), "JSON"),
        (lambda f: (f / "spec.json").write_bytes(b"\xff\xfe\x00"), "JSON"),
        (lambda f: (f / "spec.json").unlink(), "half-copied"),
        (lambda f: (f / "status.json").unlink(), r"status\.json"),
        (lambda f: (f / "status.json").write_text('{"state": "dreaming"}'), "status"),
        (lambda f: (f / "status.json").write_text("[1]"), "status"),
        (lambda f: ((f / "spec.json").unlink(), (f / "spec.json").mkdir()), r"spec\.json"),
    ],
)
def test_a_damaged_run_is_a_row_and_hides_nothing(runs: Path, damage, reason: str) -> None:
    damage(RunFolder.create(runs / "e", spec_of("bad")).folder)
    rows = by_name(runs)
    assert rows["good"].state == "completed"
    assert rows["bad"].state == "unreadable"
    assert not rows["bad"].readable
    assert __import__("re").search(reason, rows["bad"].reason)


def test_no_permission_is_a_row(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder.create(runs / "e", spec_of("secret"))
    real = files.open_regular

    def refuse(path: Path) -> BinaryIO:
        if "secret" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(files, "open_regular", refuse)
    rows = by_name(runs)
    assert rows["good"].state == "completed"
    assert "Permission denied" in rows["secret"].reason


def test_rows_that_are_known_follow_their_files(runs: Path) -> None:
    known: KnownRows = {}
    assert [row.state for row in list_runs(runs, known=known)] == ["completed"]
    (first,) = list_runs(runs, known=known)
    assert list_runs(runs, known=known)[0] is first, "nothing changed"
    silent = RunFolder.create(runs / "e", spec_of("silent"))
    silent.claim()
    silent.set_status("running", host="elsewhere", pid=None)
    silent.heartbeat()
    for name in ("heartbeat", "status.json"):
        os.utime(silent.folder / name, (1, 1))
    assert {row.state for row in list_runs(runs, known=known)} == {"completed", "interrupted"}
    os.utime(silent.folder / "heartbeat")
    assert {row.state for row in list_runs(runs, known=known)} == {"completed", "running"}, "its heart beats again"
    (silent.folder / "maps").mkdir()
    (silent.folder / "maps" / "x").symlink_to("/etc")
    assert {row.state for row in list_runs(runs, known=known)} == {"completed", "unreadable"}
    (silent.folder / "maps" / "x").unlink()
    assert {row.state for row in list_runs(runs, known=known)} == {"completed", "running"}
    shutil.rmtree(silent.folder)
    assert list_runs(runs, known=known) == [first]
    assert len(known) == 1


def test_a_link_to_nowhere_is_a_row(runs: Path) -> None:
    (runs / "e" / "gone").symlink_to(runs / "not-there")
    assert by_name(runs)["gone"].state == "unreadable"


def test_temporary_folders_and_files_are_no_runs(runs: Path) -> None:
    (runs / "e" / ".1234.tmp").mkdir()
    (runs / ".logs").mkdir()
    (runs / "note.txt").write_text("hello")
    assert list(by_name(runs)) == ["good"]


def test_newest_first_unreadable_last(runs: Path) -> None:
    for name, moment in (("old", "2020-01-01T00:00:00+00:00"), ("new", "2099-01-01T00:00:00+00:00")):
        run = RunFolder.create(runs / "e", spec_of(name))
        run.set_status("queued", created=moment)
    (runs / "e" / "broken").mkdir()
    assert [Path(row.run).name for row in list_runs(runs)] == ["new", "good", "old", "broken"]


def test_interrupted_says_why(runs: Path) -> None:
    run = RunFolder.create(runs / "e", spec_of("dead"))
    run.claim()
    run.set_status("running", pid=2**22 + 1)  # beyond any process number
    row = by_name(runs)["dead"]
    assert row.state == "interrupted"
    assert "resume" in row.reason
