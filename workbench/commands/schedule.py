"""`workbench schedule ...`: what is to be run when, by whom it is started, and what became of it."""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.commands.printing import PLAIN, Json, Runs, as_pairs, print_value, say
from workbench.errors import ParameterError

if TYPE_CHECKING:
    from workbench.schedules.schedule import Schedule, ScheduleRow
    from workbench.schedules.ticker import Ticker

schedule_app = typer.Typer(help="Run sweeps and methods at set times: nightly reruns that nobody has to watch.", **PLAIN)

Name = Annotated[str, typer.Argument(help="name of the schedule", show_default=False)]


@schedule_app.command("add", context_settings={"allow_extra_args": True})
def schedule_add(
    context: typer.Context,
    name: Name,
    cron: Annotated[str, typer.Option(help="minute hour day-of-month month day-of-week, e.g. '30 2 * * 1-5'")] = "",
    every: Annotated[str, typer.Option(help="interval instead of --cron: 30m, 6h, 1d; counted from now")] = "",
    sweep: Annotated[str, typer.Option(help="sweep file to run")] = "",
    run: Annotated[str, typer.Option(help="or a method to run, as in `workbench models`")] = "",
    cohort: Annotated[str, typer.Option(help="cohort folder of --run; default: the embedded phantom")] = "",
    parameter: Annotated[list[str] | None, typer.Option("-p", "--parameter", help="KEY=VALUE of --run")] = None,
    experiment: Annotated[
        str, typer.Option(help="experiment written to; {stamp} is the scheduled time; default: NAME-{stamp}")
    ] = "",
    zone: Annotated[str, typer.Option(help="time zone of --cron, e.g. Europe/Berlin; default: this machine's")] = "",
    catch_up: Annotated[
        str, typer.Option(help="times missed while nobody looked: skip, one (run once for all of them) or all")
    ] = "one",
    grace: Annotated[str, typer.Option(help="how late a time may be before it counts as missed")] = "10m",
    skip_unchanged: Annotated[
        bool, typer.Option("--skip-unchanged/--always", help="skip where cohort, code, parameters and notebooks did not change")
    ] = True,
    timeout: Annotated[float, typer.Option(help="minutes after which it is stopped; 0 = none", min=0)] = 0.0,
    notify_command: Annotated[str, typer.Option(help="command that gets the outcome as JSON on standard input")] = "",
    notify_webhook: Annotated[str, typer.Option(help="http(s) address that gets the outcome as JSON; no log text is sent")] = "",
    notify_when: Annotated[str, typer.Option(help="failure or always")] = "failure",
    paused: Annotated[bool, typer.Option("--paused", help="add it without letting it be due yet")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="replace the schedule of this name; its history stays")] = False,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Add a schedule; what follows `--` is passed on to `workbench sweep` or `workbench run`, e.g. `-- --executor slurm`.

    Everything is checked now: times, files, cohort, method and parameters.
    """
    from workbench.schedules.check import STAMP, make_schedule
    from workbench.schedules.schedule import Notification, check_new, write_schedule

    for option, value, known in (
        ("--catch-up", catch_up, ("skip", "one", "all")),
        ("--notify-when", notify_when, ("failure", "always")),
    ):
        if value not in known:
            raise ParameterError(f"{option} {value}: there are {', '.join(known)}")
    if sweep and (cohort or parameter):
        raise ParameterError("--cohort and -p belong to --run: a sweep file names its own cohort and parameters")
    values = as_pairs(parameter or [], "-p")
    if experiment:
        if "experiment" in values:
            raise ParameterError("'experiment' is given twice: as --experiment and as -p experiment")
        values["experiment"] = experiment
    check_new(runs, name, replace=replace)
    _check_arguments("sweep" if sweep else "run", context.args)
    schedule = make_schedule(
        name, runs=runs, sweep=sweep, method=run, cohort=cohort, parameters=values, zone=zone, cron=cron, every=every,
        arguments=tuple(context.args), catch_up=catch_up, grace=grace, skip_unchanged=skip_unchanged, timeout=timeout,
        paused=paused, notify=Notification(command=notify_command, webhook=notify_webhook, when=notify_when),
    )  # fmt: skip
    write_schedule(runs, schedule, replace=replace)
    if values.get("experiment") and STAMP not in values["experiment"]:
        say(
            f"warning: a run that is complete is not repeated, and all write to {values['experiment']}: put {STAMP} into its name"
        )
    if as_json:
        print_value(schedule.model_dump(mode="json"))
        return
    say(f"next: {_next(schedule)}; it needs cron, a systemd timer (`workbench schedule units`) or `workbench schedule serve`")
    print_value(name)


_OURS = {
    "--runs",
    "--cohort",
    "--experiment",
    "-p",
    "--parameter",
    "--dry-run",
    "--print",
    "--json",
    "--list-parameters",
    "--help",
}
"""Options of `sweep` and `run` that a schedule sets itself, or that make it do nothing."""


def _check_arguments(kind: str, arguments: list[str]) -> None:
    """Hold the arguments after `--` against the command that will get them."""
    from typer.main import get_group

    from workbench.commands.runs import runs_app
    from workbench.commands.sweeps import sweeps_app

    if ours := [word for word in arguments if word.partition("=")[0] in _OURS or word.startswith("-p")]:
        raise ParameterError(f"{ours[0]} cannot be passed on to `workbench {kind}`: see the options of `workbench schedule add`")
    command = get_group(sweeps_app if kind == "sweep" else runs_app).commands[kind]
    try:
        command.make_context(kind, ["-", *arguments])
    except Exception as error:  # a UsageError: that of click, or the one of a copy of click that newer Typers carry
        if not (say_it := getattr(error, "format_message", None)):
            raise
        raise ParameterError(f"`workbench {kind}` does not take {' '.join(arguments)}: {say_it()}") from error


@schedule_app.command("list")
def schedule_list(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """List all schedules: what, when, next time, last outcome; one that cannot be read is listed with the reason."""
    from workbench.schedules.schedule import list_schedules

    rows = [_row(runs, row) for row in list_schedules(runs)]
    if as_json:
        print_value(rows)
        return
    if not rows:
        say(f"no schedules under {runs}: add one with `workbench schedule add`")
        return
    table = [["name", "what", "when", "next", "next, here", "last", "state"]]
    for row in rows:
        last = f"{row['last']['outcome']} {row['last']['scheduled'][:16]}Z" if row["last"] else "-"
        table.append(
            [
                row["name"],
                _short(row["what"]),
                row["when"],
                row["next_in_zone"],
                row["next_local"],
                last,
                row["problem"] or row["state"],
            ]
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]) - 1)]
    for line in table:
        print_value("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip())


@schedule_app.command("show")
def schedule_show(name: Name, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Show one schedule: its document, its next five times, its last outcome."""
    from workbench.schedules.schedule import ScheduleRow, read_schedule

    schedule = read_schedule(runs, name)
    row = _row(runs, ScheduleRow(name, schedule))
    times: list[datetime] = []
    moment = datetime.now(UTC)
    while len(times) < 5 and (found := schedule.timing.next_after(moment)):
        times.append(moment := found)
    document = schedule.model_dump(mode="json")
    if as_json:
        print_value({"schedule": document, **row, "times": [time.isoformat() for time in times]})
        return
    for key in ("what", "when", "state"):
        print_value(f"{key}: {row[key]}")
    document["timeout"] = f"{schedule.timeout:g} minutes" if schedule.timeout else "none"
    for key in ("catch_up", "grace", "skip_unchanged", "timeout", "created", "since"):
        print_value(f"{key.replace('_', ' ')}: {document[key]}")
    if schedule.notify.command or schedule.notify.webhook:
        print_value(f"notify: {schedule.notify.command or schedule.notify.webhook} ({schedule.notify.when})")
    print_value("next times: " + ", ".join(_both(time, schedule.zone) for time in times))
    if row["last"]:
        print_value(f"last: {row['last']['outcome']} {row['last'].get('why', '')}".rstrip())


@schedule_app.command("history")
def schedule_history(
    name: Name,
    runs: Runs = Path("runs"),
    last: Annotated[int, typer.Option(help="how many; 0 = all", min=0)] = 20,
    as_json: Json = False,
) -> None:
    """Show what became of each scheduled time, newest last. The history of a removed schedule stays."""
    from workbench.schedules.occurrences import history_path
    from workbench.schedules.schedule import check_name, read_schedule
    from workbench.schedules.unwatched import known_history

    check_name(name)
    if not history_path(runs, name).exists():
        read_schedule(runs, name)
    records, working = known_history(runs, name, all_of_it=last == 0 or last > 500)
    if as_json:
        print_value(records[-last:])
        return
    if not records and not working:
        say(f"schedule '{name}' has not been due yet")
    for record in records[-last:]:
        print_value(_line(record))
    for claim in working:
        say(_line({"scheduled": claim.scheduled.isoformat(), "outcome": "running", **claim.facts}))


@schedule_app.command("pause")
def schedule_pause(name: Name, runs: Runs = Path("runs")) -> None:
    """Keep a schedule from being due; what is running goes on."""
    from workbench.schedules.schedule import pause

    paused = pause(runs, name)
    say(f"paused until `workbench schedule resume {name}`; what is running goes on")
    print_value(paused.name)


@schedule_app.command("resume")
def schedule_resume(name: Name, runs: Runs = Path("runs")) -> None:
    """Let a paused schedule be due again; the times of the pause are not caught up on."""
    from workbench.schedules.schedule import resume

    schedule = resume(runs, name)
    say(f"next: {_next(schedule)}")
    print_value(schedule.name)


@schedule_app.command("remove")
def schedule_remove(name: Name, runs: Runs = Path("runs")) -> None:
    """Remove a schedule; its history and its runs stay, and what is running goes on."""
    from workbench.schedules.schedule import remove

    remove(runs, name)
    print_value(name)


# -- starting what is due ----------------------------------------------------------------------------------------------


@schedule_app.command("tick")
def schedule_tick(
    runs: Runs = Path("runs"),
    detach: Annotated[bool, typer.Option("--detach", help="leave it to a process of its own and return")] = False,
    as_json: Json = False,
) -> None:
    """Start what is due and wait for it; for cron and systemd. Exit 1 where anything failed."""
    from workbench.jobs.processes import start
    from workbench.schedules.occurrences import stamp
    from workbench.schedules.schedule import schedules_folder
    from workbench.schedules.ticker import Ticker, anything_due
    from workbench.schedules.units import tick_command

    if detach:
        names = anything_due(runs)
        log = schedules_folder(runs).resolve() / ".logs" / f"tick-{stamp(datetime.now(UTC))}.log"
        process = start(tick_command(runs), log) if names else None
        if as_json:
            print_value({"due": names, "pid": process.pid if process else None, "log": str(log) if process else ""})
        elif process:
            print_value(f"{', '.join(names)}: process {process.pid}, log {log}")
        return
    found: list[dict[str, Any]] = []
    ticker = Ticker(runs, found.append if as_json else _tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ticker.stop())
    well = ticker.run()
    if as_json:
        print_value(found)
    raise typer.Exit(0 if well else 1)


@schedule_app.command("serve")
def schedule_serve(
    runs: Runs = Path("runs"),
    look_every: Annotated[float, typer.Option(help="seconds between two looks", min=1, max=60)] = 10.0,
) -> None:
    """Start what is due, until stopped by Ctrl-C or SIGTERM. Schedules may be added, changed and removed meanwhile."""
    from workbench.schedules.schedule import list_schedules
    from workbench.schedules.ticker import Ticker

    ticker = Ticker(runs, _tell)
    for row in list_schedules(runs):
        say(f"{row.name}: {_next(row.schedule) if row.schedule else row.problem}")
    say("looking for what is due; Ctrl-C stops")
    _serve(ticker, look_every)
    say("stopped")


def _serve(ticker: Ticker, look_every: float) -> None:
    """A job of APScheduler that looks and polls, until a signal; then what is at work may save and end."""
    import logging

    from apscheduler.schedulers.blocking import BlockingScheduler

    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a look that takes long is no news
    scheduler = BlockingScheduler(timezone=UTC)
    stopping: list[int] = []

    def look() -> None:
        if stopping:
            ticker.stop()
        else:
            ticker.guarded_look()
        ticker.poll()
        if stopping and not ticker.busy:
            scheduler.shutdown(wait=False)

    def stop(number: int, _: Any) -> None:
        stopping.append(number)
        job.reschedule("interval", seconds=1)
        job.modify(next_run_time=datetime.now(UTC))

    job = scheduler.add_job(
        look,
        "interval",
        seconds=look_every,
        coalesce=True,
        max_instances=1,
        misfire_grace_time=None,
        next_run_time=datetime.now(UTC),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    scheduler.start()


@schedule_app.command("units")
def schedule_units(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Print a systemd service and timer, and a crontab line, to copy; they look for what is due every minute."""
    from workbench.schedules.units import UNIT, crontab_line, service_unit, timer_unit

    service, timer, line = service_unit(runs), timer_unit(), crontab_line(runs)
    if as_json:
        print_value({f"{UNIT}.service": service, f"{UNIT}.timer": timer, "crontab": line})
        return
    print_value(f"# ~/.config/systemd/user/{UNIT}.service\n{service}\n# ~/.config/systemd/user/{UNIT}.timer\n{timer}")
    print_value(f"# then: systemctl --user daemon-reload && systemctl --user enable --now {UNIT}.timer")
    print_value("# and, for runs while nobody is logged in: loginctl enable-linger\n")
    print_value(f"# or, with cron (crontab -e):\n{line}")


# -- words -------------------------------------------------------------------------------------------------------------


def _row(runs: Path, row: ScheduleRow) -> dict[str, Any]:
    """One schedule as `list` shows it."""
    from workbench.schedules.occurrences import due, read_claims
    from workbench.schedules.timing import local_zone
    from workbench.schedules.unwatched import known_history

    schedule = row.schedule
    if schedule is None:
        empty = dict.fromkeys(("what", "when", "zone", "next_in_zone", "next_local"), "-")
        return {"name": row.name, "problem": row.problem, "state": "damaged", "paused": None, "next": None, "last": None, **empty}
    now = datetime.now(UTC)
    records, running = known_history(runs, row.name)
    ended = [datetime.fromisoformat(record["scheduled"]) for record in records if "outcome" in record]
    waiting = due(schedule, [*ended, *(claim.scheduled for claim in read_claims(runs, row.name))], now).run
    state = "running" if running else "paused" if schedule.paused else "due now" if waiting else "waiting"
    coming = None if schedule.paused else schedule.timing.next_after(now)
    try:
        here = local_zone()
    except ParameterError:
        here = "UTC"
    return {
        "name": row.name, "problem": "", "state": state, "paused": schedule.paused, "what": schedule.what, "when": schedule.when,
        "zone": schedule.zone, "next": coming.isoformat() if coming else None,
        "next_in_zone": _in_zone(coming, schedule.zone), "next_local": _in_zone(coming, here),
        "last": next((one for one in reversed(records) if one.get("outcome", "still-running") != "still-running"), None),
    }  # fmt: skip


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _in_zone(moment: datetime | None, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %Z") if moment else "-"


def _both(moment: datetime, zone: str) -> str:
    there = _in_zone(moment, zone)
    return there if there.endswith(" UTC") else f"{there} ({moment:%Y-%m-%d %H:%M}Z)"


def _next(schedule: Schedule) -> str:
    if schedule.paused:
        return "paused"
    moment = schedule.timing.next_after(datetime.now(UTC))
    return _both(moment, schedule.zone) if moment else "never"


def _line(record: dict[str, Any]) -> str:
    """A line of the history in words."""
    parts = [f"{record['scheduled'][:16]}Z", record.get("outcome", "?")]
    if record.get("why"):
        parts.append(f"({record['why']})")
    if record.get("missed") and record.get("outcome") != "missed":
        parts.append(f"also for {record['missed']} missed")
    elif record.get("missed"):
        parts.append(f"{record['missed']} in all")
    for key in ("experiment", "log", "notification"):
        if record.get(key):
            parts.append(f"{key} {record[key]}")
    return " ".join(parts)


def _tell(record: dict[str, Any]) -> None:
    """What happened, as it happens: failures to standard error, which cron mails; the rest to standard output."""
    if "problem" in record:
        say(f"error: {record['schedule']}: {record['problem']}")
    elif record["outcome"] == "failed":
        say(f"error: {record['schedule']}: {_line(record)}")
    else:
        print_value(f"{record['schedule']}: {_line(record)}")
    sys.stdout.flush()
