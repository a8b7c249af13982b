"""Runs as processes of this machine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from workbench.jobs.executors import Job, LocalExecutor, Ticket
from workbench.jobs.slots import SlotPool


def test_a_process_that_has_ended_is_not_signalled_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quick(Job):
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-c", "pass"]

    executor = LocalExecutor(SlotPool(1, folder=tmp_path / "slots", gpus=()))
    job = Quick("e/r", "unet", tmp_path, {}, tmp_path, tmp_path / "log")
    (ticket,) = executor.submit([job])
    while not executor.finished(ticket):
        time.sleep(0.05)
    signalled: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid))
    monkeypatch.setattr(os, "killpg", lambda group, number: signalled.append(group))
    executor.cancel(ticket)
    assert not signalled, "the number may be a stranger's by now"


def test_the_command_is_that_of_the_command_line_and_its_last_line_is_the_reason(tmp_path: Path) -> None:
    job = Job("e/r", "unet", tmp_path / "c", {"epochs": 3}, tmp_path / "runs", tmp_path / "log", options=("--quiet",))
    assert job.folder == tmp_path / "runs" / "e" / "r"
    assert job.command[1:5] == ["-m", "workbench.cli", "run", "unet"]
    assert job.command[-1] == "--quiet"
    executor = LocalExecutor(SlotPool(1, folder=tmp_path / "slots", gpus=()))
    assert executor.reason(Ticket(job, "1")) == "", "it has printed nothing"
    job.log.write_bytes(b"loading\nno such cohort \xff\n\n")
    assert executor.reason(Ticket(job, "1")) == "no such cohort \ufffd"


def test_no_more_is_started_than_there_are_slots(tmp_path: Path) -> None:
    class Waiting(Job):
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-c", "import time; time.sleep(60)"]

    executor = LocalExecutor(SlotPool(1, folder=tmp_path / "slots", gpus=()))
    assert executor.capacity() == 1
    tickets = executor.submit([Waiting(f"e/{n}", "unet", tmp_path, {}, tmp_path, tmp_path / f"{n}.log") for n in range(2)])
    try:
        assert [ticket.job.name for ticket in tickets] == ["e/0"]
        assert executor.capacity() == 0
    finally:
        for ticket in tickets:
            executor.cancel(ticket)
    assert all(executor.finished(ticket) for ticket in tickets)
