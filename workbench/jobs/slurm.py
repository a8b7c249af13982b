"""What the workbench asks of SLURM: whether it answers, what it is to give a job, where jobs stand, to end one.

Only SLURM's own commands are called; nothing here needs submitit.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import ParameterError, RunError

GRACE = 120
"""Seconds before the time limit (or before a preemption, as far as the site grants them) at which a job is told to save."""

LIVE = frozenset(
    {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SIGNALING",
     "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED", "PREEMPTED"}
)  # fmt: skip
"""States of jobs that have not ended for good; a preempted one is put back into the queue."""

ADVICE = {
    "TIMEOUT": "its time limit ended it; give it a longer --time",
    "OUT_OF_MEMORY": "it needed more memory than it was given; ask for more with --mem",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "it was cancelled in the queue",
    "DEADLINE": "it could not have ended before its deadline",
    "REVOKED": "another cluster took it",
}
"""SLURM's states that a run cannot write down itself, in words."""

_MINUTES = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d{1,2}){0,2})")
_OURS = {
    "array": "--array-parallelism", "time": "--time", "partition": "--partition", "account": "--account", "qos": "--qos",
    "gres": "--gres", "cpus-per-task": "--cpus-per-task", "mem": "--mem", "signal": "", "output": "", "error": "",
    "open-mode": "", "requeue": "", "no-requeue": "", "wrap": "", "ntasks": "", "nodes": "", "chdir": "",
}  # fmt: skip


@dataclass(frozen=True)
class SlurmOptions:
    """What SLURM is to give each run; an empty text or 0 leaves it to the site.

    A further option is a field here, a name in `requested`, its check below, and its option in `commands.sweeps`; `sbatch` passes
    on any other.

    Raises:
        ParameterError: an option cannot be what SLURM understands.
    """

    partition: str = ""
    time: str = "24:00:00"
    """Time limit as SLURM writes it: minutes, hours:minutes:seconds, days-hours, ... A run that needs more is requeued."""
    account: str = ""
    qos: str = ""
    gres: str = ""
    """Generic resources, such as `gpu:1`."""
    cpus_per_task: int = 0
    mem: str = ""
    """Memory, such as `32G`."""
    array_parallelism: int = 0
    """How many jobs of an array run at once; 0: as many as SLURM lets."""
    sbatch: Mapping[str, str] = field(default_factory=dict)
    """Further options of `sbatch` by their long names; an empty value is a flag."""
    requeues: int = 20
    """How often a job that reaches its time limit is put back into the queue."""

    def __post_init__(self) -> None:
        for name in ("partition", "time", "account", "qos", "gres", "mem"):
            _plain(f"--{name}", getattr(self, name))
        if self.minutes < 1:
            raise ParameterError(f"--time {self.time}: a time limit is at least a minute")
        if self.mem and not re.fullmatch(r"\d+[KMGTkmgt]?", self.mem):
            raise ParameterError(f"--mem {self.mem}: expected a number with K, M, G or T, such as 32G")
        for name in ("cpus_per_task", "array_parallelism", "requeues"):
            if getattr(self, name) < 0:
                raise ParameterError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected 0 or more")
        for key, value in self.sbatch.items():
            if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
                raise ParameterError(f"--sbatch {key}: expected the long name of an option of sbatch, such as constraint=a100")
            if key in _OURS:
                instead = f"give it as {_OURS[key]}" if _OURS[key] else "the workbench sets it itself"
                raise ParameterError(f"--sbatch {key}: {instead}")
            _plain(f"--sbatch {key}", value)

    @property
    def requested(self) -> dict[str, str | int]:
        """What is asked of the site, by field; what is left to it is left out."""
        names = ("partition", "account", "qos", "gres", "cpus_per_task", "mem")
        return {name: value for name in names if (value := getattr(self, name))}

    @property
    def minutes(self) -> int:
        """The time limit in minutes, rounded up as SLURM does."""
        match = _MINUTES.fullmatch(self.time)
        if not match:
            raise ParameterError(f"--time {self.time}: expected minutes, hours:minutes:seconds, days-hours or days-hours:minutes")
        parts = [int(part) for part in match["rest"].split(":")]
        if match["days"]:  # days-hours[:minutes[:seconds]]
            hours, minutes, seconds = [*parts, 0, 0][:3]
        elif len(parts) == 3:
            hours, minutes, seconds = parts
        else:  # minutes[:seconds]
            hours, (minutes, seconds) = 0, [*parts, 0][:2]
        return (int(match["days"] or 0) * 24 + hours) * 60 + minutes + -(-seconds // 60)

    @property
    def grace(self) -> int:
        """Seconds before the time limit at which a job is told to save: `GRACE`, but never most of the time it has."""
        return min(GRACE, 30 * self.minutes)

    @property
    def patience(self) -> float:
        """Seconds of these that the run itself has to reach its next step and save; the rest is for the requeue."""
        return max(5.0, self.grace - 30.0)


def _plain(option: str, value: str) -> None:
    if not value.isprintable() or value != value.strip():
        raise ParameterError(f"{option} {value!r}: expected one line of plain text")


def check_slurm() -> None:
    """Make sure that SLURM's commands are here and that its controller answers, before anything is submitted.

    Raises:
        RunError: naming the command that failed and the way out.
    """
    way_out = "use --executor local, or add --print and submit the script on the cluster"
    for command in ("sinfo", "sbatch", "srun", "squeue", "scancel"):
        if shutil.which(command) is None:
            raise RunError(
                f"SLURM is not on this machine: it has no command `{command}`. Go to a login node of the cluster; or {way_out}"
            )
    try:
        _ask("sinfo", "--noheader", "--format=%P")
    except RunError as error:
        raise RunError(
            f"{error}. Nothing was submitted. See `scontrol ping`, or ask who runs the cluster; or {way_out}"
        ) from error


def max_array_size() -> int:
    """How many jobs an array may have on this cluster (`MaxArraySize`)."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(match[1]) if match else 1001)


@dataclass(frozen=True)
class JobState:
    """Where a job stands: SLURM's state, and the reason it gives for it (why a job waits, what ended it)."""

    state: str
    reason: str = ""

    @property
    def live(self) -> bool:
        """Whether the job waits or runs."""
        return self.state in LIVE


def job_states(ids: Collection[str]) -> dict[str, JobState]:
    """States of jobs, in one question to the queue; of those it has forgotten the accounting is asked, where there is one.

    Args:
        ids: job numbers as `squeue` shows them, such as `12` or `12_3`.

    Returns:
        State by number; a job that neither knows is not in it.

    Raises:
        RunError: SLURM does not answer.
    """
    wanted = set(ids)
    if not wanted:
        return {}
    jobs = ",".join(sorted({name.partition("_")[0] for name in wanted}))
    try:
        listed = _ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={jobs}")
    except RunError as error:
        if "Invalid job id" not in str(error):  # so it says where it has forgotten the one it was asked for
            raise
        listed = ""
    found = _parse(listed)
    if forgotten := wanted - set(found):
        try:
            listed = _ask("sacct", "--noheader", "--allocations", "--array", "--parsable2", "--format=JobID,State",
                          f"--jobs={','.join(sorted(forgotten))}")  # fmt: skip
        except RunError:  # this site keeps no accounts
            listed = ""
        found = _parse(listed) | found
    return {name: state for name, state in found.items() if name in wanted}


def _parse(listed: str) -> dict[str, JobState]:
    states = {}
    for line in listed.splitlines():
        name, state, *reason = line.strip().split("|")
        # "CANCELLED by 1000"; a reason of "None" is none
        states[name] = JobState(state.split()[0] if state else "", reason[0] if reason and reason[0] != "None" else "")
    return states


def jobs_in_queue(ids: Collection[str]) -> set[str]:
    """Which of these jobs still wait or run; asking takes one command however many they are.

    Raises:
        RunError: SLURM does not answer.
    """
    return {name for name, state in job_states(ids).items() if state.live}


def slurm_job_of(status: Mapping[str, Any]) -> str:
    """The SLURM job that a run was given to, from its `status.json`; empty where it was not.

    A sweep that was closed leaves its jobs in the queue, and a run that was preempted is interrupted while it waits there.
    """
    worker, job = status.get("worker") or {}, status.get("slurm") or {}
    if status["state"] == "queued" and worker.get("executor") == "slurm":
        return str(worker.get("ticket", ""))
    return str(job.get("job", "")) if status["state"] in ("running", "interrupted") else ""


def cancel_job(job: str) -> None:
    """Take a job out of the queue, ending it if it runs; nothing where it has ended already.

    Raises:
        RunError: SLURM does not answer.
    """
    try:
        _ask("scancel", job)
    except RunError as error:
        if not re.search(r"Invalid job id|already complet", str(error)):
            raise


def _ask(*command: str, timeout: float = 90.0) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise RunError(f"SLURM is not on this machine: it has no command `{command[0]}`") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"SLURM does not answer: `{command[0]}` failed: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise RunError(f"SLURM does not answer: `{command[0]}` failed: {said}")
    return done.stdout
