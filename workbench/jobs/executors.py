"""Where the runs of a sweep are executed: one small interface, and its form for this machine.

An executor takes jobs, says when each has ended, and ends one when asked. What became of a run is never asked of the executor:
that stands in the run folder. An executor only knows reasons that a run cannot write down itself, such as a queue's time limit.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from workbench.errors import RunError
from workbench.jobs.processes import StartedRun, cancel, run_command, start
from workbench.jobs.slots import Slot, SlotPool
from workbench.records.run_folder import RunFolder

GRACE = 12.0
"""Seconds that a run which is asked to stop has to save a checkpoint."""


@dataclass(frozen=True)
class Job:
    """One run to be executed, as the command line would do it."""

    name: str
    """The run, `<experiment>/<run id>`."""
    method: str
    cohort: Path
    parameters: Mapping[str, Any]
    runs: Path
    log: Path
    """What the command prints; the run folder has its own log besides."""
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    """Further arguments of `workbench run`."""

    @property
    def command(self) -> list[str]:
        """The command line, as a list of arguments."""
        return [*run_command(self.method, self.cohort, self.parameters, self.runs), *self.options]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.runs / self.name


@dataclass(frozen=True)
class Ticket:
    """A job that an executor has taken."""

    job: Job
    id: str
    """The executor's name for it: a process id, a job id of the queue."""


class Executor(Protocol):
    """Takes jobs and says when they have ended."""

    name: str

    def capacity(self) -> int:
        """How many jobs it takes now."""

    def submit(self, jobs: Sequence[Job]) -> list[Ticket]:
        """Take jobs: at most `capacity()`, all or as many as there is room for; the rest is not taken."""

    def finished(self, ticket: Ticket) -> bool:
        """Whether the job has ended, in whatever way."""

    def cancel(self, ticket: Ticket) -> None:
        """Stop a job; its run saves a checkpoint first where it can, and can be taken up again."""

    def reason(self, ticket: Ticket) -> str:
        """Why a job ended without its run saying so; empty where that is not known."""


@dataclass(frozen=True)
class LocalTicket(Ticket):
    """A process on this machine."""

    process: StartedRun
    slot: Slot


class LocalExecutor:
    """One process per run on this machine, as many at once as there are slots.

    A slot is held by the run's own process, so it is free again when that ends, and stays taken when only the sweep is killed.
    """

    name = "local"

    def __init__(self, pool: SlotPool) -> None:
        self.pool = pool

    def capacity(self) -> int:
        """Slots that nobody on this machine holds."""
        return self.pool.free()

    def submit(self, jobs: Sequence[Job]) -> list[Ticket]:
        """Start a process per job, until the slots are taken."""
        tickets: list[Ticket] = []
        for job in jobs:
            slot = self.pool.take(int(job.parameters.get("processes", 1)))
            if slot is None:
                break
            with slot:
                process = start(job.command, job.log, {**slot.environment, **job.environment}, keep=slot.descriptors)
            tickets.append(LocalTicket(job, str(process.pid), process, slot))
        return tickets

    def finished(self, ticket: Ticket) -> bool:
        """Whether the process is gone."""
        assert isinstance(ticket, LocalTicket)
        return not ticket.process.alive

    def cancel(self, ticket: Ticket) -> None:
        """Ask the run's driver to save and stop; what does not stop is ended with all its processes."""
        assert isinstance(ticket, LocalTicket)
        if self.finished(ticket):  # its number may be another process' by now
            return
        with suppress(ProcessLookupError):
            os.kill(ticket.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while not self.finished(ticket) and time.monotonic() < deadline:
            time.sleep(0.1)
        if self.finished(ticket):
            return
        with suppress(RunError):  # the run is at an end, only its process is not
            cancel(RunFolder.open(ticket.job.folder))
        if not self.finished(ticket):
            with suppress(ProcessLookupError):
                os.killpg(ticket.process.pgid, signal.SIGKILL)

    def reason(self, ticket: Ticket) -> str:
        """The last line that the process printed, which says why it did not begin."""
        try:
            lines = ticket.job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""
