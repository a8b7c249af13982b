"""`workbench run`, `runs`, `cancel`, `predict`, `compare`, `robustness`: one run, and what is made of finished ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.listing import listing_app
from workbench.commands.printing import PLAIN, Json, Penalty, RunArgument, Runs, as_pairs, print_value, say
from workbench.errors import ParameterError

runs_app = typer.Typer(**PLAIN)
runs_app.add_typer(listing_app, name="runs")


@runs_app.command()
def run(
    method: Annotated[str, typer.Argument(help="as in `workbench models`")],
    cohort: Annotated[str, typer.Option(help="cohort folder; default: the embedded phantom")] = "",
    parameter: Annotated[list[str] | None, typer.Option("-p", "--parameter", help="KEY=VALUE, as in --list-parameters")] = None,
    runs: Runs = Path("runs"),
    timeout: Annotated[float, typer.Option(help="minutes after which the run is killed; 0 = none", min=0)] = 0.0,
    quiet: Annotated[bool, typer.Option(help="no progress")] = False,
    list_parameters: Annotated[bool, typer.Option("--list-parameters", help="print the parameters and stop")] = False,
) -> None:
    """Run a method's notebook: prepare, train, predict, evaluate. Prints the run folder last; repeating it resumes it.

    `-p fold=all` runs every fold, then pools their test cases in a run of its own.
    """
    from workbench.setup.parameters import ExperimentParameters, cell_source

    values: dict[str, Any] = as_pairs(parameter or [], "-p")
    for name, given in (("cohort", cohort), ("runs", str(runs) if "runs" not in values else "")):
        if given:
            if name in values:
                raise ParameterError(f"'{name}' is given twice: as --{name} and as -p {name}")
            values[name] = given
    every_fold = values.get("fold") == "all"
    if every_fold:
        del values["fold"]
    ExperimentParameters.build(method, values)
    if list_parameters:
        print_value(cell_source(method))
        return
    if every_fold:
        from workbench.execution.cross_validation import cross_validate

        print_value(str(cross_validate(method, values, timeout=timeout, progress=not quiet, say=say).folder))
        return
    from workbench.execution.notebook import RunFailedError, run_notebook

    try:
        finished = run_notebook(method, values, timeout=timeout, progress=not quiet)
    except RunFailedError as error:
        say_failure(error.details)
        raise
    print_value(str(finished.folder))


@runs_app.command()
def extend(
    folder: RunArgument,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="epochs=N, the new length, and few others")
    ] = None,
    timeout: Annotated[float, typer.Option(help="minutes after which the run is killed; 0 = none", min=0)] = 0.0,
    quiet: Annotated[bool, typer.Option(help="no progress")] = False,
) -> None:
    """Train a completed run further, as a run of its own; its learning rate warms up and decays once more."""
    from workbench.execution.extension import extend_run
    from workbench.execution.notebook import RunFailedError

    try:
        finished = extend_run(folder, as_pairs(parameter or [], "-p"), timeout=timeout, progress=not quiet)
    except RunFailedError as error:
        say_failure(error.details)
        raise
    print_value(str(finished.folder))


def say_failure(details: Mapping[str, Any] | None) -> None:
    """Tell where a run failed: the end of the traceback and of its log; its `status.json` holds the same as `failure`."""
    for title, key in (("traceback", "lines"), ("run.log", "log")):
        if details and details[key]:
            say(f"the last lines of the {title}:" if key == "lines" else f"the last lines of {title}:")
            say("\n".join(f"  {line}" for line in details[key]))


@runs_app.command()
def cancel(folder: Annotated[Path, typer.Argument(help="run folder")]) -> None:
    """Cancel a run: it saves a checkpoint, then its processes are ended."""
    from workbench.jobs.processes import cancel as cancel_run
    from workbench.records.run_folder import RunFolder

    run = RunFolder.open(folder)
    if (state := cancel_run(run)) == "running":  # not to be reached from here
        say(f"it runs on {run.status.get('host')} and was asked to stop; look again with `workbench runs`")
    print_value(state)


@runs_app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="folder of a trained run")],
    cohort: Annotated[Path, typer.Option(help="cohort to predict")],
    out: Annotated[Path, typer.Option("--out", help="folder for masks and markers.csv")],
) -> None:
    """Predict every case of a cohort with a trained run: masks on the native grid and markers.csv."""
    from workbench.experiments.application import predict_cohort

    print_value(str(predict_cohort(folder, cohort, out)))


@runs_app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="two or more run folders")],
    split: Annotated[str, typer.Option(help="test, validation or external")] = "test",
    penalty: Penalty = "grid_diagonal",
    as_json: Json = False,
) -> None:
    """Compare runs pairwise on the same subjects: paired differences with intervals, tests, Holm correction."""
    from workbench.reports.comparison import compare as compare_runs

    table = compare_runs(*folders, split=split, penalty=penalty)
    print_value(json.loads(table.to_json(orient="records")) if as_json else table.to_string(index=False))
    _say_protocols(folders)


def _say_protocols(folders: list[Path]) -> None:
    from workbench.records.protocol import RunProtocol, protocol_remarks
    from workbench.records.run_folder import RunFolder

    for remark in protocol_remarks(RunProtocol.of(RunFolder.open(folder)) for folder in folders):
        say(remark)


@runs_app.command()
def robustness(
    folders: Annotated[list[Path], typer.Argument(help="folders of trained runs")],
    split: Annotated[str, typer.Option(help="test or external")] = "test",
    as_json: Json = False,
) -> None:
    """Judge runs under every subset of their cases' sequences, where that is not done yet; print the means."""
    from workbench.experiments.reopening import robustness_of

    table = robustness_of(folders, split=split)
    if table.empty and not as_json:
        say(f"nothing of the {split} split was judged (with subsets=few a run judges six test cases and no external ones)")
        return
    print_value(json.loads(table.to_json(orient="records")) if as_json else table.to_string(index=False))
    _say_protocols(folders)


@runs_app.command()
def sensitivity(
    folders: Annotated[list[Path], typer.Argument(help="folders of trained runs")],
    as_json: Json = False,
) -> None:
    """Judge runs on clean, misregistered and wrongly masked test cases, where that is not done yet: train x test."""
    from workbench.experiments.reopening import sensitivity_of

    table = sensitivity_of(folders)
    if table.empty and not as_json:
        say("nothing was judged: no test case has a mask, and no marker is predicted")
        return
    print_value(json.loads(table.to_json(orient="records")) if as_json else table.to_string(index=False))
