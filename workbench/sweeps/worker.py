"""A sweep, driven: takes the runs that nobody has, waits for the rest, says what failed and why.

Any number of `workbench sweep` processes may work on one file. Who has a run stands in the run's own folder; nothing else is
shared, so a worker that dies leaves nothing behind that another would have to clean up.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.cohort.table import Cohort
from workbench.errors import RunError, RunHeldError, WorkbenchError
from workbench.jobs.executors import Executor, Job, Ticket
from workbench.jobs.processes import QUEUED_VARIABLE
from workbench.jobs.slurm import jobs_in_queue, slurm_job_of
from workbench.records.provenance import split_digest
from workbench.records.run_folder import RunFolder
from workbench.records.spec import SPEC_FILE
from workbench.records.status import is_held, now
from workbench.records.sweep_plan import SWEEPS_FOLDER, PlannedRun, SweepPlan, cell_row, working, write_plan
from workbench.setup.opening import describe_run, open_split, require_same_split
from workbench.setup.parameters import ExperimentParameters

POLL = 0.5
"""Seconds between two looks at the run folders."""
ASK_SLURM = 30.0
"""Seconds between two questions to SLURM about jobs that others submitted."""


@dataclass
class Outcome:
    """What became of one run of a sweep, as far as this worker knows."""

    cell: PlannedRun
    state: str = "missing"
    reason: str = ""
    ours: bool = False
    """This worker had it started."""
    tries: int = 0
    slurm: str = ""
    """SLURM's job that was to make it, whoever submitted that; empty: none."""


@dataclass
class SweepReport:
    """How a sweep ended."""

    plan: SweepPlan
    outcomes: list[Outcome] = field(default_factory=list)
    stopped: str = ""
    """Why the sweep was left before all runs had ended; empty where it was not."""
    pooled: list[str] = field(default_factory=list)
    """The runs that pool all folds of a condition."""
    unpooled: list[str] = field(default_factory=list)
    """Why folds could not be pooled."""

    @property
    def completed(self) -> bool:
        """Whether every run is completed, and its folds are pooled where all folds were asked for."""
        return not (self.stopped or self.unpooled) and all(outcome.state == "completed" for outcome in self.outcomes)

    def counts(self) -> dict[str, int]:
        """State -> how many runs."""
        found: dict[str, int] = {}
        for outcome in self.outcomes:
            found[outcome.state] = found.get(outcome.state, 0) + 1
        return found


class Sweep:
    """One worker of a sweep.

    Args:
        plan: what to run, from `plan_sweep`.
        runs: folder of all runs.
        executor: where runs are executed.
        threads: CPU threads of runs that name none; recorded when a run's folder is made.
        retries: how often a run that was interrupted (its process vanished) is taken up again by this worker.
        options: further arguments of `workbench run`.
        report: called with a line of text whenever something happened.
        poll: seconds between two looks.
    """

    def __init__(
        self,
        plan: SweepPlan,
        runs: Path,
        executor: Executor,
        *,
        threads: int = 0,
        retries: int = 1,
        options: Sequence[str] = (),
        report: Callable[[str], None] = lambda text: None,
        poll: float = POLL,
    ) -> None:
        self.plan, self.runs, self.executor = plan, Path(runs), executor
        self.threads, self.retries, self.options, self.report, self.poll = threads, retries, tuple(options), report, poll
        self.outcomes = [Outcome(cell) for cell in plan.cells]
        self.tickets: list[tuple[Outcome, Ticket]] = []
        self.cohort = Cohort.open(os.path.normpath(self.runs / plan.cohort.path))
        self.splits = self._splits()
        self.given_up: set[str] = set()
        """Runs that ended in failure since this worker began: they are not taken up again by themselves."""
        self.before: dict[str, Any] = {}
        self.asked_slurm, self.live_jobs = 0.0, set[str]()

    def run(self) -> SweepReport:
        """Work until every run has ended.

        Raises:
            RunError: the plan's name belongs to another sweep file.
            KeyboardInterrupt: after this worker's own runs have been asked to save and stop.
        """
        write_plan(self.runs, self.plan)
        self.before = {outcome.cell.run: self._attempt(outcome) for outcome in self.outcomes}
        stopped = ""
        with working(self.runs, self.plan.name, self.executor.name) as worker:
            try:
                while self._look():
                    room = 0 if stopped else self.executor.capacity()
                    stopped = stopped or (self._changed() if room else "")
                    if room and not stopped:
                        self._submit(worker, room)
                    elif stopped and not self.tickets:
                        break
                    time.sleep(self.poll)
            except BaseException:
                self._withdraw()
                raise
        report = SweepReport(self.plan, self.outcomes, stopped)
        if self.plan.all_folds:
            self._pool(report)
        return report

    def _pool(self, report: SweepReport) -> None:
        """Pool the folds of every condition whose runs are all completed."""
        conditions: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            cell = outcome.cell
            rest = {name: value for name, value in cell.parameters.items() if name != "fold"}
            conditions.setdefault(json.dumps([cell.method, cell.condition, rest], sort_keys=True), []).append(outcome)
        for outcomes in conditions.values():
            if len(outcomes) < 2 or any(outcome.state != "completed" for outcome in outcomes):
                continue
            try:
                made = self._pooled(outcomes)
                report.pooled.append(f"{made.folder.parent.name}/{made.folder.name}")
            except WorkbenchError as error:
                cell = outcomes[0].cell
                report.unpooled.append(f"the folds of {cell.method} · {cell.condition} cannot be pooled: {error}")
        if report.pooled:
            write_plan(self.runs, self.plan.model_copy(update={"pooled": tuple(report.pooled)}))

    def _pooled(self, outcomes: Sequence[Outcome]) -> RunFolder:
        """The run that pools some folds; where another worker is making it, once that one has."""
        from workbench.experiments.pooling import pool

        while True:
            try:
                return pool([self.runs / outcome.cell.run for outcome in outcomes], progress=False)
            except RunHeldError:
                time.sleep(self.poll)

    # -- looking ---------------------------------------------------------------------------------------------------

    def _attempt(self, outcome: Outcome) -> Any:
        """What tells one attempt at a run from the next; None where there was none yet."""
        try:
            status = RunFolder.open(self.runs / outcome.cell.run).status
        except WorkbenchError:
            return None
        return status.get("attempts"), status.get("since"), status["state"]

    def _look(self) -> bool:
        """Read where every run stands; whether any has not ended."""
        for outcome, ticket in list(self.tickets):
            if self.executor.finished(ticket):
                self.tickets.remove((outcome, ticket))
                with self._alone(outcome):
                    self._ended(outcome, ticket)
        waiting = {outcome.cell.run for outcome, _ in self.tickets}
        for outcome in self.outcomes:
            if outcome.state != "completed" and outcome.cell.run not in self.given_up:
                with self._alone(outcome):
                    self._read(outcome, submitted=outcome.cell.run in waiting)
        return any(outcome.state != "completed" and outcome.cell.run not in self.given_up for outcome in self.outcomes)

    @contextmanager
    def _alone(self, outcome: Outcome) -> Iterator[None]:
        """A run folder that is damaged, or cannot be made, is given up; the other runs go on."""
        try:
            yield
        except WorkbenchError as error:
            outcome.state, outcome.reason = "failed", str(error)
            self.given_up.add(outcome.cell.run)
            self._say(outcome)

    def _read(self, outcome: Outcome, *, submitted: bool) -> None:
        name, before = outcome.cell.run, outcome.state
        folder = self.runs / name
        if not (folder / SPEC_FILE).is_file():
            outcome.state = "missing"
            return
        run = RunFolder.open(folder)
        require_same_split(folder, run.spec, self.splits[outcome.cell.fold])
        status = run.status
        outcome.state, outcome.reason = run.effective_state(), str(status.get("error", ""))
        outcome.slurm = slurm_job_of(status)
        if outcome.state == "interrupted" and is_held(folder, status):
            outcome.state = "running"  # silent, but its process lives: nobody may take it
        ended = outcome.state in ("failed", "cancelled") and not submitted
        if ended and (outcome.tries or self._attempt(outcome) != self.before[name]):
            self.given_up.add(name)  # it failed since this worker began, here or elsewhere
        if outcome.state != before and outcome.state in ("running", "completed", "failed", "cancelled"):
            self._say(outcome)

    def _ended(self, outcome: Outcome, ticket: Ticket) -> None:
        """A job of ours has ended: the run folder should say how."""
        run = RunFolder.open(ticket.job.folder)
        state = run.effective_state()
        if state == "queued":
            run.give_up(state, self.executor.reason(ticket) or f"it ended before it began; see {ticket.job.log}")
        elif state == "interrupted" and outcome.tries > self.retries:
            reason = self.executor.reason(ticket)
            run.give_up(state, f"its process vanished {outcome.tries} times, out of memory? {reason}".strip())

    def _say(self, outcome: Outcome) -> None:
        done = sum(one.state == "completed" for one in self.outcomes)
        cell = outcome.cell
        where = f"{cell.method} · {cell.condition} · fold {cell.fold} · seed {cell.seed}"
        reason = f": {outcome.reason}" if outcome.state in ("failed", "cancelled") and outcome.reason else ""
        self.report(f"[{done}/{len(self.outcomes)}] {outcome.state} {cell.run} ({where}){reason}")

    # -- starting --------------------------------------------------------------------------------------------------

    def _changed(self) -> str:
        """Why no further run may be started: the cohort is not what the plan was made for."""
        if not any(self._free(outcome) for outcome in self.outcomes):
            return ""
        try:
            found, splits = Cohort.open(self.cohort.folder).fingerprint(), self._splits()
        except WorkbenchError as error:
            return f"the cohort cannot be read any more: {error}"
        if found == self.plan.cohort.fingerprint and splits == self.splits:
            return ""
        what = "changed" if splits == self.splits else "had its folds dealt anew"
        return (
            f"cohort {self.plan.cohort.name} {what} while the sweep was running: runs of two cohorts cannot be compared. "
            "Nothing further is started; run the sweep again for the cohort as it is now"
        )

    def _splits(self) -> dict[int, str]:
        """Fold -> digest of who trains, validates and tests."""
        return {fold: split_digest(open_split(self.cohort, fold)) for fold in sorted({cell.fold for cell in self.plan.cells})}

    def _free(self, outcome: Outcome) -> bool:
        """Whether a run is there to be taken, as far as can be seen without taking it."""
        if outcome.cell.run in self.given_up or outcome.state not in ("missing", "queued", "interrupted", "failed", "cancelled"):
            return False
        return not any(one is outcome for one, _ in self.tickets)

    def _with_slurm(self) -> set[str]:
        """Runs that are still SLURM's: another worker submitted them, or they were requeued and will be resumed there."""
        jobs = {outcome.slurm: outcome.cell.run for outcome in self.outcomes if outcome.slurm and self._free(outcome)}
        if not jobs:
            self.asked_slurm = 0.0
            return set()
        if time.monotonic() - self.asked_slurm >= ASK_SLURM:
            self.asked_slurm = time.monotonic()
            try:
                self.live_jobs = jobs_in_queue(set(jobs))
            except RunError as error:  # nobody can tell: they are left alone
                self.report(
                    f"{len(jobs)} runs were given to SLURM, which cannot be asked here; `workbench cancel` frees one ({error})"
                )
                self.live_jobs = set(jobs)
        return {run for job, run in jobs.items() if job in self.live_jobs}

    def _submit(self, worker: Mapping[str, Any], room: int) -> None:
        jobs: list[tuple[Outcome, Job]] = []
        elsewhere = self._with_slurm()
        for outcome in self.outcomes:
            if len(jobs) >= room:
                break
            if outcome.cell.run in elsewhere:
                continue
            if self._free(outcome):
                with self._alone(outcome):
                    if self._open(outcome.cell).queue(worker):
                        jobs.append((outcome, self._job(outcome.cell)))
        if not jobs:
            return
        tickets = self.executor.submit([job for _, job in jobs])
        for (outcome, _), ticket in zip(jobs, tickets, strict=False):
            outcome.ours, outcome.tries = True, outcome.tries + 1
            self.tickets.append((outcome, ticket))
            self._open(outcome.cell).note_queued({**worker, "ticket": ticket.id})
        for outcome, _ in jobs[len(tickets) :]:  # no room after all: anybody's again
            self._open(outcome.cell).note_queued(None)

    def _open(self, cell: PlannedRun) -> RunFolder:
        """The run folder, made where there is none."""
        folder = self.runs / cell.run
        if (folder / SPEC_FILE).is_file():
            return RunFolder.open(folder)
        values = {**cell.parameters, "cohort": str(self.cohort.folder), "runs": str(self.runs)}
        parameters = ExperimentParameters.build(cell.method, values)
        found, spec = describe_run(parameters, self.cohort, self.plan.cohort.fingerprint, self.threads)
        if found.name != folder.name:
            raise RunError(
                f"{cell.run} would now be {found.name}: a file that its parameters name has changed, or what they mean has since "
                "the sweep was planned; plan it again under another experiment"
            )
        return RunFolder.create(folder.parent, spec)

    def _job(self, cell: PlannedRun) -> Job:
        job = job_of(self.plan, cell, self.runs, self.options)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text(f"{now()} {self.plan.name}\n", encoding="utf-8")
        return job

    def _withdraw(self) -> None:
        """Ask what this worker has running to save and stop; what a cluster's queue holds stays there."""
        if getattr(self.executor, "outlives", False):
            if self.tickets:
                self.report(f"{len(self.tickets)} jobs stay in SLURM's queue; `workbench cancel RUN` ends one")
            return
        if not self.tickets:
            return
        for outcome, _ in self.tickets:
            self.report(f"stopping {outcome.cell.run}")
        with ThreadPoolExecutor(len(self.tickets)) as together:  # each may take its time to save: whoever asks us has little
            for answer in [together.submit(self.executor.cancel, ticket) for _, ticket in self.tickets]:
                with suppress(WorkbenchError):  # it ended in the meantime
                    answer.result()


def job_of(plan: SweepPlan, cell: PlannedRun, runs: Path, options: Sequence[str] = ()) -> Job:
    """The command that makes a cell's run.

    Args:
        plan: the sweep.
        cell: one of its runs.
        runs: folder of all runs.
        options: further arguments of `workbench run`.
    """
    log = runs / SWEEPS_FOLDER / "logs" / plan.name / f"{cell.run.replace('/', '-')}.log"
    cohort = Path(os.path.normpath(runs / plan.cohort.path))
    queued = {QUEUED_VARIABLE: "1"}  # a run cancelled in the meantime is left alone
    return Job(cell.run, cell.method, cohort, cell.parameters, runs, log, environment=queued, options=tuple(options))


def pending(plan: SweepPlan, runs: Path) -> list[PlannedRun]:
    """The cells whose runs are not completed."""
    return [cell for cell in plan.cells if cell_row(runs, cell).state != "completed"]
