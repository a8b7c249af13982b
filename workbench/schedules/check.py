"""What a schedule starts: checked before it is stored, known by a fingerprint, started as the command line starts it."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.errors import ParameterError, RunError
from workbench.files import file_digest, value_digest
from workbench.jobs.processes import run_command
from workbench.models.catalogue import card
from workbench.records.environment import read_code_version
from workbench.schedules.occurrences import stamp
from workbench.schedules.schedule import Schedule, check_schedule
from workbench.schedules.timing import local_zone
from workbench.setup.opening import check_fit, open_cohort
from workbench.setup.parameters import ExperimentParameters, pretrained_digest
from workbench.sweeps.schema import EXPERIMENT

STAMP = "{stamp}"
"""Stands in the parameter `experiment` for the scheduled time, UTC: every occurrence gets an experiment of its own."""


def make_schedule(
    name: str,
    *,
    runs: str | Path,
    sweep: str | Path = "",
    method: str = "",
    cohort: str | Path = "",
    parameters: Mapping[str, str] | None = None,
    zone: str = "",
    now: datetime | None = None,
    **settings: Any,
) -> Schedule:
    """Describe and check a schedule; nothing is stored. Paths are relative to the working folder.

    Args:
        name: its name.
        runs: folder of all runs.
        sweep: sweep file; or else
        method: method of a single run, with its `cohort` and `parameters` (text). Unless `experiment` is among them, each
            occurrence has an experiment of its own, `<name>-<time>`: a run that is complete is never repeated where it is.
        zone: IANA name of the time zone; default: this machine's.
        now: the time; default: now.
        settings: further fields of `Schedule`.

    Raises:
        ParameterError: anything is wrong with it, named.
    """
    root, here = Path(runs).resolve(), Path.cwd()
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    schedule = Schedule(
        name=name,
        sweep=os.path.relpath(Path(sweep).resolve(), root) if str(sweep) else "",
        method=method,
        cohort=os.path.relpath(Path(cohort).resolve(), root) if str(cohort) else "",
        parameters=dict(parameters or {}),
        folder=os.path.relpath(here, root),
        zone=zone or local_zone(),
        created=moment,
        since=moment,
        **settings,
    )
    check_schedule(schedule)
    _check_command(schedule)
    fingerprint(schedule, root)
    return schedule


def _check_command(schedule: Schedule) -> None:
    """A notification that cannot be sent would be noticed when it is needed."""
    try:
        words = shlex.split(schedule.notify.command)
    except ValueError as error:
        raise ParameterError(f"schedule {schedule.name}: notify command {schedule.notify.command}: {error}") from None
    if words and shutil.which(words[0]) is None:
        raise ParameterError(
            f"schedule {schedule.name}: notify command '{words[0]}' is no program on this machine; give its whole path"
        )


def fingerprint(schedule: Schedule, runs: str | Path) -> dict[str, str]:
    """What the result of a schedule follows from: cohort, code, parameters or sweep file, notebooks.

    It is also the check that all of them are there and fit.

    Raises:
        ParameterError: a file, the cohort, the method or a parameter is missing or wrong; the message names it.
    """
    root = Path(runs).resolve()
    if not EXPERIMENT.match(name := experiment_name(schedule, datetime.now(UTC))):
        raise ParameterError(
            f"schedule {schedule.name}: experiment '{name}' can only have letters, digits and . _ -, and {STAMP} for the time"
        )
    with contextlib.chdir(_folder(schedule, root)):
        parts = _of_sweep(schedule, root) if schedule.sweep else _of_run(schedule, root)
    return {"code": read_code_version(), **parts}


def _folder(schedule: Schedule, root: Path) -> Path:
    folder = Path(os.path.normpath(root / schedule.folder))
    if not folder.is_dir():
        raise ParameterError(
            f"schedule {schedule.name}: its working folder {folder} is gone; bring it back, or add it again with --replace"
        )
    return folder


def _of_run(schedule: Schedule, root: Path) -> dict[str, str]:
    values: dict[str, Any] = {**schedule.parameters, "experiment": experiment_name(schedule, datetime.now(UTC))}
    if clash := [name for name in ("cohort", "runs", "method") if name in schedule.parameters]:
        raise ParameterError(f"schedule {schedule.name}: '{clash[0]}' is no parameter here: it has an option of its own")
    if schedule.cohort:
        values["cohort"] = _absolute(root, schedule.cohort)
    if values.get("fold") == "all":  # every fold in turn: what holds for one holds for all
        values["fold"] = 0
    parameters = ExperimentParameters.build(schedule.method, values)
    cohort = open_cohort(parameters, progress=sys.stderr.isatty())
    check_fit(parameters, cohort)
    files = {name: pretrained_digest(values[name], name) for name in ("pretrained", "embeddings") if values.get(name)}
    asked = {name: value for name, value in schedule.parameters.items() if name != "experiment"} | files
    return {
        "cohort": cohort.fingerprint(),
        "parameters": value_digest([schedule.method, asked]),
        "notebooks": _notebooks({schedule.method}),
    }


def _of_sweep(schedule: Schedule, root: Path) -> dict[str, str]:
    from workbench.sweeps.overrides import Overrides
    from workbench.sweeps.sweep_file import plan_sweep

    path = sweep_path(schedule, root)
    if not path.is_file():
        raise ParameterError(
            f"schedule {schedule.name}: its sweep file {path} is not there; if it was renamed or moved, "
            "`workbench schedule add` the schedule again with --replace, else remove the schedule"
        )
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--folds", "--seeds"):
        parser.add_argument(option, default="")
    parser.add_argument("--without", action="append", default=[])
    given, _ = parser.parse_known_args(schedule.arguments)  # the others change no result
    overrides = Overrides(folds=given.folds, seeds=given.seeds, without=tuple(given.without))
    plan, _ = plan_sweep(path, runs=root, overrides=overrides, sure="--yes" in schedule.arguments)
    cells = [[cell.method, cell.run.partition("/")[2], cell.parameters] for cell in plan.cells]
    return {
        "cohort": plan.cohort.fingerprint,
        "sweep": value_digest([file_digest(path), cells]),
        "notebooks": _notebooks({cell.method for cell in plan.cells}),
    }


def _notebooks(methods: set[str]) -> str:
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    digests = {}
    for method in sorted(methods):
        path = folder / f"{card(method).notebook_name}.ipynb"
        if not path.is_file():
            raise RunError(f"method '{method}' has no notebook: {path} is not there; was it renamed?")
        digests[path.name] = file_digest(path)
    return value_digest(digests)


def sweep_path(schedule: Schedule, runs: str | Path) -> Path:
    """Where the sweep file of a schedule lies."""
    return Path(_absolute(Path(runs).resolve(), schedule.sweep))


def experiment_name(schedule: Schedule, scheduled: datetime) -> str:
    """The experiment that an occurrence writes to.

    A run's name does not hold the code version, so that in an experiment of old nothing would be done anew after the code has
    changed: hence a new one for each occurrence.
    """
    wanted = schedule.parameters.get("experiment") or f"{schedule.name}-{STAMP}"
    return wanted.replace(STAMP, stamp(scheduled))


def command_of(schedule: Schedule, runs: str | Path, experiment: str) -> list[str]:
    """The command line that does what a schedule says, as a list of arguments."""
    root = Path(runs).resolve()
    if schedule.sweep:
        command = [sys.executable, "-m", "workbench.cli", "sweep", str(sweep_path(schedule, root)), "--runs", str(root)]
        return [*command, "--experiment", experiment, *schedule.arguments]
    cohort = _absolute(root, schedule.cohort) if schedule.cohort else ""
    return [
        *run_command(schedule.method, cohort, {**schedule.parameters, "experiment": experiment}, root),
        "--quiet",
        *schedule.arguments,
    ]


def working_folder(schedule: Schedule, runs: str | Path) -> Path:
    """The folder that the command runs in."""
    return _folder(schedule, Path(runs).resolve())


def _absolute(root: Path, relative: str) -> str:
    return os.path.normpath(root / relative)
