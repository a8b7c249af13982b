"""`workbench sweep`: many runs from one file, by as many workers as one likes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from workbench.commands.printing import PLAIN, Json, about, as_pairs, print_value, say, size_text
from workbench.errors import ParameterError

if TYPE_CHECKING:
    from workbench.jobs.executors import Executor, Job
    from workbench.jobs.slurm import SlurmOptions
    from workbench.records.sweep_plan import SweepPlan
    from workbench.sweeps.estimate import Estimate
    from workbench.sweeps.worker import Sweep

sweeps_app = typer.Typer(**PLAIN)


@sweeps_app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file, as in notebooks/sweeps", show_default=False)],
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", help="KEY=VALUE for every run, as of `workbench run`; an experiment of its own"),
    ] = None,
    folds: Annotated[str, typer.Option(help="test folds instead of the file's: 0,1 or all")] = "",
    seeds: Annotated[str, typer.Option(help="seeds instead of the file's: 0,1")] = "",
    without: Annotated[list[str] | None, typer.Option("--without", help="leave this switch or named condition out")] = None,
    runs: Annotated[Path | None, typer.Option("--runs", help="folder of all runs instead of the file's")] = None,
    cohort: Annotated[Path | None, typer.Option("--cohort", help="cohort folder instead of the file's")] = None,
    experiment: Annotated[str, typer.Option(help="experiment instead of the file's")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what would be run, with time and disk; nothing is written")
    ] = False,
    executor: Annotated[
        Literal["local", "slurm", "debug"], typer.Option(help="on this machine, by SLURM, or (debug) in this process in turn")
    ] = "local",
    slots: Annotated[
        int, typer.Option(help="runs at once on this machine; 0: one per GPU, else one per --threads cores", min=0)
    ] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads per run; 0: the cores shared out", min=0)] = 0,
    timeout: Annotated[float, typer.Option(help="minutes after which a run is killed; 0 = none", min=0)] = 0.0,
    retries: Annotated[int, typer.Option(help="how often a run whose process vanished is taken up again", min=0)] = 1,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask, however many runs there are")] = False,
    print_script: Annotated[
        bool, typer.Option("--print", help="with slurm: print the job script instead of submitting it")
    ] = False,
    partition: Annotated[str, typer.Option(help="SLURM partition")] = "",
    time: Annotated[str, typer.Option(help="SLURM time limit of a run; longer ones are requeued", show_default="24:00:00")] = "",
    account: Annotated[str, typer.Option(help="SLURM account")] = "",
    qos: Annotated[str, typer.Option(help="SLURM quality of service")] = "",
    gres: Annotated[str, typer.Option(help="SLURM generic resources, such as gpu:1")] = "",
    cpus_per_task: Annotated[int, typer.Option(help="SLURM cores per run", min=0)] = 0,
    mem: Annotated[str, typer.Option(help="SLURM memory per run, such as 32G")] = "",
    array_parallelism: Annotated[int, typer.Option(help="SLURM jobs of an array at once; 0: no limit", min=0)] = 0,
    sbatch: Annotated[list[str] | None, typer.Option("--sbatch", help="KEY=VALUE: another option of sbatch")] = None,
    as_json: Json = False,
) -> None:
    """Run what a sweep file asks for and is not there yet; a second call on the same file joins in. Exit 0: all is completed.

    To try a file in minutes: `-p size=demo --folds 0`. It is then a plan of its own, which the same options join again.
    """
    from workbench.sweeps.overrides import Overrides
    from workbench.sweeps.sweep_file import TooManyRuns, plan_sweep
    from workbench.sweeps.worker import Sweep, pending

    options = _slurm_options(
        executor, slots, partition=partition, time=time, account=account, qos=qos, gres=gres, cpus_per_task=cpus_per_task,
        mem=mem, array_parallelism=array_parallelism, sbatch=as_pairs(sbatch or [], "--sbatch"),
    )  # fmt: skip
    overrides = Overrides(as_pairs(parameter or [], "-p"), folds, seeds, tuple(without or ()))
    planned = partial(
        plan_sweep, file, runs=runs, cohort=cohort, experiment=experiment, overrides=overrides, make_phantom=not dry_run
    )
    try:
        plan, where = planned(sure=yes)
    except TooManyRuns as question:
        if not sys.stdin.isatty() or not typer.confirm(f"{file.name} asks for {question.runs:,} runs. Go on?", err=True):
            raise
        plan, where = planned(sure=True)
    arguments = ("--timeout", str(timeout)) if timeout else ()
    if dry_run:
        _print_plan(plan, where, slots, threads, as_json=as_json)
        return
    if print_script:
        if options is None:
            raise ParameterError("--print prints a script for SLURM: it goes with --executor slurm")
        from workbench.jobs.slurm_script import slurm_script

        jobs = [one for one in _jobs(plan, where, arguments) if one.name in {cell.run for cell in pending(plan, where)}]
        script = slurm_script(jobs, options, name=plan.name)
        print_value({"sweep": plan.name, "runs": [one.name for one in jobs], "script": script} if as_json else script)
        return
    chosen, threads = _executor(executor, slots, threads, options, where)
    say(f"sweep {plan.name}: {len(plan.cells)} runs under {where}")
    worker = Sweep(
        plan, where, chosen, threads=threads, retries=retries, options=("--quiet", *arguments),
        report=(lambda text: say(text)),
    )  # fmt: skip
    _finish(worker, as_json=as_json)


def _slurm_options(executor: str, slots: int, **given: Any) -> SlurmOptions | None:
    """What SLURM is to give each run; what belongs to another executor is refused, since nothing would come of it."""
    given = {name: value for name, value in given.items() if value}
    if executor != "local" and slots:
        raise ParameterError(f"--slots are those of this machine: leave it out with --executor {executor}")
    if executor == "slurm":
        from workbench.jobs.slurm import SlurmOptions

        return SlurmOptions(**given)
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ParameterError(f"{names}: SLURM's, which does not run this: add --executor slurm, or leave it out")
    return None


def _finish(worker: Sweep, *, as_json: bool) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's way to ask
    report = worker.run()
    states = ", ".join(f"{number} {state}" for state, number in report.counts().items())
    if as_json:
        print_value({
            "sweep": report.plan.name, "completed": report.completed, "stopped": report.stopped, "pooled": report.pooled,
            "runs": [one.cell.model_dump(mode="json") | {"state": one.state, "reason": one.reason} for one in report.outcomes],
        })  # fmt: skip
    else:
        for outcome in report.outcomes:
            if outcome.state != "completed":
                print_value(
                    f"{outcome.state}: {outcome.cell.run} ({outcome.cell.method} · {outcome.cell.condition}): {outcome.reason}"
                )
        print_value(f"{report.plan.name}: {states}")
    for problem in [report.stopped, *report.unpooled]:
        if problem:
            say(f"error: {problem}")
    if not report.completed:
        raise typer.Exit(1)


def _executor(name: str, slots: int, threads: int, options: SlurmOptions | None, runs: Path) -> tuple[Executor, int]:
    """The executor, and the CPU threads of a run that names none."""
    if name == "slurm":
        from workbench.jobs.slurm_executor import SlurmExecutor

        assert options is not None
        cluster = SlurmExecutor(options, runs)
        return cluster, threads or cluster.threads
    if name == "debug":
        from workbench.execution.debug_executor import DebugExecutor

        return DebugExecutor(), threads
    from workbench.jobs.executors import LocalExecutor
    from workbench.jobs.slots import SlotPool

    pool = SlotPool(slots, threads)
    return LocalExecutor(pool), pool.threads


def _jobs(plan: SweepPlan, runs: Path, arguments: tuple[str, ...]) -> list[Job]:
    from workbench.sweeps.worker import job_of

    return [job_of(plan, cell, runs, ("--quiet", *arguments)) for cell in plan.cells]


def _print_plan(plan: SweepPlan, runs: Path, slots: int, threads: int, *, as_json: bool) -> None:
    from workbench.jobs.slots import SlotPool
    from workbench.records.sweep_plan import cell_row
    from workbench.sweeps.estimate import estimate
    from workbench.sweeps.worker import pending

    there = next(parent for parent in (runs, *runs.parents) if parent.exists())
    missing = pending(plan, runs)
    found = estimate(runs, missing, shutil.disk_usage(there).free)
    at_once = SlotPool(slots, threads).slots
    rows = [cell.model_dump(mode="json") | {"state": cell_row(runs, cell).state} for cell in plan.cells]
    if as_json:
        numbers = {
            "seconds": found.seconds,
            "bytes": found.bytes,
            "free": found.free,
            "slots": at_once,
            "unjudged": found.unjudged,
        }
        print_value({"sweep": plan.name, "runs": rows, "to_run": len(missing), "estimate": numbers})
        return
    for row in rows:
        run = f"{row['run']}  " if row["run"] else ""
        print_value(f"{row['state']:<12} {run}{row['method']} · {row['condition']} · fold {row['fold']} · seed {row['seed']}")
    if not plan.cohort.fingerprint:
        folder = os.path.normpath(runs / plan.cohort.path)
        print_value(f"first the embedded phantom is made, in {folder}; the runs have no names before")
    title = f"{plan.name}: {len(plan.cells)} runs on cohort {plan.cohort.name}{' (phantom)' if plan.cohort.phantom else ''}"
    print_value(f"{title}, {len(missing)} to run{f'; {plan.given}' if plan.given else ''}")
    print_value(_estimate_text(found, at_once))


def _estimate_text(found: Estimate, slots: int) -> str:
    if not found.runs:
        return "nothing to do"
    if found.seconds is None or found.bytes is None:
        return f"time and disk: unknown, there is no finished run of {', '.join(found.unjudged)} to go by"
    at_once = min(slots, found.runs)
    text = f"time: about {about(found.seconds)} of runs"
    if at_once > 1:
        text += f", {about(found.seconds / at_once)} with {at_once} at once"
    text += f"; disk: about {size_text(found.bytes)} of {size_text(found.free)} free"
    if found.unjudged:
        text += f" (judged by {found.judged} of {found.runs} runs: none finished of {', '.join(found.unjudged)})"
    if found.bytes > found.free:
        text += ". WARNING: that does not fit"
    return text
