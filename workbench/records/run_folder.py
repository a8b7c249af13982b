"""One run, one folder: what was asked (`spec.json`), where it stands (`status.json`) and everything it produced.

Only relative paths stand inside, every document is replaced atomically, and events are appended: a folder can be read while it is
written, copied with rsync while it is written, and is never half there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.cohort.table import Cohort
from workbench.errors import RunError, RunHeldError, StopRequest, WorkbenchError
from workbench.files import write_json
from workbench.records.contents import check_contents
from workbench.records.spec import SPEC_FILE, check_spec, read_spec, run_id
from workbench.records.status import (
    HEARTBEAT_FILE,
    STALE_AFTER,
    STATUS_FILE,
    TRANSITIONS,
    effective_state,
    is_held,
    is_here,
    is_mine,
    now,
    pid_scope,
    process_created,
    read_status,
    slurm_job,
)
from workbench.records.tables import (
    EVENTS_FILE,
    MARKERS_FILE,
    METRICS_FILE,
    SUBSET_MARKERS_FILE,
    SUBSET_METRICS_FILE,
    read_events,
    read_table,
)

__all__ = [
    "EVENTS_FILE", "LOG_FILE", "MARKERS_FILE", "METRICS_FILE", "SUBSET_MARKERS_FILE", "SUBSET_METRICS_FILE", "RunFolder",
    "read_events", "read_table", "run_id",
]  # fmt: skip

LOG_FILE = "run.log"
TRAINING_FILE, FITTED_FILE = "training.json", "fitted.json"
ATTRIBUTION_FILE, WEIGHTS_FILE = "maps/attribution.csv", "maps/modality_weights.csv"
FEATURES_FILE = "features.parquet"
CANCEL_FILE, _LOCK_FILE = "cancel", ".lock"
RESERVE_FILE = ".reserve"
_RESERVE_BYTES = 256 * 1024
"""Space that a running run holds back, so that it can still write how it ended on a disk that has filled up."""
PAUSE = "pause"
"""What stands in the cancel file where the run is to be resumed by the queue that stopped it."""
PAUSE_GRACE = "WORKBENCH_PAUSE_GRACE"
"""Environment variable: seconds that a queue leaves a run it pauses to reach its next step and save; otherwise as in a cancel."""


class RunFolder:
    """A run folder, opened. Also the `Recorder` that training is given.

    Use `RunFolder.create` or `RunFolder.open`. The driver process writes status, notebook and log; the kernel writes the
    rest and the heartbeat.

    Attributes:
        folder: the folder.
        spec: the content of `spec.json` as plain dictionary (see `check_spec` for the keys).
    """

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder = folder
        self.spec = spec
        self._beat = 0.0

    # -- opening ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, experiment: str | Path, spec: dict[str, Any]) -> RunFolder:
        """Create `experiment/<run id>`, queued; or open it where the same run is already there.

        Args:
            experiment: folder of the experiment, `runs/<experiment>`.
            spec: see `check_spec`.

        Raises:
            RunError: the spec is not one, or the folder holds a run of other parameters.
        """
        try:
            document = check_spec(spec)
        except RunError as error:
            raise RunError(f"this does not describe a run: {error}") from error
        parent = Path(experiment)
        folder = parent / document["run"]
        if not folder.exists():
            temporary = parent / f".{uuid.uuid4().hex[:12]}.tmp"
            try:
                write_json(temporary / SPEC_FILE, document)
                write_json(temporary / STATUS_FILE, {"state": "queued", "created": now(), "since": now()})
                with contextlib.suppress(OSError):  # somebody else was quicker: theirs is opened below
                    temporary.rename(folder)
            except OSError as error:
                raise RunError(
                    f"no run folder can be made in {parent} ({error.strerror}): choose another --runs folder, or see to that one"
                ) from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        opened = cls.open(folder)
        for key in ("method", "parameters"):
            if opened.spec[key] != document[key]:
                raise RunError(
                    f"{folder} holds another run (its {key} differ); remove the folder or choose another --runs folder"
                )
        return opened

    @classmethod
    def open(cls, folder: str | Path) -> RunFolder:
        """Open a run folder.

        Raises:
            RunError: it is missing, its `spec.json` cannot be used, or it holds what no run does (`check_contents`).
        """
        folder = Path(folder)
        spec = read_spec(folder)
        check_contents(folder)
        return cls(folder, spec)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.folder)!r}, {self.spec['method']})"

    # -- where things are ------------------------------------------------------------------------------------------

    def path(self, *parts: str) -> Path:
        """A path inside the run folder; its parent folder is made."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def cohort_path(self) -> Path:
        """Where the run's cohort was, from the path relative to the run folder; it may have moved since."""
        return Path(os.path.normpath(self.folder.resolve() / self.spec["cohort"]["path"]))

    def unchanged_cohort(self, refused: str) -> Cohort:
        """The run's cohort.

        Args:
            refused: what is impossible without it, e.g. 'cannot be extended'.

        Raises:
            RunError: it cannot be read, or is not what it was when the run was made.
        """
        try:
            cohort = Cohort.open(self.cohort_path)
        except WorkbenchError as error:
            raise RunError(f"run {self.folder} {refused}: its cohort cannot be read; was it moved? {error}") from error
        if cohort.fingerprint() != self.spec["cohort"]["fingerprint"]:
            raise RunError(f"run {self.folder} {refused}: its cohort {self.cohort_path} is not what it was then")
        return cohort

    def parameters_here(self) -> dict[str, Any]:
        """The parameters as they were asked for, with the places where cohort and runs folder lie now."""
        where = self.folder.resolve()
        places = {"cohort": str(self.cohort_path), "runs": str(where.parents[1]), "experiment": where.parent.name}
        return {name: value for name, value in self.spec["parameters"].items() if name != "method"} | places

    # -- status ----------------------------------------------------------------------------------------------------

    @property
    def status(self) -> dict[str, Any]:
        """The content of `status.json`, read afresh: state, since, created, started,
        finished, host, pid, pgid, kernel_pid, device, error, budget ...

        Raises:
            RunError: it is missing or damaged.
        """
        return read_status(self.folder)

    @property
    def state(self) -> str:
        """The state as it stands in `status.json`; see `effective_state` for what a reader should believe."""
        return str(self.status["state"])

    def effective_state(self, stale_after: float = STALE_AFTER) -> str:
        """The state, or 'interrupted' where a run says that it is running but its process is gone or silent."""
        return effective_state(self.folder, self.status, stale_after)

    def set_status(self, state: str, **info: Any) -> None:
        """Replace `status.json`: the new state, and `info` merged into what stood there (None removes a key).

        For `pid` and `kernel_pid` the process' start time is noted too, so that a later process of the same number is
        never mistaken for it.

        Raises:
            RunError: the state may not follow the present one.
        """
        with self.locked():
            self._write_status(state, info)

    def claim(self, *, stale_after: float = STALE_AFTER, as_queued: bool = False, **info: Any) -> None:
        """Become the one process that runs this run: state 'running' with host, pid and process group.

        Args:
            stale_after: seconds without a heartbeat after which another host's run counts as abandoned.
            as_queued: claim it for who queued it: not where it was cancelled since.
            info: goes into `status.json`.

        Raises:
            RunHeldError: another live process runs it.
            RunError: it is completed, or was cancelled in the queue.
        """
        with self.locked():
            status = self.status
            if as_queued and status["state"] == "cancelled":
                raise RunError(f"run {self.folder} was cancelled while it was queued")
            if status["state"] == "running" and not is_mine(status):
                if is_held(self.folder, status, stale_after):
                    silent = f" (not seen from here: it counts as gone {stale_after:.0f} s after its last heartbeat)"
                    raise RunHeldError(
                        f"{self.folder} is being run by process {status.get('pid')} on {status.get('host')}"
                        f"{'' if is_here(status) else silent}; wait for it, or cancel it first"
                    )
                self._write_status("interrupted", {})
            (self.folder / CANCEL_FILE).unlink(missing_ok=True)
            (self.folder / HEARTBEAT_FILE).unlink(missing_ok=True)
            mine = {"host": socket.gethostname(), "pid_scope": pid_scope(), "pid": os.getpid(), "pgid": os.getpgrp()}
            gone = dict.fromkeys(("finished", "error", "failure", "kernel_pid", "kernel_pid_created", "worker"))
            attempts = int(status.get("attempts", 0)) + 1
            self._write_status("running", {**gone, "started": now(), "attempts": attempts, "slurm": slurm_job(), **mine, **info})
        with contextlib.suppress(OSError), (self.folder / RESERVE_FILE).open("wb") as reserve:
            reserve.write(os.urandom(_RESERVE_BYTES))  # no zeros: some file systems store those in no space at all

    def queue(self, worker: Mapping[str, Any], *, stale_after: float = STALE_AFTER) -> bool:
        """Become the one that has this run started: state 'queued', with who it is.

        Args:
            worker: host, pid, heartbeat (path relative to the runs folder) and what else is worth saying of who queued it.
            stale_after: as for `claim`.

        Returns:
            False where the run is completed, another live process runs it or has queued it.
        """
        with self.locked():
            status = self.status
            if status["state"] == "completed" or is_held(self.folder, status, stale_after):
                return False
            if status["state"] == "running":
                self._write_status("interrupted", {})
            (self.folder / CANCEL_FILE).unlink(missing_ok=True)
            self._write_status("queued", {**dict.fromkeys(("finished", "error", "failure")), "worker": dict(worker)})
            return True

    def give_up(self, state: str, error: str, *, stale_after: float = STALE_AFTER) -> bool:
        """Let a run fail whose process has ended without a word; False where somebody else has taken it up since.

        Args:
            state: the effective state in which it was left behind, 'queued' or 'interrupted'.
            error: why, one sentence.
            stale_after: as for `claim`.
        """
        with self.locked():
            status = self.status
            if effective_state(self.folder, status, stale_after) != state or is_held(self.folder, status, stale_after):
                return False
            self._write_status("failed", {"error": error})
            return True

    def note_queued(self, worker: Mapping[str, Any] | None) -> bool:
        """Say more of who queued this run, or that nobody does any longer (None); False where it is not queued any more."""
        with self.locked():
            if self.state != "queued":
                return False
            self._write_status("queued", {"worker": None if worker is None else dict(worker)})
            return True

    def _write_status(self, state: str, info: dict[str, Any]) -> None:
        if state not in TRANSITIONS:
            raise RunError(f"a run has no state '{state}'; there are: {', '.join(TRANSITIONS)}")
        status = self.status
        before = status["state"]
        if state != before:
            if state not in TRANSITIONS[before]:
                allowed = ", ".join(TRANSITIONS[before]) or "nothing: a finished run is immutable"
                raise RunError(f"{self.folder} is {before}; it cannot become {state} (allowed: {allowed})")
            status["since"] = now()
            if state not in ("queued", "running"):
                status["finished"] = now()
        status.update(info)
        for key in ("pid", "kernel_pid"):
            if info.get(key):
                status[f"{key}_created"] = process_created(int(info[key]))
        document = {"state": state} | {k: v for k, v in status.items() if k != "state" and v is not None}
        try:
            write_json(self.folder / STATUS_FILE, document)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            (self.folder / RESERVE_FILE).unlink(missing_ok=True)  # what was held back for this moment
            write_json(self.folder / STATUS_FILE, document)
        if state != "running":
            (self.folder / RESERVE_FILE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock: nobody changes its state meanwhile."""
        with (self.folder / _LOCK_FILE).open("a") as handle:
            with contextlib.suppress(OSError):  # some network file systems know no locks; writes are atomic all the same
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    # -- heartbeat and cancelling ----------------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Say that the run is alive (touches `heartbeat`, at most once a second)."""
        moment = time.monotonic()
        if moment - self._beat >= 1.0:
            self._beat = moment
            (self.folder / HEARTBEAT_FILE).touch()

    @contextlib.contextmanager
    def beating(self, interval: float = 10.0) -> Iterator[None]:
        """Heartbeats from a thread for as long as the block lasts: for long steps that record nothing."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(interval):
                with contextlib.suppress(OSError):
                    self.heartbeat()

        with contextlib.suppress(OSError):
            self.heartbeat()
        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(timeout=1.0)

    def request_cancel(self) -> None:
        """Ask the run to stop at its next step, keeping a checkpoint."""
        (self.folder / CANCEL_FILE).write_text("", encoding="utf-8")  # also takes the place of a pause

    def request_pause(self) -> None:
        """Ask the run to stop at its next step, keeping a checkpoint, and to count as interrupted: its queue resumes it later.

        A cancellation that was asked for before stands.
        """
        with contextlib.suppress(FileExistsError), (self.folder / CANCEL_FILE).open("x", encoding="utf-8") as handle:
            handle.write(PAUSE)

    def cancel_queued(self) -> bool:
        """Cancel a run that waits for its start; False where it does not wait (any more)."""
        with self.locked():
            if self.state != "queued":
                return False
            self._write_status("cancelled", {})
            return True

    # -- Recorder --------------------------------------------------------------------------------------------------

    def scalar(self, name: str, value: float, step: int) -> None:
        """Append one number to `events.jsonl`; not-a-number is written as null. Also a heartbeat."""
        value = float(value)
        line = json.dumps({"name": name, "step": int(step), "value": value if math.isfinite(value) else None, "time": now()})
        with (self.folder / EVENTS_FILE).open("ab+") as handle:
            # a killed process may have left half a line: it must not swallow this one
            if handle.seek(0, os.SEEK_END) > 0:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = "\n" + line
            handle.write(line.encode() + b"\n")
        self.heartbeat()

    def checkpoint(self, name: str) -> Path:
        """Path stem of the checkpoint of this name."""
        return self.path("checkpoints", name)

    def should_stop(self) -> bool:
        """Whether somebody asked the run to stop, to cancel it or as a pause."""
        return (self.folder / CANCEL_FILE).exists()

    def raise_on_stop(self) -> None:
        """End what takes long, case by case, where the run was asked to stop.

        Raises:
            StopRequest: it was; a run that has ended is not meant.
        """
        if self.should_stop() and self.state == "running":
            raise StopRequest(f"run {self.folder} was asked to stop; run it again to resume")

    def is_paused(self) -> bool:
        """Whether the run was asked to stop only for a while: see `request_pause`."""
        with contextlib.suppress(OSError):
            return (self.folder / CANCEL_FILE).read_text(encoding="utf-8") == PAUSE
        return False

    # -- what was recorded -----------------------------------------------------------------------------------------

    def events(self) -> pd.DataFrame:
        """All scalars: columns name, step, value; the last per (name, step), in the order of first appearance.

        A torn or foreign line is left out.
        """
        return read_events(self.folder / EVENTS_FILE)

    def metrics(self) -> pd.DataFrame | None:
        """The table `metrics.parquet`, None where there is none yet."""
        return read_table(self.folder / METRICS_FILE)

    def markers(self) -> pd.DataFrame | None:
        """The table `markers.parquet`, None where there is none yet."""
        return read_table(self.folder / MARKERS_FILE)

    def subset_metrics(self) -> pd.DataFrame | None:
        """The table `subset_metrics.parquet`, None where there is none yet."""
        return read_table(self.folder / SUBSET_METRICS_FILE)

    def subset_markers(self) -> pd.DataFrame | None:
        """The table `subset_markers.parquet`, None where there is none yet."""
        return read_table(self.folder / SUBSET_MARKERS_FILE)
