"""Real sweeps under real trouble: many at once, killed at random moments, no space, a read-only disk, a clock that jumps.

The nightly form of the first test (`WORKBENCH_NIGHTLY=1`) starts over fifty kernels, eight at once, from two sweeps.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from workbench.cohort.table import Cohort
from workbench.files import file_digest
from workbench.records.run_folder import RunFolder
from workbench.records.status import is_alive
from workbench.sweeps.sweep_file import plan_sweep

pytestmark = [pytest.mark.slow, pytest.mark.notebook]

RUNS = 52 if os.environ.get("WORKBENCH_NIGHTLY") else 8
TINY = {
    "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "resamples": 100, "maps": 0,
    "threads": 1, "subsets": "none", "width": 4, "levels": 3, "patch": 32,
}  # fmt: skip
LONGER = {**TINY, "epochs": 6, "steps_per_epoch": 4, "ema": 0.9}


def sweep_file(folder: Path, cohort: Cohort, seeds: int, parameters: dict[str, object], runs: str = "runs") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "experiment": "e", "cohort": str(cohort.folder), "runs": runs, "methods": ["unet"], "seeds": list(range(seeds)),
        "parameters": parameters,
    }  # fmt: skip
    (folder / "s.yaml").write_text(yaml.safe_dump(content))
    return folder / "s.yaml"


@pytest.fixture(autouse=True, scope="module")
def own_temporary_folder() -> Iterator[Path]:
    """Slots and kernels' sockets lie in the temporary folder: no other test's come between. Short, as sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    yield folder
    del os.environ["TMPDIR"]
    if before is not None:
        os.environ["TMPDIR"] = before
    shutil.rmtree(folder, ignore_errors=True)


def start(file: Path, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-m", "workbench.cli", "sweep", str(file), *options]
    log = (file.parent / f"sweep-{time.monotonic_ns()}.log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, cwd=file.parent)


def said(file: Path) -> str:
    return "\n".join(path.read_text()[-2500:] for path in sorted(file.parent.glob("sweep-*.log")))


def folders(file: Path) -> list[RunFolder]:
    plan, runs = plan_sweep(file)
    return [RunFolder.open(runs / cell.run) for cell in plan.cells]


def assert_equal(one: RunFolder, other: RunFolder) -> None:
    """To the bit: weights, tables, masks, and what was recorded on the way."""
    assert one.folder.name == other.folder.name
    pd.testing.assert_frame_equal(one.metrics(), other.metrics())
    pd.testing.assert_frame_equal(one.markers(), other.markers())
    events = [run.events().sort_values(["name", "step"]).reset_index(drop=True) for run in (one, other)]
    pd.testing.assert_frame_equal(*events)
    for name in ("checkpoints/best.safetensors", "checkpoints/last.safetensors"):
        first, second = (load_file(run.folder / name) for run in (one, other))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    masks = sorted(path.name for path in (one.folder / "predictions").glob("*.nii.gz"))
    assert masks == sorted(path.name for path in (other.folder / "predictions").glob("*.nii.gz"))
    for name in masks:
        assert file_digest(one.folder / "predictions" / name) == file_digest(other.folder / "predictions" / name), name


def test_two_sweeps_on_one_file_run_everything_exactly_once(
    tiny_cohort: Cohort, tmp_path: Path, own_temporary_folder: Path
) -> None:
    """Eight at once on this machine; no run lost, none twice, no kernel that did not start."""
    file = sweep_file(tmp_path, tiny_cohort, RUNS, TINY)
    workers = [start(file, "--slots", "8") for _ in range(2)]
    most = 0
    while any(worker.poll() is None for worker in workers):
        most = max(
            most, sum(str(tmp_path) in line and "workbench.cli run" in line for line in map(_command, psutil.process_iter()))
        )
        time.sleep(0.5)
    assert [worker.returncode for worker in workers] == [0, 0], said(file)
    runs = folders(file)
    assert len(runs) == RUNS
    assert [(run.state, run.status["attempts"]) for run in runs] == [("completed", 1)] * RUNS
    assert all(len(run.metrics()) > 0 for run in runs)
    logs = [path.read_text() for path in (tmp_path / "runs").rglob("*.log")]
    assert not [log for log in logs if "Address already in use" in log or "Traceback" in log]
    assert most >= min(RUNS, 6), "they did run at once"
    assert not list(own_temporary_folder.glob("wb-*")), "sockets are cleared away"


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def undisturbed(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    file = sweep_file(tmp_path_factory.mktemp("undisturbed"), tiny_cohort, 3, LONGER)
    assert start(file, "--slots", "2").wait(timeout=500) == 0, said(file)
    return {run.folder.name: run for run in folders(file)}


def test_kills_at_random_moments_change_nothing(tiny_cohort: Cohort, undisturbed: dict[str, RunFolder], tmp_path: Path) -> None:
    """kill -9 of sweep, driver, kernel and data worker; the sweep again, until all is completed: the same to the bit."""
    seed = int(os.environ.get("WORKBENCH_CHAOS_SEED", time.time_ns() % 10_000))
    print(f"WORKBENCH_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    file = sweep_file(tmp_path, tiny_cohort, 3, {**LONGER, "workers": 1})
    killed: list[str] = []
    for victim in ("kernel", "sweep", "driver", "data worker", "sweep and all"):
        worker = start(file, "--slots", "2", "--retries", "0")
        deadline = time.monotonic() + 90
        log, before = max(tmp_path.glob("sweep-*.log")), None  # a run that this sweep follows, and a step of it
        while worker.poll() is None and time.monotonic() < deadline:
            if before is None and "running" in log.read_text():
                before = steps(tmp_path / "runs")
            if before is not None and steps(tmp_path / "runs") > before:
                break
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1.5))
        killed += kill(victim, worker, tmp_path / "runs", chance)
        worker.kill()  # the next sweep finds what was not hit going on
        worker.wait(timeout=60)
    assert len(killed) >= 3, f"too quick to be hit: only {killed}"
    for _ in range(4):  # what was hit is failed or interrupted; nobody is asked more than to say it again
        last = start(file, "--slots", "2")
        if last.wait(timeout=500) == 0:
            break
    assert last.returncode == 0, said(file)
    for run in folders(file):
        assert_equal(undisturbed[run.folder.name], run)


def steps(runs: Path) -> int:
    """How much the runs have recorded so far."""
    return sum(path.stat().st_size for path in runs.rglob("events.jsonl"))


def kill(victim: str, worker: subprocess.Popen[str], runs: Path, chance: random.Random) -> list[str]:
    """Kill -9 one process of a kind, or all; returns what was hit."""
    statuses = [RunFolder.open(path.parent).status for path in runs.glob("*/*/spec.json")]
    running = [status for status in statuses if status["state"] == "running"]
    chosen = chance.choice(running) if running else {}
    pids = {"sweep": [worker.pid], "driver": [chosen.get("pid")], "kernel": [chosen.get("kernel_pid")]}
    if victim == "sweep and all":
        targets = [worker.pid, *(status.get(key) for status in running for key in ("pid", "kernel_pid"))]
    elif victim == "data worker":
        kernel = chosen.get("kernel_pid")
        children = psutil.Process(kernel).children() if kernel and psutil.pid_exists(kernel) else []
        targets = [child.pid for child in children][:1]
    else:
        targets = pids[victim]
    hit = []
    for pid in targets:
        if pid and is_alive(pid, None):
            os.kill(pid, signal.SIGKILL)
            hit.append(victim)
    return hit


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MB: too small for a run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_and_a_read_only_disk_are_survived(
    tiny_cohort: Cohort, undisturbed: dict[str, RunFolder], tmp_path: Path, disk: Path
) -> None:
    file = sweep_file(tmp_path, tiny_cohort, 1, LONGER, runs=str(disk / "runs"))
    assert start(file, "--slots", "1").wait(timeout=100) == 1
    assert "free" in said(file), "refused before it begins: " + said(file)
    os.environ["WORKBENCH_SKIP_CHECKS"] = "1"
    try:
        assert start(file, "--slots", "1").wait(timeout=300) == 1
        assert "is full" in said(file), said(file)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert start(file, "--slots", "1").wait(timeout=100) == 1
        assert "read-only" in said(file).lower(), said(file)
        assert "Traceback" not in said(file)
        subprocess.run(["mount", "-o", "remount,rw,size=400m", str(disk)], check=True)
        assert start(file, "--slots", "1").wait(timeout=300) == 0, said(file)
    finally:
        del os.environ["WORKBENCH_SKIP_CHECKS"]
    (run,) = folders(file)
    assert_equal(undisturbed[run.folder.name], run)


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime (Debian package faketime) is not installed")
def test_a_clock_two_days_ahead_takes_nothing_twice(tiny_cohort: Cohort, tmp_path: Path) -> None:
    file = sweep_file(tmp_path, tiny_cohort, 2, TINY)
    first = start(file, "--slots", "1")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "runs").rglob("status.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    second = start(file, "--slots", "1", before=("faketime", "-f", "+2d"))
    assert first.wait(timeout=300) == 0, said(file)
    assert second.wait(timeout=300) == 0, said(file)
    assert [(run.state, run.status["attempts"]) for run in folders(file)] == [("completed", 1)] * 2
