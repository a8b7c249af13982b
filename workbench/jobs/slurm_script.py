"""The script of a job array for sites where one submits by hand: plain bash that needs nothing but `workbench run`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import ParameterError
from workbench.jobs.executors import Job
from workbench.jobs.processes import QUEUED_VARIABLE
from workbench.jobs.slurm import SlurmOptions
from workbench.records.run_folder import PAUSE_GRACE


def slurm_script(jobs: Sequence[Job], options: SlurmOptions, *, name: str = "workbench") -> str:
    """A complete `sbatch` script: one array task per run, which saves, requeues itself and resumes where its time is up.

    Args:
        jobs: the runs.
        options: what SLURM is to give each.
        name: name of the job in the queue.

    Raises:
        ParameterError: there is nothing to run.
    """
    if not jobs:
        raise ParameterError("every run of this sweep is done: there is nothing to print a script for")
    here = Path.cwd()
    logs = (jobs[0].runs / ".slurm").resolve()
    parallel = f"%{options.array_parallelism}" if options.array_parallelism else ""
    flags = {
        "job-name": name,
        "array": f"0-{len(jobs) - 1}{parallel}",
        "time": options.time,
        **{name.replace("_", "-"): str(value) for name, value in options.requested.items()},
        "chdir": str(here),
        "output": "/dev/null",  # the script opens its log itself: SLURM ends a job without a word where the folder is not there
        "signal": f"B:USR2@{options.grace}",
    }
    lines = [f"#SBATCH --{flag}={shlex.quote(value)}" for flag, value in flags.items() if value]
    lines += ["#SBATCH --requeue"]
    lines += [f"#SBATCH --{key}={shlex.quote(value)}" if value else f"#SBATCH --{key}" for key, value in options.sbatch.items()]
    cases = []
    for index, job in enumerate(jobs):
        environment = {key: value for key, value in job.environment.items() if key != "CUDA_VISIBLE_DEVICES"}
        environment.pop(QUEUED_VARIABLE, None)
        words = ["env", *(f"{key}={value}" for key, value in environment.items())] if environment else []
        cases.append(f"  {index}) run=({shlex.join([*words, *job.command])}) ;;  # {job.name}")
    return _SCRIPT.format(
        flags="\n".join(lines),
        logs=shlex.quote(str(logs)),
        count=len(jobs),
        last=len(jobs) - 1,
        cases="\n".join(cases),
        requeues=options.requeues,
        python=sys.executable,
        queued=QUEUED_VARIABLE,
        pause=PAUSE_GRACE,
        patience=options.patience,
    )


_SCRIPT = """#!/bin/bash
{flags}

# {count} runs of the Brain MRI Workbench, one per task of this array: submit it with `sbatch FILE`. A run that is done is not
# repeated, so the script may be submitted again. The nodes must see {python}, the cohort and the
# runs folder under these paths.

index=${{SLURM_ARRAY_TASK_ID:?this script is an array: submit it with sbatch, or set SLURM_ARRAY_TASK_ID to 0 .. {last}}}
# of a task of an array, never SLURM_JOB_ID: that of one task is the number of the whole array
task=${{SLURM_ARRAY_JOB_ID:-0}}_$index
mkdir -p {logs} || exit 1
exec >>{logs}/"$task.log" 2>&1

case "$index" in
{cases}
  *) echo "there is no run of index $index"; exit 2 ;;
esac

# a run that was cancelled while it waited for its requeue stays cancelled; one that is submitted afresh is run
[ "${{SLURM_RESTART_COUNT:-0}}" -eq 0 ] || export {queued}=1

export {pause}={patience:g}  # seconds that a run which is told to pause has to reach its next step

requeue= signalled=
pause() {{ signalled=yes; kill -TERM "$child"; }}  # the run saves a checkpoint and counts as interrupted
trap 'requeue=yes; pause' USR2  # the time limit is near, or somebody more urgent wants the node
trap pause TERM                 # SLURM is about to end the job, and requeues it by itself where that is its plan

(trap '' USR2; exec "${{run[@]}}") &
child=$! status=
while :; do  # a signal ends `wait`, not the run
  signalled=
  wait "$child"; code=$?
  [ "$code" -eq 127 ] || status=$code
  [ -n "$signalled" ] || break
done
status=${{status:-127}}

if [ -n "$requeue" ] && [ "$status" -ne 0 ]; then
  if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {requeues} ]; then
    echo "requeued {requeues} times already: submit the script again to go on"
  else
    scontrol requeue "$task" || echo "not requeued: submit the script again to go on"
  fi
fi
exit "$status"
"""
