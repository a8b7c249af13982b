"""Runs as SLURM jobs: through submitit's local executor, and through a real SLURM on this machine."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from workbench.errors import RunError
from workbench.jobs.executors import Job, Ticket
from workbench.jobs.slurm import SlurmOptions, job_states, jobs_in_queue, slurm_job_of
from workbench.jobs.slurm_executor import SlurmExecutor, SlurmTicket
from workbench.jobs.slurm_script import slurm_script
from workbench.records.run_folder import RunFolder

if TYPE_CHECKING:
    from tests.jobs.conftest import SlurmCluster

pytestmark = pytest.mark.slow

RUN = """
import os, signal, sys, time
from workbench.records.run_folder import RunFolder

run, steps = RunFolder.open(sys.argv[1]), int(sys.argv[2])
run.claim()
run.path("environment.txt").write_text(" ".join(os.environ.get(name, "-") for name in ("WORKBENCH_MARK", "CUDA_VISIBLE_DEVICES")))
signal.signal(signal.SIGTERM, lambda *_: run.request_pause())
saved = run.checkpoint("step")
step = int(saved.read_text()) if saved.exists() else 0
while step < steps and not run.should_stop():
    step += 1
    run.scalar("train/step", time.time(), step)
    with run.path("steps.txt").open("a") as handle:
        print(step, file=handle)
    time.sleep(0.1)
run.path("checkpoints").mkdir(exist_ok=True)
saved.write_text(str(step))
if step < steps:
    run.set_status("interrupted" if run.is_paused() else "cancelled")
    sys.exit(1)
run.set_status("completed")
"""
"""A run without a network: counts steps, saves when it is asked to stop, goes on where it was."""


@dataclass(frozen=True)
class CountingJob(Job):
    script: Path = Path()
    steps: int = 10

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(self.script), str(self.folder), str(self.steps)]


MakeJobs = Callable[..., list[Job]]


@pytest.fixture
def make_jobs(tmp_path: Path) -> MakeJobs:
    script = tmp_path / "run.py"
    script.write_text(RUN)

    def make(count: int, steps: int = 10, **environment: str) -> list[Job]:
        jobs: list[Job] = []
        for index in range(count):
            cohort = {"name": "demo", "path": "../../cohort", "fingerprint": "f", "phantom": True}
            spec = {"run": f"r{index}", "method": "unet", "experiment": "e", "parameters": {"seed": index}, "cohort": cohort}
            run = RunFolder.create(tmp_path / "runs" / "e", spec)
            run.queue({"host": "elsewhere", "executor": "slurm", "heartbeat": ""})
            log = tmp_path / f"r{index}.log"
            jobs.append(
                CountingJob(f"e/r{index}", "unet", tmp_path, {}, tmp_path / "runs", log, environment, script=script, steps=steps)
            )
        return jobs

    return make


def folder_of(ticket: Ticket) -> RunFolder:
    return RunFolder.open(ticket.job.folder)


def steps_of(ticket: Ticket) -> list[int]:
    path = ticket.job.folder / "steps.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_for(executor: SlurmExecutor, tickets: list[Ticket], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not all(executor.finished(ticket) for ticket in tickets):
        assert time.monotonic() < end, [(folder_of(ticket).state, executor.reason(ticket)) for ticket in tickets]
        time.sleep(0.2)


def signal_near_the_end(ticket: Ticket) -> None:
    """What SLURM sends before the time limit, to the process that submitit started."""
    assert isinstance(ticket, SlurmTicket)
    (task,) = psutil.Process(ticket.submitted._process.pid).children()
    task.send_signal(signal.SIGUSR2)


def wait_until(done: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"nothing for {seconds:g} s"
        time.sleep(0.1)


def test_a_job_whose_time_is_up_is_requeued_and_resumes(make_jobs: MakeJobs, tmp_path: Path) -> None:
    executor = SlurmExecutor(SlurmOptions(time="5", requeues=1), tmp_path / "runs", cluster="local")
    (ticket,) = executor.submit(make_jobs(1, steps=30))
    wait_until(lambda: len(steps_of(ticket)) > 5)
    signal_near_the_end(ticket)
    wait_until(lambda: folder_of(ticket).state == "interrupted")
    wait_for(executor, [ticket])
    assert folder_of(ticket).state == "completed"
    assert folder_of(ticket).status["attempts"] == 2
    assert steps_of(ticket) == list(range(1, 31)), "no step was lost and none was done twice"


def test_a_job_that_ran_out_of_time_too_often_is_left_interrupted(make_jobs: MakeJobs, tmp_path: Path) -> None:
    executor = SlurmExecutor(SlurmOptions(time="5", requeues=0), tmp_path / "runs", cluster="local")
    (ticket,) = executor.submit(make_jobs(1, steps=600))
    wait_until(lambda: len(steps_of(ticket)) > 5)
    signal_near_the_end(ticket)
    wait_for(executor, [ticket])
    assert folder_of(ticket).state == "interrupted"
    assert steps_of(ticket)[-1] == int(folder_of(ticket).checkpoint("step").read_text())
    assert "timed-out too many times" in executor.reason(ticket)


# -- a real SLURM ------------------------------------------------------------------------------------------------------


def test_an_array_runs_to_its_end(
    slurm_cluster: SlurmCluster, make_jobs: MakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "seen-by-the-node")
    executor = SlurmExecutor(SlurmOptions(time="5", cpus_per_task=1, array_parallelism=2), tmp_path / "runs", poll=0.5)
    jobs = make_jobs(3, CUDA_VISIBLE_DEVICES="a-slot-of-another-executor", WORKBENCH_MARK="kept")
    assert executor.capacity() == 1001  # SLURM's default
    tickets = executor.submit(jobs)
    array = tickets[0].id.partition("_")[0]
    assert [ticket.id for ticket in tickets] == [f"{array}_{index}" for index in range(3)], "one array for all"
    assert folder_of(tickets[2]).state == "queued", "the third has to wait for a place"
    wait_for(executor, tickets)
    for ticket in tickets:
        assert folder_of(ticket).state == "completed"
        assert folder_of(ticket).status["slurm"] == {"job": ticket.id, "restarts": 0}
        assert steps_of(ticket) == list(range(1, 11))
        assert folder_of(ticket).path("environment.txt").read_text() == "kept seen-by-the-node", "GPUs are SLURM's to deal"
    assert {state.state for state in job_states([ticket.id for ticket in tickets]).values()} == {"COMPLETED"}
    assert not jobs_in_queue([ticket.id for ticket in tickets])


@pytest.mark.parametrize("how", ["preempted", "requeued"])
def test_a_job_that_loses_its_node_is_interrupted_and_resumes(
    how: str, slurm_cluster: SlurmCluster, make_jobs: MakeJobs, tmp_path: Path
) -> None:
    """Preempted: SLURM sends the signal that submitit waits for. Requeued by somebody: SIGTERM to all, and no word before."""
    executor = SlurmExecutor(SlurmOptions(time="60", cpus_per_task=4), tmp_path / "runs", poll=0.5)
    (ticket,) = executor.submit(make_jobs(1, steps=40))
    slurm_cluster.wait(lambda: len(steps_of(ticket)) > 10)
    if how == "preempted":
        urgent = ("sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 1")
        slurm_cluster.ask(*urgent)
    else:
        slurm_cluster.ask("scontrol", "requeue", ticket.id)
    slurm_cluster.wait(lambda: folder_of(ticket).state == "interrupted")
    slurm_cluster.wait(lambda: slurm_cluster.state(ticket.id) == "PENDING")
    assert folder_of(ticket).state == "interrupted", "while it waits it is neither cancelled nor failed"
    assert not executor.finished(ticket)
    assert slurm_job_of(folder_of(ticket).status) == ticket.id, "so that nobody submits it a second time"
    assert jobs_in_queue([ticket.id]) == {ticket.id}
    slurm_cluster.hasten(ticket.id)
    wait_for(executor, [ticket])
    assert folder_of(ticket).state == "completed"
    assert folder_of(ticket).status["slurm"] == {"job": ticket.id, "restarts": 1}
    assert steps_of(ticket) == list(range(1, 41)), "no step was lost and none was done twice"


def test_cancelled_jobs_leave_the_queue_and_save_first(slurm_cluster: SlurmCluster, make_jobs: MakeJobs, tmp_path: Path) -> None:
    executor = SlurmExecutor(SlurmOptions(time="5", cpus_per_task=2, array_parallelism=1), tmp_path / "runs", poll=0.2)
    running, waiting = executor.submit(make_jobs(2, steps=600))
    slurm_cluster.wait(lambda: len(steps_of(running)) > 3)
    for ticket in (waiting, running):
        executor.cancel(ticket)
    wait_for(executor, [running, waiting], 20.0)
    assert [folder_of(ticket).state for ticket in (running, waiting)] == ["cancelled", "cancelled"]
    assert folder_of(running).checkpoint("step").exists()
    assert not steps_of(waiting)
    assert "CANCELLED" in executor.reason(waiting)
    executor.cancel(running)  # it is gone: nothing happens


def test_a_job_that_somebody_else_cancels_says_so(slurm_cluster: SlurmCluster, make_jobs: MakeJobs, tmp_path: Path) -> None:
    executor = SlurmExecutor(SlurmOptions(time="5"), tmp_path / "runs", poll=0.2)
    (ticket,) = executor.submit(make_jobs(1, steps=600))
    slurm_cluster.wait(lambda: len(steps_of(ticket)) > 3)
    slurm_cluster.ask("scancel", ticket.id)
    wait_for(executor, [ticket], 20.0)
    assert executor.reason(ticket) == f"SLURM job {ticket.id}: CANCELLED: it was cancelled in the queue"
    assert folder_of(ticket).effective_state() == "interrupted", "it can be resumed"


def test_sbatch_that_refuses_is_quoted(slurm_cluster: SlurmCluster, make_jobs: MakeJobs, tmp_path: Path) -> None:
    executor = SlurmExecutor(SlurmOptions(partition="nowhere"), tmp_path / "runs")
    with pytest.raises(RunError, match=r"sbatch. refused the jobs.*invalid partition specified: nowhere.*Nothing was submitted"):
        executor.submit(make_jobs(1))


def test_the_printed_script_runs_requeues_itself_and_resumes(
    slurm_cluster: SlurmCluster, make_jobs: MakeJobs, tmp_path: Path
) -> None:
    jobs = make_jobs(2, steps=40, WORKBENCH_MARK="two words")
    script = tmp_path / "sweep.sh"
    script.write_text(slurm_script(jobs, SlurmOptions(time="60", cpus_per_task=2)))
    job = slurm_cluster.ask("sbatch", "--parsable", str(script))
    folders = [RunFolder.open(one.folder) for one in jobs]
    slurm_cluster.wait(lambda: all(folder.path("steps.txt").exists() for folder in folders))
    time.sleep(0.5)
    slurm_cluster.ask("scancel", "--batch", "--signal=USR2", f"{job}_1")  # what SLURM itself does before the time limit
    slurm_cluster.wait(lambda: folders[1].state == "interrupted")
    slurm_cluster.wait(lambda: slurm_cluster.state(f"{job}_1") == "PENDING")
    slurm_cluster.hasten(f"{job}_1")
    slurm_cluster.wait(lambda: all(folder.state == "completed" for folder in folders))
    for index, folder in enumerate(folders):
        assert [int(line) for line in folder.path("steps.txt").read_text().split()] == list(range(1, 41))
        assert folder.status["slurm"] == {"job": f"{job}_{index}", "restarts": index}, "only the second was asked to stop"
        assert (tmp_path / "runs" / ".slurm" / f"{job}_{index}.log").exists()


def test_a_slurm_that_is_down_is_said_before_anything_is_submitted(
    slurm_cluster: SlurmCluster, make_jobs: MakeJobs, tmp_path: Path
) -> None:
    executor = SlurmExecutor(SlurmOptions(time="5"), tmp_path / "runs", poll=0.1)
    (ticket,) = executor.submit(make_jobs(1, steps=600))
    slurm_cluster.wait(lambda: steps_of(ticket))
    slurm_cluster.kill_controller()
    before = sorted((tmp_path / "runs" / ".slurm").iterdir())
    with pytest.raises(
        RunError, match=r"SLURM does not answer: `sinfo` failed: .*controller.*Nothing was submitted.*--executor local"
    ):
        executor.submit(make_jobs(1))
    assert sorted((tmp_path / "runs" / ".slurm").iterdir()) == before
    assert not executor.finished(ticket), "jobs go on without the controller, which may be back in a moment"
    slurm_cluster.start_controller()
    executor.cancel(ticket)
    wait_for(executor, [ticket])
    assert folder_of(ticket).state == "cancelled"


def test_a_job_that_slurm_has_forgotten_is_cancelled(slurm_cluster: SlurmCluster, make_jobs: MakeJobs, tmp_path: Path) -> None:
    """A controller that dies before it has written its jobs down comes back without them; the run goes on, or is killed.

    The last test of this cluster: such a controller gives out the numbers of forgotten jobs again, which the node refuses.
    """
    executor = SlurmExecutor(SlurmOptions(time="5"), tmp_path / "runs", poll=0.1)
    (ticket,) = executor.submit(make_jobs(1, steps=600))
    slurm_cluster.wait(lambda: steps_of(ticket))
    slurm_cluster.kill_controller()
    for kept in (slurm_cluster.folder / "state").glob("job_state*"):
        kept.unlink()
    slurm_cluster.start_controller()
    slurm_cluster.wait(lambda: executor.finished(ticket))
    executor.cancel(ticket)
    assert folder_of(ticket).state == "cancelled"
