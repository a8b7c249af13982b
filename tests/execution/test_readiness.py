"""Checks before a run starts: numbers and the way out in every refusal; a disk that fills up in the middle of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench.cohort.table import Cohort
from workbench.errors import RunError
from workbench.execution import readiness
from workbench.execution.readiness import FLOOR, Need, check_ready, crowded, estimate, small_memory, unwritable
from workbench.records.run_folder import RESERVE_FILE, RunFolder
from workbench.setup.opening import open_run
from workbench.setup.parameters import ExperimentParameters

Usage = namedtuple("Usage", "total used free")
SPEC = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}


def build(cohort: Cohort, runs: Path, **values: Any) -> ExperimentParameters:
    given = {"cohort": str(cohort.folder), "runs": str(runs), "size": "demo", "spacing": 4.0} | values
    return ExperimentParameters.build("unet", given)


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(readiness.shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - count, count))


def test_an_ordinary_run_is_ready(tiny_cohort: Cohort, tmp_path: Path) -> None:
    parameters = build(tiny_cohort, tmp_path, workers=1)
    _, run = open_run(parameters)
    check_ready(parameters, tiny_cohort, run)


def test_the_estimate_grows_with_what_is_written(tiny_cohort: Cohort, tmp_path: Path) -> None:
    sizes = []
    for values in ({"spacing": 3.7}, {"spacing": 1.85}, {"spacing": 3.7, "size": "paper"}):
        parameters = build(tiny_cohort, tmp_path, **values)
        _, run = open_run(parameters)
        sizes.append(estimate(parameters, tiny_cohort, run))
    coarse, fine, paper = sizes
    assert fine.prepared == pytest.approx(8 * coarse.prepared, rel=0.01)
    native = 36 * 44 * 30
    assert coarse.prepared == pytest.approx(12 * 0.5 * native * (4 * 4 * 5 / 3.7**3) * 10, rel=0.01), (
        "half the grid, 4 x 2 + 2 bytes"
    )
    assert paper.checkpoints > 10 * coarse.checkpoints
    assert fine.predictions == coarse.predictions > 0, "predictions are on the native grid"


def test_a_full_disk_is_refused_with_the_numbers_and_the_way_out(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = build(tiny_cohort, tmp_path)
    _, run = open_run(parameters)
    free(monkeypatch, FLOOR // 2)
    with pytest.raises(
        RunError, match=r"has 100 MB free, the run needs about \d+ MB.*workbench runs prune.*WORKBENCH_SKIP_CHECKS=1"
    ):
        check_ready(parameters, tiny_cohort, run)
    monkeypatch.setenv("WORKBENCH_SKIP_CHECKS", "1")
    with pytest.warns(UserWarning, match="100 MB free"):
        check_ready(parameters, tiny_cohort, run)


def test_what_lies_on_one_disk_is_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, FLOOR + 250)
    assert crowded(tmp_path, tmp_path, Need(prepared=100, checkpoints=100, predictions=50)) == []
    assert len(crowded(tmp_path, tmp_path, Need(prepared=101, checkpoints=100, predictions=50))) == 1


def test_shared_memory_that_is_too_small_names_size_and_remedy(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 64_000_000)
    paper = build(tiny_cohort, tmp_path, size="paper", patch=128, batch_size=2, workers=4).resolve()
    (text,) = small_memory(paper, 4, tmp_path)
    assert "64 MB free" in text
    assert "4 data loading processes" in text
    assert "-p workers=0" in text
    assert small_memory(paper.model_copy(update={"workers": 0}), 4, tmp_path) == []
    assert small_memory(paper, 4, tmp_path / "not there") == []
    free(monkeypatch, 450_000_000)
    assert "-p workers=2" in small_memory(paper, 4, tmp_path)[0], (
        "128^3 x 2 samples x (4 x 4 + 8) bytes x 2 batches = 201 MB each"
    )


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unwritable(tmp_path) == ""
    assert list(tmp_path.iterdir()) == [], "the attempt leaves nothing"
    assert "cannot be written" in unwritable(tmp_path / "not there")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"no run folder can be made in .*file"):
        RunFolder.create(tmp_path / "file", SPEC)


# -- a disk that is full ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB, of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount") or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("mounting a small disk needs the rights of root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave not a byte."""
    with (disk / "filler").open("wb", buffering=0) as handle:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    handle.write(b"x" * size)

            except OSError:
                continue


def test_how_a_run_ended_can_be_written_on_a_full_disk(small_disk: Path) -> None:
    run = RunFolder.create(small_disk / "e", SPEC)
    run.claim()
    fill(small_disk)
    with pytest.raises(OSError, match="space"):
        (run.folder / "more").write_bytes(b"x" * 10_000)
    run.set_status("failed", error="the disk is full")
    assert (run.state, run.status["error"]) == ("failed", "the disk is full")
    assert not (run.folder / RESERVE_FILE).exists(), "what was held back has been used"
    (small_disk / "filler").unlink()
    run.claim()
    assert (run.folder / RESERVE_FILE).stat().st_size > 0
    run.set_status("completed")
    assert not (run.folder / RESERVE_FILE).exists()


@pytest.mark.slow
@pytest.mark.nightly  # the chaos tests fill a disk too
def test_a_disk_that_fills_up_in_the_middle_fails_the_run_clearly_and_it_resumes(tiny_cohort: Cohort, small_disk: Path) -> None:
    values = {"size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 2, "resamples": 100, "maps": 0, "threads": 1,
              "width": 4, "levels": 3, "patch": 32, "subsets": "none"}  # fmt: skip
    parts = [sys.executable, "-m", "workbench.cli", "run", "unet", "--cohort", str(tiny_cohort.folder), "--runs", str(small_disk)]
    command = parts + [text for name, value in values.items() for text in ("-p", f"{name}={value}")]
    environment = os.environ | {"WORKBENCH_SKIP_CHECKS": "1"}
    (run_folder,) = [
        open_run(ExperimentParameters.build("unet", values | {"cohort": str(tiny_cohort.folder), "runs": str(small_disk)}))[1]
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "kernel_pid" not in run_folder.status:
        assert process.poll() is None, process.communicate()[1]
    fill(small_disk)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 1
    assert f"the disk that holds {run_folder.folder} is full" in said
    assert run_folder.effective_state() in ("failed", "interrupted")
    assert "is full" in str(run_folder.status.get("error", "is full")), "where there was room to write it down"
    (small_disk / "filler").unlink()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert run_folder.state == "completed"
