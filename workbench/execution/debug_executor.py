"""Runs in this process, one after the other: to step through a sweep with a debugger."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import WorkbenchError
from workbench.execution.notebook import run_notebook
from workbench.jobs.executors import Job, Ticket
from workbench.records.run_folder import RunFolder


class DebugExecutor:
    """One run at a time, executed while it is submitted; only its kernel is a process of its own."""

    name = "debug"

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def capacity(self) -> int:
        """One."""
        return 1

    def submit(self, jobs: Sequence[Job]) -> list[Ticket]:
        """Execute the first job to its end.

        Raises:
            KeyboardInterrupt: a signal asked the run to save and stop: it was meant for the sweep, which is the same process.
        """
        job = jobs[0]
        timeout = float(job.options[job.options.index("--timeout") + 1]) if "--timeout" in job.options else 0.0
        try:
            run_notebook(
                job.method, {**job.parameters, "cohort": str(job.cohort), "runs": str(job.runs)}, timeout=timeout, progress=False
            )
        except WorkbenchError as error:  # the run folder says it too, unless the run did not get that far
            if RunFolder.open(job.folder).state == "interrupted":
                raise KeyboardInterrupt from error
            self.reasons[job.name] = str(error)
        return [Ticket(job, job.name)]

    def finished(self, ticket: Ticket) -> bool:
        """Always: submitting waits."""
        return True

    def cancel(self, ticket: Ticket) -> None:
        """Nothing runs any more."""

    def reason(self, ticket: Ticket) -> str:
        """What the run said when it ended badly."""
        return self.reasons.get(ticket.id, "")
