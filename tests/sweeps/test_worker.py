"""A sweep's driver: runs are taken once, resumed, given up with a reason; several workers share one file."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort
from workbench.errors import RunError, RunHeldError
from workbench.execution.debug_executor import DebugExecutor
from workbench.jobs.executors import Job, LocalExecutor, Ticket
from workbench.jobs.slots import SlotPool
from workbench.records.run_folder import RunFolder
from workbench.records.status import process_created
from workbench.records.sweep_plan import SweepPlan, cell_row, list_plans, read_plan
from workbench.sweeps.sweep_file import plan_sweep
from workbench.sweeps.worker import Sweep, SweepReport, job_of, pending

CONTENT = {
    "experiment": "e",
    "methods": ["unet"],
    "parameters": {"size": "demo", "threads": 1},
    "ablation": {"switches": {"wide": {"width": 12}, "narrow": {"width": 6}}},
}


class Pretended:
    """An executor that does at once what a test wants a run to do."""

    name = "pretended"

    def __init__(self, act: Callable[[RunFolder], None], room: int = 2) -> None:
        self.act, self.room, self.jobs = act, room, []
        self.most: int | None = None

    def capacity(self) -> int:
        return self.room

    def submit(self, jobs: Sequence[Job]) -> list[Ticket]:
        assert len(jobs) <= self.room
        assert self.most is None or len(self.jobs) < self.most, "the same run again and again"
        for job in jobs:
            self.jobs.append(job.name)
            self.act(RunFolder.open(job.folder))
        return [Ticket(job, job.name) for job in jobs]

    def finished(self, ticket: Ticket) -> bool:
        return True

    def cancel(self, ticket: Ticket) -> None:
        raise AssertionError("nothing is left to cancel")

    def reason(self, ticket: Ticket) -> str:
        return "the pretended reason"


def complete(run: RunFolder) -> None:
    run.claim()
    run.set_status("completed")


def sweep_file(folder: Path, cohort: Cohort, **changes: object) -> Path:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, "cohort": str(cohort.folder), "runs": "runs", **changes}))
    return path


@pytest.fixture
def planned(tiny_cohort: Cohort, tmp_path: Path) -> tuple[SweepPlan, Path]:
    return plan_sweep(sweep_file(tmp_path, tiny_cohort))


def work(planned: tuple[SweepPlan, Path], executor: Pretended, **options: object) -> SweepReport:
    return Sweep(*planned, executor, poll=0.01, **options).run()


def states(planned: tuple[SweepPlan, Path]) -> dict[str, str]:
    plan, runs = planned
    return {cell.condition: cell_row(runs, cell).state for cell in plan.cells}


def test_what_is_missing_is_run_and_what_is_done_is_skipped(planned: tuple[SweepPlan, Path]) -> None:
    plan, runs = planned
    assert states(planned) == {"baseline": "missing", "wide": "missing", "narrow": "missing"}
    assert not (runs / "e").exists(), "a plan makes no run folder"
    first = Pretended(complete)
    report = work(planned, first, threads=3)
    assert report.completed
    assert report.counts() == {"completed": 3}
    assert sorted(first.jobs) == sorted(cell.run for cell in plan.cells)
    assert read_plan(runs, "s") == plan
    assert list_plans(runs) == ["s"]
    assert not list((runs / ".sweeps" / "workers").iterdir()), "a worker that ended leaves no heartbeat"
    again = Pretended(complete)
    assert work(planned, again).completed
    assert again.jobs == []
    assert pending(*planned) == []


def test_a_signal_to_a_run_of_the_debug_executor_ends_the_sweep(planned: tuple[SweepPlan, Path], monkeypatch) -> None:
    def paused(method: str, values: dict, **_: object) -> None:
        run = next(
            RunFolder.open(planned[1] / cell.run) for cell in planned[0].cells if cell.parameters.items() <= values.items()
        )
        run.claim()
        run.set_status("interrupted")
        raise RunError("interrupted on request")

    monkeypatch.setattr("workbench.execution.debug_executor.run_notebook", paused)
    with pytest.raises(KeyboardInterrupt):
        work(planned, DebugExecutor())
    assert sorted(states(planned).values()) == ["interrupted", "missing", "missing"]


def test_threads_are_recorded_where_the_parameters_name_none(tiny_cohort: Cohort, tmp_path: Path) -> None:
    planned = plan_sweep(sweep_file(tmp_path, tiny_cohort, parameters={"size": "demo"}))
    work(planned, Pretended(complete), threads=3)
    assert {RunFolder.open(planned[1] / cell.run).spec["threads"] for cell in planned[0].cells} == {3}


def test_a_failure_is_reported_with_its_reason_and_does_not_stop_the_others(planned: tuple[SweepPlan, Path]) -> None:
    narrow = next(cell.run for cell in planned[0].cells if cell.condition == "narrow")

    def act(run: RunFolder) -> None:
        run.claim()
        if run.folder.name == narrow.split("/")[1]:
            run.set_status("failed", error="cell 7: the loss is not finite")
        else:
            run.set_status("completed")

    executor, lines = Pretended(act), []
    report = work(planned, executor, report=lines.append)
    assert not report.completed
    assert report.counts() == {"completed": 2, "failed": 1}
    assert executor.jobs.count(narrow) == 1, "what failed is not tried again by itself"
    assert any("failed" in line and "the loss is not finite" in line and "narrow" in line for line in lines)
    repaired = Pretended(complete)
    assert work(planned, repaired).completed
    assert repaired.jobs == [narrow], "another call tries it again, and nothing else"


def test_a_run_that_ends_before_it_begins_has_the_executors_reason(planned: tuple[SweepPlan, Path]) -> None:
    report = work(planned, Pretended(lambda run: None))
    assert {outcome.reason for outcome in report.outcomes} == {"the pretended reason"}
    assert report.counts() == {"failed": 3}


def test_what_ends_before_it_begins_is_tried_once_by_every_sweep(planned: tuple[SweepPlan, Path]) -> None:
    for _ in range(2):
        executor = Pretended(lambda run: None, room=3)
        executor.most = 3
        assert work(planned, executor).counts() == {"failed": 3}
        assert len(executor.jobs) == 3, "not over and over: nothing about the run folder changes"


def test_a_damaged_run_folder_does_not_hold_up_the_others(planned: tuple[SweepPlan, Path]) -> None:
    work(planned, Pretended(lambda run: None))  # makes the folders
    broken = planned[0].cells[1].run
    (planned[1] / broken / "status.json").write_text("{")
    executor = Pretended(complete)
    report = work(planned, executor)
    assert broken not in executor.jobs
    assert [outcome.state for outcome in report.outcomes] == ["completed", "failed", "completed"]
    assert "status.json" in report.outcomes[1].reason


def vanished(run: RunFolder) -> None:
    """What a killed process leaves: a status that says running, of a process that is gone."""
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    run.claim()
    run.set_status("running", pid=gone.pid, pid_created=1.0)


def test_an_interrupted_run_is_resumed_as_often_as_allowed(planned: tuple[SweepPlan, Path]) -> None:
    executor = Pretended(vanished, room=3)
    report = work(planned, executor, retries=2)
    assert {executor.jobs.count(cell.run) for cell in planned[0].cells} == {3}
    assert all(outcome.state == "failed" and "vanished 3 times" in outcome.reason for outcome in report.outcomes)


def test_a_run_that_another_worker_takes_up_meanwhile_does_not_fail(planned: tuple[SweepPlan, Path]) -> None:
    plan, runs = planned
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = {"host": socket.gethostname(), "pid": other.pid, "pid_created": process_created(other.pid)}

        class Hesitating(Pretended):
            def reason(self, ticket: Ticket) -> str:
                assert RunFolder.open(ticket.job.folder).queue(theirs)
                return ""

        sweep = Sweep(plan, runs, Hesitating(vanished), retries=0)
        run = sweep._open(plan.cells[0])
        vanished(run)
        sweep.outcomes[0].tries = 1
        sweep._ended(sweep.outcomes[0], Ticket(job_of(plan, plan.cells[0], runs), "1"))
        assert run.status["state"] == "queued"
        assert run.status["worker"]["pid"] == other.pid
        other.communicate(b"\n")


def test_what_another_worker_pools_is_waited_for(tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([RunHeldError("being run by process 1"), RunHeldError("being run by process 1"), None])

    def pool(runs: Sequence[Path], **_: object) -> SimpleNamespace:
        if error := next(held):
            raise error
        return SimpleNamespace(folder=runs[0].parent / "pooled")

    monkeypatch.setattr("workbench.experiments.pooling.pool", pool)
    planned = plan_sweep(sweep_file(tmp_path, tiny_cohort, folds="all", ablation=None))
    report = work(planned, Pretended(complete))
    assert report.completed
    assert report.pooled == ["e/pooled"]


def test_nothing_is_started_once_the_cohort_has_changed(tiny_cohort: Cohort, tmp_path: Path) -> None:
    copied = Cohort.create(tmp_path / "c", tiny_cohort.info, absolute(tiny_cohort))
    planned = plan_sweep(sweep_file(tmp_path, copied))

    def act(run: RunFolder) -> None:
        complete(run)
        info = tmp_path / "c" / "cohort.json"
        info.write_text(info.read_text().replace('"tiny"', '"tidy"'))

    executor = Pretended(act, room=1)
    report = work(planned, executor)
    assert len(executor.jobs) == 1
    assert "changed while the sweep was running" in report.stopped
    assert not report.completed
    assert list(states(planned).values()).count("missing") == 2


def test_runs_of_folds_that_were_dealt_anew_are_neither_taken_up_nor_counted(tiny_cohort: Cohort, tmp_path: Path) -> None:
    copied = Cohort.create(tmp_path / "c", tiny_cohort.info, absolute(tiny_cohort))
    planned = plan_sweep(sweep_file(tmp_path, copied))

    def act(run: RunFolder) -> None:
        complete(run)
        make_folds(copied, seed=3, overwrite=True)

    executor = Pretended(act, room=1)
    assert "had its folds dealt anew while the sweep was running" in work(planned, executor).stopped
    assert len(executor.jobs) == 1
    report = work(planned, Pretended(complete))
    assert report.counts() == {"failed": 1, "completed": 2}
    assert "was begun on other folds" in report.outcomes[0].reason


def absolute(cohort: Cohort):
    table = cohort.cases.copy()
    for name in (*cohort.modalities, "segmentation"):
        table[name] = [None if pd.isna(path) else str(cohort.folder / path) for path in table[name]]
    return table


def test_another_file_of_the_same_name_is_refused(planned: tuple[SweepPlan, Path], tiny_cohort: Cohort, tmp_path: Path) -> None:
    work(planned, Pretended(complete))
    (tmp_path / "other").mkdir()
    path = sweep_file(tmp_path / "other", tiny_cohort)
    other = plan_sweep(path, runs=planned[1])
    with pytest.raises(RunError, match="give this one another `name:`"):
        work(other, Pretended(complete))


def test_two_files_that_ask_for_the_same_run_share_it(tiny_cohort: Cohort, tmp_path: Path) -> None:
    first = plan_sweep(sweep_file(tmp_path, tiny_cohort))
    work(first, Pretended(complete))
    second = plan_sweep(sweep_file(tmp_path, tiny_cohort, name="t", ablation={"switches": {"broad": {"width": 12}}}))
    executor = Pretended(complete)
    assert work(second, executor).completed
    assert executor.jobs == []


def test_a_living_worker_keeps_what_it_queued_and_a_dead_one_does_not(planned: tuple[SweepPlan, Path]) -> None:
    plan, runs = planned
    work(planned, Pretended(lambda run: None))  # makes the folders; all failed
    run = RunFolder.open(runs / plan.cells[0].run)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        mine = {"host": socket.gethostname(), "pid": other.pid, "pid_created": process_created(other.pid)}
        assert run.queue(mine)
        assert not run.queue({"host": socket.gethostname(), "pid": os.getpid()})
        other.communicate(b"\n")
    assert run.queue({"host": socket.gethostname(), "pid": os.getpid()})


def _worker(path: Path, started: multiprocessing.synchronize.Barrier) -> None:
    plan, runs = plan_sweep(path)

    def act(run: RunFolder) -> None:
        time.sleep(0.002)
        complete(run)

    started.wait()
    assert Sweep(plan, runs, Pretended(act, room=3), poll=0.005).run().completed


def test_workers_started_together_run_everything_exactly_once(tiny_cohort: Cohort, tmp_path: Path) -> None:
    path = sweep_file(tmp_path, tiny_cohort, seeds=list(range(12)))
    plan, runs = plan_sweep(path)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    workers = [context.Process(target=_worker, args=(path, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert worker.exitcode == 0
    attempts = [RunFolder.open(runs / cell.run).status["attempts"] for cell in plan.cells]
    assert attempts == [1] * 36


def test_stopping_a_sweep_asks_its_runs_to_save_and_leaves_them_resumable(
    planned: tuple[SweepPlan, Path], tmp_path: Path
) -> None:
    """The run is a small program here; what a real one does on SIGTERM is tested with the notebooks."""
    program = (
        "import signal, sys, time; from workbench.records.run_folder import RunFolder; run = RunFolder.open(sys.argv[1]); "
        "run.claim()\n"
        "def stop(*_):\n    run.set_status('interrupted', error='saved'); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\nopen(sys.argv[1] + '/ready', 'w')\ntime.sleep(60)"
    )

    class Small(Job):
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-c", program, str(self.folder)]

    class Executor(LocalExecutor):
        def submit(self, jobs: Sequence[Job]) -> list[Ticket]:
            return super().submit([Small(**vars(job)) for job in jobs])

    plan, runs = planned
    executor = Executor(SlotPool(2, folder=tmp_path / "slots", gpus=()))

    class Watching(Sweep):
        def _look(self) -> bool:
            if len(list((runs / "e").glob("*/ready"))) == 2:
                raise KeyboardInterrupt
            return super()._look()

    with pytest.raises(KeyboardInterrupt):
        Watching(plan, runs, executor, poll=0.05).run()
    assert sorted(states(planned).values()) == ["interrupted", "interrupted", "missing"]
    deadline = time.monotonic() + 30
    while executor.capacity() < 2:
        assert time.monotonic() < deadline, "the slots are free again"
        time.sleep(0.1)


def test_a_stopped_sweep_asks_all_its_runs_at_the_same_time(planned: tuple[SweepPlan, Path]) -> None:
    met = threading.Barrier(2)

    class Slow(Pretended):
        def finished(self, ticket: Ticket) -> bool:
            if len(self.jobs) == 2:
                raise KeyboardInterrupt
            return False

        def cancel(self, ticket: Ticket) -> None:
            met.wait(timeout=20)  # broken where the second is asked after the first has ended

    with pytest.raises(KeyboardInterrupt):
        work(planned, Slow(lambda run: run.claim(), room=2))
    assert not met.broken
