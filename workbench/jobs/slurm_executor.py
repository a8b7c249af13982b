"""Runs on a SLURM cluster, through submitit: one job array per call, and a job whose time is up goes on where it was.

submitit starts `RunJob` on a node. Before the time limit, and at a preemption, SLURM sends SIGUSR2: submitit then asks `RunJob`
for what is to be started next time, which has the run save its checkpoint first, and requeues the job. GPUs are SLURM's to deal:
`CUDA_VISIBLE_DEVICES` is left as it is found on the node.

A site sends that signal before a preemption only where its `slurm.conf` has `SlurmctldParameters=preempt_send_user_signal`.
Otherwise every process of the job, kernel included, gets SIGTERM, and SLURM requeues it: the run resumes at its last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from workbench.errors import RunError
from workbench.jobs.executors import Job, Ticket
from workbench.jobs.slurm import (
    ADVICE,
    JobState,
    SlurmOptions,
    cancel_job,
    check_slurm,
    job_states,
    max_array_size,
    slurm_job_of,
)
from workbench.records.run_folder import PAUSE_GRACE, RunFolder
from workbench.records.status import is_alive, process_created

LOG_FOLDER = ".slurm"
"""Folder inside the runs folder for what submitit and SLURM write: scripts, jobs, logs."""

PATIENCE = 900.0
"""Seconds that SLURM may stay silent while jobs are waited for: a controller is restarted now and then."""

HOPELESS = frozenset(
    {"PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "BadConstraints", "DependencyNeverSatisfied",
     "InvalidAccount", "InvalidQOS", "JobHeldUser", "JobHeldAdmin", "QOSMaxWallDurationPerJobLimit",
     "AssocMaxWallDurationPerJobLimit", "ReqNodeNotAvail", "launch failed requeued held"}
)  # fmt: skip
"""Reasons for waiting that no waiting ends."""


@dataclass
class RunJob:
    """What a node executes: `workbench run` as a process of its own, told to save when SLURM wants the node back."""

    command: list[str]
    folder: Path
    """The run folder."""
    log: Path
    directory: Path
    """Where the command was submitted: its relative paths start there."""
    environment: dict[str, str] = field(default_factory=dict)
    patience: float = 60.0
    """Seconds that the run has to reach its next step and save its checkpoint."""

    def __post_init__(self) -> None:
        self._pid = 0
        self._created: float | None = None

    def __call__(self) -> str:
        """Execute the run and wait for it: 'completed', or 'cancelled' where somebody cancelled it.

        Raises:
            RunError: it ended with an error; its folder and its log say which.
        """
        if self._state() == "cancelled":  # while it waited in the queue
            return "cancelled"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, PAUSE_GRACE: f"{self.patience:g}", **self.environment},
                preexec_fn=_ignore_user_signal,
            )
        self._pid, self._created = process.pid, process_created(process.pid)
        while process.poll() is None:  # not wait(): the signal's handler could never see it end
            time.sleep(0.1)
        if process.returncode:
            if self._state() == "cancelled":
                return "cancelled"
            raise RunError(f"{' '.join(self.command)} ended with exit status {process.returncode}; see {self.log}")
        return "completed"

    def checkpoint(self) -> Any:
        """What submitit starts after a requeue: the same command, which resumes the run; None where nothing is left to do.

        Called in the handler of SLURM's signal, while `__call__` waits.
        """
        from submitit.helpers import DelayedSubmission

        if self._pid and is_alive(self._pid, self._created):
            os.kill(self._pid, signal.SIGTERM)  # the run saves a checkpoint and counts as interrupted
            end = time.monotonic() + self.patience + 10.0
            while is_alive(self._pid, self._created) and time.monotonic() < end:
                time.sleep(0.1)
        return None if self._state() in ("completed", "cancelled") else DelayedSubmission(replace(self))

    def _state(self) -> str:
        with contextlib.suppress(RunError, OSError):
            return RunFolder.open(self.folder).state
        return ""


def _ignore_user_signal() -> None:
    # SLURM signals every process of the job: only the one that waits is meant, and SIGUSR2 would end all others
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@dataclass(frozen=True)
class SlurmTicket(Ticket):
    """A task of a job array; `submitted` is submitit's handle of it."""

    submitted: Any


class SlurmExecutor:
    """Runs as jobs of a SLURM cluster.

    Args:
        options: what SLURM is to give each run.
        runs: the runs folder; scripts and logs go to its folder `.slurm`.
        cluster: "slurm"; "local" executes the same jobs through submitit on this machine, to try things out.
        poll: seconds between two questions to SLURM, however many jobs there are.

    Raises:
        RunError: submitit is not installed.
    """

    name = "slurm"
    outlives = True
    """Its jobs go on when whoever submitted them is gone."""

    def __init__(
        self, options: SlurmOptions, runs: Path, *, cluster: Literal["slurm", "local"] = "slurm", poll: float = 10.0
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise RunError(
                "the SLURM executor needs the package submitit: pip install 'brain-mri-workbench[slurm]'; "
                "or add --print and submit the script by hand"
            ) from error
        self.options, self.folder, self.cluster, self.poll = options, (runs / LOG_FOLDER).resolve(), cluster, poll
        self._submitit = submitit
        self._states: dict[str, JobState] = {}
        self._live: set[str] = set()
        self._told: set[str] = set()
        self._asked = self._answered = float("-inf")
        self._largest = 0

    @property
    def threads(self) -> int:
        """CPU threads of a run that names none: the cores it asks for. SLURM gives one where none are asked for."""
        return self.options.cpus_per_task or 1

    def capacity(self) -> int:
        """How many jobs an array of this cluster may have; the queue itself has no end."""
        if not self._largest:
            if self.cluster == "slurm":
                check_slurm()
            self._largest = max_array_size() if self.cluster == "slurm" else os.cpu_count() or 1
        return self._largest

    def submit(self, jobs: Sequence[Job]) -> list[Ticket]:
        """Submit jobs as one array.

        Raises:
            RunError: SLURM does not answer, or refuses them; then none is in the queue.
        """
        jobs = jobs[: self.capacity()]
        if not jobs:
            return []
        if self.cluster == "slurm":
            check_slurm()
        self.folder.mkdir(parents=True, exist_ok=True)
        here = Path.cwd()
        work = [
            RunJob(
                command=job.command,
                folder=job.folder.resolve(),
                log=job.log.resolve(),
                directory=here,
                environment={key: value for key, value in job.environment.items() if key != "CUDA_VISIBLE_DEVICES"},
                patience=self.options.patience,
            )
            for job in jobs
        ]
        try:
            submitted = self._executor().submit_array(work)
        except self._submitit.core.utils.FailedJobError as error:
            raise RunError(f"`sbatch` refused the jobs: {' '.join(str(error).split())}. Nothing was submitted") from error
        except self._submitit.core.utils.FailedSubmissionError as error:
            raise RunError(f"`sbatch` did not say which job it made; look for it with `squeue --me`: {error}") from error
        self._live |= {handle.job_id for handle in submitted}
        self._asked = float("-inf")
        return [SlurmTicket(job, handle.job_id, handle) for job, handle in zip(jobs, submitted, strict=True)]

    def _executor(self) -> Any:
        options = self.options
        if self.cluster == "local":
            local = self._submitit.LocalExecutor(self.folder, max_num_timeout=options.requeues)
            local.update_parameters(timeout_min=options.minutes, signal_delay_s=options.grace)
            return local
        executor = self._submitit.SlurmExecutor(self.folder, max_num_timeout=options.requeues)
        further: dict[str, Any] = {key: value or True for key, value in options.sbatch.items()}
        executor.update_parameters(
            job_name="workbench",
            time=options.minutes,
            signal_delay_s=options.grace,
            array_parallelism=options.array_parallelism or self.capacity(),
            wckey=None,  # submitit's own would be refused where a site checks it
            # since SLURM 22.05 a step does not inherit the cores of its job
            srun_args=[f"--cpus-per-task={options.cpus_per_task}"] if options.cpus_per_task else None,
            additional_parameters={"requeue": True, **further},  # whatever the site's default is
            **options.requested,
        )
        return executor

    def finished(self, ticket: Ticket) -> bool:
        """Whether the job has ended for good: one that is requeued has not.

        Raises:
            RunError: SLURM has not answered for `PATIENCE` seconds.
        """
        assert isinstance(ticket, SlurmTicket)
        if self.cluster == "local":
            return bool(ticket.submitted.done())
        self._refresh()
        return ticket.id not in self._live

    def cancel(self, ticket: Ticket) -> None:
        """Cancel the run, which saves a checkpoint where it can, and take the job out of the queue.

        The run is asked whatever SLURM says: a controller that was killed may not know a job any more that still runs.
        """
        assert isinstance(ticket, SlurmTicket)
        over = self.finished(ticket)
        run = RunFolder.open(ticket.job.folder)
        if over and slurm_job_of(run.status) != ticket.id:
            return
        if run.state == "running":
            run.request_cancel()
            end = time.monotonic() + 10.0
            while run.state == "running" and time.monotonic() < end:
                time.sleep(0.2)
        if run.state in ("queued", "interrupted"):
            run.set_status("cancelled")
        if over:
            return
        if self.cluster == "local":
            ticket.submitted.cancel()
        else:
            cancel_job(ticket.id)
            self._asked = float("-inf")

    def reason(self, ticket: Ticket) -> str:
        """What SLURM says of how the job ended, else the last line that the command printed."""
        assert isinstance(ticket, SlurmTicket)
        state = self._states.get(ticket.id)
        if state and state.state in ADVICE:
            return f"SLURM job {ticket.id}: {state.state}: {ADVICE[state.state]}"
        lines: list[str] = []
        for log in (ticket.job.log, ticket.submitted.paths.stderr):
            with contextlib.suppress(OSError):
                lines = lines or log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        told = f": {lines[-1]}" if lines else ""
        return f"SLURM job {ticket.id}{f': {state.state}' if state else ''}{told}" if state or told else ""

    def _refresh(self) -> None:
        """Ask SLURM where all live jobs stand, at most once per `poll` seconds."""
        now = time.monotonic()
        if now - self._asked < self.poll:
            return
        self._asked = now
        try:
            states = job_states(self._live)
        except RunError as error:
            self._answered = self._answered if self._answered > float("-inf") else now
            if now - self._answered > PATIENCE:
                raise RunError(
                    f"{error}; for {PATIENCE / 60:.0f} minutes now. Jobs in the queue go on by themselves: "
                    "run the same command again when SLURM is back"
                ) from error
            return
        self._answered = now
        self._states |= states
        self._live = {name for name in self._live if name in states and states[name].live}
        for name, state in states.items():
            if state.state == "PENDING" and state.reason.strip("()") in HOPELESS and state.reason not in self._told:
                self._told.add(state.reason)
                warnings.warn(f"SLURM lets job {name} wait for no good: {state.reason}", stacklevel=2)
