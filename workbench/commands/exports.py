"""`workbench export` and `workbench import-predictions`: results to other tools, and other people's results into this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.printing import PLAIN, Runs, print_value, say

export_app = typer.Typer(help="Write runs for other tools: tables, MLflow, BIDS derivatives.", **PLAIN)
import_app = typer.Typer(**PLAIN)

RunFolders = Annotated[list[Path], typer.Argument(help="run folders", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="folder to write")]


@export_app.command("csv")
def export_csv(folders: RunFolders, out: Out) -> None:
    """CSV tables: every case, and the summaries with their intervals; a data dictionary beside them."""
    from workbench.exchange.export_csv import export_csv as export

    print_value(str(export(folders, out)))


@export_app.command("mlflow")
def export_mlflow(
    folders: RunFolders,
    out: Annotated[Path | None, typer.Option("--out", help="folder for mlflow.db and the artefacts")] = None,
    tracking_uri: Annotated[str, typer.Option(help="an MLflow store of your own instead, e.g. sqlite:///mlflow.db")] = "",
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="also the checkpoints")] = False,
) -> None:
    """MLflow: parameters, scalars over steps, results with intervals, artefacts. Repeating it adds only what is new."""
    from workbench.exchange.export_mlflow import export_mlflow as export

    done = export(folders, out, tracking_uri=tracking_uri, checkpoints=checkpoints)
    say(f"{done.added} runs added, {done.there} were there already")
    print_value(done.tracking_uri)


@export_app.command("bids-derivatives")
def export_bids(folders: RunFolders, out: Out) -> None:
    """BIDS derivatives: predicted masks as *_dseg.nii.gz with label tables, marker probabilities as TSV."""
    from workbench.exchange.export_bids import export_bids as export

    print_value(str(export(folders, out)))


@import_app.command("import-predictions")
def import_predictions(
    cohort: Annotated[Path, typer.Option(help="cohort they are predictions of")],
    name: Annotated[str, typer.Option(help="what to call it in tables and legends, e.g. 'nnU-Net v2'")],
    folder: Annotated[Path | None, typer.Argument(help="folder of predicted masks (NIfTI, on the images' grid)")] = None,
    pattern: Annotated[str, typer.Option("--glob", help="file names: {case}, or the first *, is the case")] = "*.nii.gz",
    labels: Annotated[str, typer.Option(help="label convention of the masks, e.g. brats2023")] = "",
    probabilities: Annotated[
        Path | None, typer.Option(help="CSV: case, marker, class (of grade: 2, 3, 4), probability or logit")
    ] = None,
    fold: Annotated[
        str, typer.Option(help="K: trained without fold K's test cases; all: out-of-fold; none: trained on none of these cases")
    ] = "none",
    split: Annotated[str, typer.Option(help="cases that must be there: test or external")] = "test",
    modalities: Annotated[str, typer.Option(help="sequences the model was shown; default: all that a case has")] = "",
    runs: Runs = Path("runs"),
    experiment: Annotated[str, typer.Option(help="name of the group of runs")] = "imported",
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="record missing cases instead of refusing")] = False,
    quiet: Annotated[bool, typer.Option(help="no progress")] = False,
) -> None:
    """Make a run of predictions that were made elsewhere: judged by the same code, in the same tables. Prints the run folder."""
    from workbench.exchange.imported_run import import_predictions as import_them

    run = import_them(
        folder, cohort, name, pattern=pattern, labels=labels, probabilities=probabilities, fold=fold, split=split,
        modalities=modalities, runs=runs, experiment=experiment, allow_missing=allow_missing, progress=not quiet,
    )  # fmt: skip
    for note in run.status.get("notes", []):
        say(f"note: {note}")
    print_value(str(run.folder))
