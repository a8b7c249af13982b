"""Runs in this process, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workbench.errors import RunError
from workbench.execution import debug_executor
from workbench.execution.debug_executor import DebugExecutor
from workbench.jobs.executors import Job
from workbench.records.run_folder import RunFolder


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Two jobs whose run folders are there, as a sweep makes them."""
    for name in ("a", "b"):
        spec = {"run": name, "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
        RunFolder.create(tmp_path / "runs" / "e", spec)
    made = [Job(f"e/{name}", "unet", tmp_path / "c", {"epochs": 3}, tmp_path / "runs", tmp_path / "log") for name in "ab"]
    return [Job(**vars(made[0]) | {"options": ("--quiet", "--timeout", "2.5")}), made[1]]


def test_one_job_is_done_when_it_is_taken_and_its_options_reach_it(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any], float]] = []
    monkeypatch.setattr(
        debug_executor, "run_notebook", lambda method, values, *, timeout, **_: asked.append((method, values, timeout))
    )
    executor = DebugExecutor()
    (ticket,) = executor.submit(jobs)
    assert ticket.job.name == "e/a"
    assert executor.finished(ticket)
    assert executor.reason(ticket) == ""
    values = {"epochs": 3, "cohort": str(jobs[0].cohort), "runs": str(jobs[0].runs)}
    assert asked == [("unet", values, 2.5)]
    executor.submit(jobs[1:])
    assert asked[1] == ("unet", values, 0.0), "no limit unless one is given"


def test_what_failed_says_why_and_an_interruption_is_meant_for_the_sweep(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RunError("cell 7: no such case")

    monkeypatch.setattr(debug_executor, "run_notebook", fail)
    executor = DebugExecutor()
    (ticket,) = executor.submit(jobs)
    assert executor.reason(ticket) == "cell 7: no such case"
    run = RunFolder.open(jobs[0].folder)
    run.claim()
    run.set_status("interrupted")
    with pytest.raises(KeyboardInterrupt):
        executor.submit(jobs)
