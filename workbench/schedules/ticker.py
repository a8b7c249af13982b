"""The hand that starts what is due: `workbench schedule tick` (until nothing runs any more) and `serve` (until it is stopped)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from workbench.errors import WorkbenchError
from workbench.files import value_digest
from workbench.jobs.processes import StartedRun, start
from workbench.schedules import check
from workbench.schedules.notification import tell, wanted
from workbench.schedules.occurrences import (
    Claim,
    append_history,
    claim,
    due,
    last_with,
    locked,
    prune_claims,
    read_claims,
    read_history,
    stamp,
    watcher,
)
from workbench.schedules.schedule import FOLDER, Schedule, list_schedules, path_of
from workbench.schedules.unwatched import judge, open_claims

LOOK_EVERY = 20.0
"""Seconds between two looks for what is due, while something runs."""

STOP_GRACE = 30.0
"""Seconds that a stopped command has to save its checkpoint and end; a run takes up to 10."""

Report = Callable[[dict[str, Any]], None]


@dataclass
class _Working:
    """A command at work."""

    schedule: Schedule
    claim: Claim
    process: StartedRun
    facts: dict[str, Any]
    begun: float
    stopping: str = ""
    """Why it was asked to stop; empty where it was not."""
    asked: float = 0.0


class Ticker:
    """Looks for what is due, starts it, and writes down what became of it.

    Args:
        runs: folder of all runs.
        report: called with each line of the history that it writes, and with {"schedule", "problem"} for a schedule that
            cannot be read or written.
        clock: gives the time.
    """

    def __init__(self, runs: str | Path, report: Report = lambda _: None, clock: Callable[[], datetime] | None = None) -> None:
        self.runs = Path(runs).resolve()
        self.clock = clock or (lambda: datetime.now(UTC))
        self.failures = 0
        """How many ended badly or could not be read."""
        self._report = report
        self._working: list[_Working] = []
        self._untold: list[tuple[Schedule, dict[str, Any]]] = []
        self._problems: dict[str, str] = {}
        self._stopping = False

    @property
    def busy(self) -> bool:
        """Whether something it started is at work."""
        return bool(self._working)

    def run(self, poll: float = 0.5, look_every: float = LOOK_EVERY) -> bool:
        """Start what is due and wait for it; what becomes due meanwhile is started too.

        Returns:
            Whether everything ended well.
        """
        looked = -look_every
        while self.busy or looked < 0:
            if time.monotonic() - looked >= look_every or looked < 0:
                looked = time.monotonic()
                self.look()
            self.poll()
            if self.busy:
                time.sleep(poll)
        return self.failures == 0

    def look(self) -> None:
        """Start what is due now. One bad schedule does not hold up the others."""
        if self._stopping:
            return
        taken: list[tuple[Schedule, Claim, int]] = []
        with locked(self.runs):
            for row in list_schedules(self.runs):
                try:
                    if row.schedule is None:
                        self._damaged(row.name, row.problem)
                    elif found := self._take(row.schedule):
                        taken.append(found)
                except (WorkbenchError, OSError) as error:
                    self._problem(row.name, str(error))
        for schedule, own, missed in taken:
            try:
                self._begin(schedule, own, missed)
            except (WorkbenchError, OSError) as error:
                self._problem(schedule.name, str(error))
        self._tell()

    def guarded_look(self) -> None:
        """Look, and report it where that is not possible now (a disk that is full or away) instead of raising."""
        with self._guarded("schedules"):
            self.look()

    def _take(self, schedule: Schedule) -> tuple[Schedule, Claim, int] | None:
        """Claim what is due of one schedule; what is not to be run is written down here. The lock is held."""
        now = self.clock()
        records = read_history(self.runs, schedule.name)
        claims = read_claims(self.runs, schedule.name)
        running, unseen = open_claims(self.runs, records, claims)
        for record in unseen:
            self._write(schedule, **record | {"scheduled": datetime.fromisoformat(record["scheduled"])})
        for known in running:
            if known.orphaned:
                self._adopt(schedule, known)
        taken = [datetime.fromisoformat(record["scheduled"]) for record in records]
        found = due(schedule, [*taken, *(known.scheduled for known in claims)], now)
        if running and schedule.catch_up == "all":
            return None  # in turn: the rest stays due
        if found.missed and (schedule.catch_up != "one") and claim(self.runs, schedule.name, found.missed[-1]):
            why = f"nobody looked within {schedule.grace} (machine or scheduler off?); catch-up policy: {schedule.catch_up}"
            first = found.missed[0].isoformat()
            self._write(schedule, found.missed[-1], "missed", why=why, first=first, missed=len(found.missed))
        if not found.run or (own := claim(self.runs, schedule.name, found.run[0])) is None:
            return None
        prune_claims(claims, running)
        missed = len(found.missed) if schedule.catch_up == "one" else 0
        if running:
            begun = running[-1].scheduled.isoformat()
            self._write(
                schedule, own.scheduled, "still-running", why=f"the occurrence of {begun} is still running", missed=missed
            )
            return None
        return schedule, own, missed

    def _adopt(self, schedule: Schedule, orphan: Claim) -> None:
        """Watch what goes on though whoever started it was killed."""
        own, document = orphan.noted(**watcher()), orphan.document
        pid, log = int(document["job_pid"]), self.runs / document.get("log", "")
        age = (datetime.now(UTC) - datetime.fromisoformat(document["at"])).total_seconds()
        process = StartedRun(pid, pid, document["job_created"], log)
        self._working.append(_Working(schedule, own, process, own.facts, time.monotonic() - age))

    def _damaged(self, name: str, problem: str) -> None:
        """Say that a document cannot be read, once for each time it was written: cron mails what is said, every minute."""
        written = datetime.fromtimestamp(path_of(self.runs, name).stat().st_mtime, UTC).replace(second=0, microsecond=0)
        if claim(self.runs, name, written):
            record = {"scheduled": written.isoformat(), "outcome": "failed", "ended": self._now(), "why": problem}
            append_history(self.runs, name, record)
            self._problem(name, problem)

    def _begin(self, schedule: Schedule, own: Claim, missed: int) -> None:
        """Start the command of a claimed time, unless nothing has changed."""
        facts: dict[str, Any] = {"started": self._now(), "missed": missed}
        history = read_history(self.runs, schedule.name)
        try:
            parts = check.fingerprint(schedule, self.runs)
            facts["fingerprint"] = parts
            digest = value_digest(parts)
            success = last_with(history, ["completed"], schedule.created)
            if schedule.skip_unchanged and success and success.get("fingerprint") == parts and self._there(success):
                why = f"cohort, code, parameters and notebooks are those of {success['scheduled']}, which completed"
                self._write(schedule, own.scheduled, "skipped-unchanged", why=why, **facts)
                return
            last = last_with(history, ["completed", "failed"], schedule.created)
            unfinished = last and last["outcome"] == "failed" and value_digest(last.get("fingerprint") or {}) == digest
            again = last.get("experiment") if last and unfinished else None  # the same once more: it resumes what is there
            experiment = again or check.experiment_name(schedule, own.scheduled)
            log = f"{FOLDER}/.logs/{schedule.name}-{stamp(own.scheduled)}.log"
            command = check.command_of(schedule, self.runs, experiment)
            folder = check.working_folder(schedule, self.runs)
            facts |= {"experiment": experiment, "log": log}
            all_folds = schedule.parameters.get("fold") == "all"
            own = own.noted(**facts, method=schedule.method, all_folds=all_folds)  # before it is there to be lost sight of
            process = start(command, self.runs / log, folder=folder)
        except Exception as error:  # whatever it is, it is this schedule's: it is written down, and the others go on
            why = str(error) if isinstance(error, WorkbenchError | OSError) else f"{type(error).__name__}: {error}"
            self._write(schedule, own.scheduled, "failed", why=why, **facts)
            return
        with contextlib.suppress(OSError):  # a disk that has just filled up: it is watched all the same
            own = own.noted(job_pid=process.pid)
        self._working.append(_Working(schedule, own, process, facts, time.monotonic()))

    def _there(self, record: dict[str, Any]) -> bool:
        return (self.runs / str(record.get("experiment", ""))).is_dir()

    def poll(self) -> None:
        """Write down what has ended; stop what takes too long."""
        for work in list(self._working):
            ended, status = _ended(work.process)
            result = self._result(work, status) if ended else None
            if result is None:
                self._watch(work)
                continue
            self._working.remove(work)
            with self._guarded(work.schedule.name):
                self._write(work.schedule, work.claim.scheduled, **work.facts, **result)
        self._tell()

    def _result(self, work: _Working, status: int | None) -> dict[str, Any] | None:
        """Outcome and reason of a command that has ended; None where it was not ours, and one of its runs goes on."""
        if work.stopping:
            return {"outcome": "failed", "why": work.stopping, "exit_code": status}
        if status is None:
            return judge(self.runs, work.claim)
        if status:
            return {"outcome": "failed", "why": _reason(status, work.process.log), "exit_code": status}
        return {"outcome": "completed", "exit_code": status}

    def _watch(self, work: _Working) -> None:
        work.claim.touch()
        limit = 60 * work.schedule.timeout
        if limit and not work.stopping and time.monotonic() - work.begun > limit:
            self._ask(work, f"it did not end within {work.schedule.timeout:g} minutes and was stopped")
        elif work.stopping and time.monotonic() - work.asked > STOP_GRACE:
            _kill(work.process)

    def stop(self, why: str = "the scheduler was stopped; the next time takes it up where it was left") -> None:
        """Start nothing more, and ask what is at work to save and end."""
        self._stopping = True
        for work in self._working:
            if not work.stopping:
                self._ask(work, why)

    def _ask(self, work: _Working, why: str) -> None:
        work.stopping, work.asked = why, time.monotonic()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(work.process.pgid, signal.SIGTERM)

    # -- writing down ----------------------------------------------------------------------------------------------

    def _now(self) -> str:
        return self.clock().astimezone(UTC).isoformat(timespec="seconds")

    def _write(self, schedule: Schedule, scheduled: datetime, outcome: str, **facts: Any) -> None:
        record = {"scheduled": scheduled.astimezone(UTC).isoformat(), "outcome": outcome, "ended": self._now(), **facts}
        record = {key: value for key, value in record.items() if value not in ("", None) and (key, value) != ("missed", 0)}
        append_history(self.runs, schedule.name, record)
        self.failures += outcome == "failed"
        if wanted(schedule.notify, outcome):
            self._untold.append((schedule, record))
        else:
            self._report({"schedule": schedule.name, **record})

    def _tell(self) -> None:
        """Send the notifications, never while the lock is held: they take as long as they like, up to their time limit."""
        untold, self._untold = self._untold, []
        for schedule, record in untold:
            answer = tell(schedule.notify, {"schedule": schedule.name, **record})
            with self._guarded(schedule.name):
                append_history(self.runs, schedule.name, {"scheduled": record["scheduled"], "notification": answer})
            self._report({"schedule": schedule.name, **record, "notification": answer})
            for work in self._working:
                work.claim.touch()

    def _problem(self, name: str, text: str) -> None:
        if self._problems.get(name) != text:  # once, not at every look
            self._problems[name] = text
            self.failures += 1
            self._report({"schedule": name, "problem": text})

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        except (WorkbenchError, OSError) as error:
            self._problem(name, str(error))


def anything_due(runs: str | Path, now: datetime | None = None) -> list[str]:
    """Names of the schedules that have something due; nothing is claimed."""
    names = []
    for row in list_schedules(runs):
        if row.schedule is None:
            continue
        taken = [datetime.fromisoformat(record["scheduled"]) for record in read_history(runs, row.name)]
        taken += [known.scheduled for known in read_claims(runs, row.name)]
        found = due(row.schedule, taken, now or datetime.now(UTC))
        if found.run or found.missed:
            names.append(row.name)
    return names


def _ended(process: StartedRun) -> tuple[bool, int | None]:
    """Whether a process has ended, and its exit status, negative for a signal; None where it is no child of ours."""
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return not process.alive, None
    return bool(pid), os.waitstatus_to_exitcode(status) if pid else None


def _reason(status: int, log: Path) -> str:
    """The last error that a command printed, else its exit status."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return (errors or lines or [f"exit status {status}"])[-1].removeprefix("error: ")[:1000]


def _kill(process: StartedRun) -> None:
    """End a command and everything below it, in whatever session it is."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pgid, signal.SIGKILL)
