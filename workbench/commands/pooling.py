"""`workbench pool`: the runs of all folds as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.printing import PLAIN, print_value, say

pooling_app = typer.Typer(**PLAIN)


@pooling_app.command()
def pool(
    folders: Annotated[list[Path], typer.Argument(help="run folders, one of each fold", show_default=False)],
    without_external: Annotated[
        bool, typer.Option("--without-external", help="leave external cases out: no model is needed")
    ] = False,
    quiet: Annotated[bool, typer.Option(help="no progress")] = False,
) -> None:
    """Pool the runs of all folds: every subject judged once, by the model that never saw it. Prints the run folder."""
    from workbench.experiments.pooling import pool as pool_runs

    run = pool_runs(folders, external=not without_external, progress=not quiet)
    for note in run.status.get("notes", []):
        say(f"note: {note}")
    print_value(str(run.folder))
