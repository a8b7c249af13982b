"""`workbench runs`: the list of all runs; `workbench runs prune`: removing some by policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.printing import PLAIN, Json, Runs, print_value, say, size_text
from workbench.errors import RunError
from workbench.evaluation.metrics import Kind, metric
from workbench.records.headline_file import HeadlineNumber, read_headline
from workbench.records.index import RunRow, list_runs
from workbench.views.estimates import estimate_text, share_text

listing_app = typer.Typer(**PLAIN | {"no_args_is_help": False})


@listing_app.callback(invoke_without_command=True)
def list_all_runs(context: typer.Context, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """List all runs, newest first; an unreadable one is listed with the reason. `runs prune` removes some."""
    context.obj = (runs, as_json)
    if context.invoked_subcommand:
        return

    rows = list_runs(runs)
    if as_json:
        print_value([
            {"run": row.run, "experiment": row.experiment, "method": row.method, "cohort": row.cohort, "status": row.state,
             "reason": row.reason, "pretrained": row.pretrained.as_dict(),
             "metrics": _headline(runs, row)}
            for row in rows
        ])  # fmt: skip
        return
    if not rows:
        say(f"no runs under {runs} yet: start one with `workbench run unet -p size=demo`")
    older = 0
    for row in rows:
        values = _headline(runs, row)
        older += any("n_subjects" not in value and name.startswith("dice ") for name, value in values.items())
        numbers = ", ".join(_number(name, value) for name, value in values.items())
        caution = f"  [⚠ {row.pretrained.caution}]" if row.pretrained.caution else ""
        print_value(f"{row.run}  {row.name or '?'} on {row.cohort or '?'}  {row.state}  {numbers or row.reason}{caution}")
    if older:
        say(
            f"{older} of these runs wrote their numbers down with an older version: their Dice and HD95 are means over all "
            "cases, also those without the region, which count as 1 or 0 (HD95: as 0, or the diagonal of the image)"
        )


def _headline(runs: Path, row: RunRow) -> dict[str, HeadlineNumber]:
    """What there is of it: a damaged file takes no line of the list away, and the run's tables say what is wrong."""
    try:
        return read_headline(runs / row.run) if row.readable else {}
    except RunError:
        return {}


def _number(name: str, value: HeadlineNumber) -> str:
    if value["value"] is None:
        return f"{name} not estimable (n {value['n']})"
    if name.split(" ")[0] in ("found", "false"):
        return f"{name} {share_text(value['value'], value['n'])}"
    people = value.get("n_subjects", value["n"])  # an older version did not say: no more than cases
    text = estimate_text(value["value"], value["low"], value["high"], 3, subjects=people)
    middle = "median " * ("n_subjects" in value and metric(name.split(" ")[0]).kind is Kind.DISTANCE)
    return f"{name} {middle}{text.removesuffix(')')}, n {value['n']})"


def _confirmed() -> bool:
    """Ask; where nobody answers (a scheduler, a pipe at its end) that is a no."""
    try:
        return typer.confirm("Remove them? This cannot be undone", err=True)
    except typer.Abort:
        say("\nnobody answered: say --yes to remove them without being asked")
        return False


@listing_app.command()
def prune(
    context: typer.Context,
    runs: Annotated[Path | None, typer.Option("--runs", help="folder of all runs")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="completed, failed, cancelled or interrupted; may be given several times")
    ] = None,
    older_than: Annotated[str, typer.Option(help="ended at least so long ago, e.g. 30d")] = "",
    keep_last: Annotated[
        int | None, typer.Option(help="all but the newest N of equal method, cohort and parameters", min=0)
    ] = None,
    what: Annotated[str, typer.Option(help="all, checkpoints, predictions or maps")] = "all",
    experiment: Annotated[str, typer.Option(help="only runs of this experiment")] = "",
    parents: Annotated[bool, typer.Option("--parents", help="also runs from which others are derived")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would go, and stop")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Remove runs, or parts of them, by policy: shows what would go, and asks.

    Without --state: failed, cancelled and interrupted runs; with --keep-last or --what, completed ones. Queued and running runs,
    parents of derived runs, unreadable folders and symbolic links stay. Beside whole runs of no named experiment goes what a
    killed `verify` left, and with --older-than the logs of schedules.
    """
    from workbench.execution.pruning import Policy, describe, plan_pruning
    from workbench.execution.pruning import prune as carry_out
    from workbench.schedules.timing import parse_interval

    folder, as_json = runs or context.obj[0], as_json or context.obj[1]
    if not folder.is_dir():
        raise RunError(f"there is no runs folder {folder}: name the right one with --runs")
    policy = Policy(
        tuple(state or ()), parse_interval(older_than) if older_than else None, keep_last, what,  # type: ignore[arg-type]
        experiment, parents,
    )  # fmt: skip
    plan = plan_pruning(folder, policy)
    document = {
        "runs": [{"run": r.run, "state": r.state, "bytes": r.bytes, "ended": r.ended} for r in plan.removals],
        "kept": [{"run": run, "reason": reason} for run, reason in plan.kept],
        "litter": [{"path": one.name, "what": one.title, "files": len(one.paths), "bytes": one.bytes} for one in plan.litter],
        "leftovers": len(plan.leftovers), "bytes": plan.bytes, "removed": False,
    }  # fmt: skip
    for removal in plan.removals:
        say(f"{size_text(removal.bytes):>9}  {removal.run}  {removal.title}  {removal.state} {removal.ended[:10]}")
    for one in plan.litter:
        say(f"{size_text(one.bytes):>9}  {one.name}  {one.title}")
    for run, reason in plan.kept:
        say(f"    stays  {run}: {reason}")
    if plan.leftovers:
        say(f"left behind by an earlier removal: {len(plan.leftovers)}")
    count = f"{len(plan.removals)} run{'s' * (len(plan.removals) != 1)}"
    say(f"{count if what == 'all' else f'{what} of {count}'} ({describe(policy)}) in {folder}; {size_text(plan.bytes)} in all")
    if dry_run or plan.empty or not (yes or _confirmed()):
        print_value(document if as_json else "nothing was removed")
        raise typer.Exit(0 if dry_run or plan.empty else 1)
    freed, stayed = carry_out(plan, describe(policy))
    for run, reason in stayed:
        say(f"{run} stays: {reason}")
    document |= {"removed": True, "bytes": freed, "kept": document["kept"] + [{"run": run, "reason": why} for run, why in stayed]}  # type: ignore[operator]
    print_value(document if as_json else f"{size_text(freed)} removed")
    raise typer.Exit(1 if stayed else 0)
