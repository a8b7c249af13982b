"""Slots of this machine: shared by all, held by the run, dealt to the GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.errors import ParameterError
from workbench.jobs.slots import SlotPool, visible_gpus


def test_slots_are_shared_by_all_and_held_by_the_run(tmp_path: Path) -> None:
    one, two = (SlotPool(2, folder=tmp_path, gpus=()) for _ in range(2))
    slot = one.take()
    assert slot is not None
    assert two.free() == 1
    with slot:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=slot.descriptors)
    assert two.free() == 1, "the child holds it"
    child.communicate(b"\n")
    assert two.free() == 2
    assert slot.environment["OMP_NUM_THREADS"] == str(one.threads)


def test_gpus_go_by_uuid_and_a_run_on_two_takes_two(tmp_path: Path) -> None:
    pool = SlotPool(4, folder=tmp_path, gpus=("GPU-a", "GPU-b"))
    assert pool.names() == ["GPU-a-0", "GPU-b-0", "GPU-a-1", "GPU-b-1"]
    both = pool.take(2)
    assert both is not None
    assert both.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    single = pool.take()
    assert single is not None
    assert single.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert pool.take(2) is None, "only one GPU has a slot left"
    assert pool.free() == 1, "what could not be used was given back"


def test_a_run_on_more_gpus_than_there_are_is_started_and_says_so_itself(tmp_path: Path) -> None:
    slot = SlotPool(2, folder=tmp_path, gpus=("GPU-a",)).take(2)
    assert slot is not None, "nobody waits for a GPU that will never be there"
    assert slot.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a"


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, ("GPU-aa1", "GPU-bb2")),
        ("1", ("GPU-bb2",)),
        ("GPU-bb,0", ("GPU-bb2", "GPU-aa1")),
        ("MIG-7", ("MIG-7",)),
        ("", ()),
        ("-1", ()),
    ],
)
def test_gpus_are_those_of_the_driver_that_the_environment_allows(
    allowed: str | None, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho GPU-aa1\necho GPU-bb2\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert visible_gpus() == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(ParameterError, match="names '7', and nvidia-smi lists GPU-aa1"):
        visible_gpus()
