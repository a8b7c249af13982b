"""The command line: thin, every command imports what it needs when it runs, so that `workbench --help` is quick.

Results go to standard output, everything else to standard error. With `--json` standard output holds one JSON document and
nothing else. The exit status is 0 when the command did what it says, 1 when it did not, 2 when it was called wrongly.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.ablation import ablation_app
from workbench.commands.cohorts import cohort_app
from workbench.commands.exports import export_app, import_app
from workbench.commands.pooling import pooling_app
from workbench.commands.printing import PLAIN, CohortFolder, Json, Runs, as_pairs, print_value, say
from workbench.commands.reproduce import reproduce_app
from workbench.commands.runs import runs_app
from workbench.commands.schedule import schedule_app
from workbench.commands.sweeps import sweeps_app
from workbench.errors import WorkbenchError

app = typer.Typer(help="Brain MRI Workbench: train, evaluate and compare methods for multi-modal brain MRI.", **PLAIN)
app.add_typer(cohort_app, name="cohort")


@app.command()
def prepare(
    folder: CohortFolder,
    spacing: Annotated[float, typer.Option(help="isotropic spacing in mm")] = 1.0,
    workers: Annotated[int, typer.Option(help="processes", min=1)] = 1,
) -> None:
    """Bring all images of a cohort onto one grid and scale, cached; a no-op when nothing changed."""
    from workbench.cohort.table import Cohort
    from workbench.prepare.settings import PrepareSettings
    from workbench.prepare.store import prepare_cohort

    prepared = prepare_cohort(Cohort.open(folder), PrepareSettings(spacing=spacing), workers=workers, progress=True)
    print_value(str(prepared.folder))


# -- methods and runs --------------------------------------------------------------------------------------------------


@app.command()
def models(
    as_json: Json = False,
    flops: Annotated[bool, typer.Option("--flops", help="count floating point operations (slow)")] = False,
) -> None:
    """List the methods at the paper's size."""
    from workbench.models.catalogue import list_models

    rows = [card.as_dict() for card in list_models()]
    if flops:
        from workbench.models.registry import flops as count_flops

        for row in rows:  # what is no network has neither parameters nor a forward pass
            row["flops"] = None if row["parameters"] is None else count_flops(row["name"])
    if as_json:
        print_value(rows)
        return
    for row in rows:
        tera = f", {row['flops'] / 1e12:.2f} TFLOP forward" if row.get("flops") else ""
        size = "no network" if row["parameters"] is None else f"{row['parameters'] / 1e6:8.2f} M"
        reported = f"; reported: {row['reported']}" if row["reported"] else ""
        print_value(f"{row['name']:<18} {size:>10}{tera}  {'+'.join(row['tasks']):<22} {row['paper']}{reported}")


@app.command("modality-embeddings")
def modality_embeddings(
    model: Annotated[Path, typer.Option(help="folder of BioBERT v1.1 as transformers saves it; nothing is downloaded")],
    out: Annotated[Path, typer.Option("--out", help="safetensors file to write: brainfm's option 'embeddings'")],
    name: Annotated[list[str] | None, typer.Option("--name", help="NAME=PHRASE of a further sequence")] = None,
) -> None:
    """Turn the phrases of all known sequences into text vectors with a BERT model that lies on this machine."""
    from workbench.models.brainfm.modality_embedding import write_embeddings

    say(f"{write_embeddings(model, out, as_pairs(name or [], '--name'))} sequences")
    print_value(str(out))


app.add_typer(runs_app)
app.add_typer(ablation_app)
app.add_typer(reproduce_app)
app.add_typer(pooling_app)
app.add_typer(import_app)
app.add_typer(export_app, name="export")
app.add_typer(schedule_app, name="schedule")
app.add_typer(sweeps_app)


# -- the house ---------------------------------------------------------------------------------------------------------


@app.command()
def viewer() -> None:
    """Fetch the volume viewer's JavaScript file from the npm registry (the one download this program makes)."""
    from workbench.commands.serving import app_folder
    from workbench.views.cases.viewer_bundle import install_viewer

    print_value(install_viewer(app_folder()))


@app.command()
def doctor(
    as_json: Json = False,
    with_audit: Annotated[bool, typer.Option("--audit", help="ask for known vulnerabilities of the installed packages")] = False,
    advisories: Annotated[
        str, typer.Option(help="with --audit: where to ask, an address that serves PyPI's JSON")
    ] = "https://pypi.org/pypi",
) -> None:
    """Say what this machine offers: versions, devices, memory, browser viewer; exit 1 where something essential is missing.

    With --audit, only ask about vulnerabilities, which sends the names and versions of the installed packages to the advisory
    source: exit 1 where some are known, 3 where not everything could be checked.
    """
    from workbench.commands.doctor import examine

    if with_audit:
        from workbench.commands.audit import audit

        found = audit(advisories)
        print_value(found.as_dict() if as_json else "\n".join(found.lines()))
        raise typer.Exit(found.exit_code)
    findings = examine()
    if as_json:
        print_value(findings)
    else:
        for finding in findings:
            print_value(
                f"{finding['state']:<8} {finding['what']}: {finding['found']}"
                + (f" -> {finding['remedy']}" if finding["remedy"] else "")
            )
    raise typer.Exit(1 if any(finding["state"] == "error" for finding in findings) else 0)


@app.command("app")
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535)] = 5006,
    address: Annotated[
        str, typer.Option(help="address to bind; any other opens patient data to the network: needs users, --origin and https")
    ] = "127.0.0.1",
    runs: Runs = Path("runs"),
    add_user: Annotated[
        str | None, typer.Option(help="add a user, asking for a password, and stop; with users all log in")
    ] = None,
    origin: Annotated[list[str] | None, typer.Option(help="NAME:PORT that people write into the browser")] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="certificate, for https", exists=True, dir_okay=False)] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="its key", exists=True, dir_okay=False)] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="no certificate: a proxy in front encrypts")] = False,
) -> None:
    """Serve the dashboard, to this machine unless told otherwise. It only reads."""
    from workbench.commands.serving import ask_for_user, serve_app

    if add_user is not None:
        say(f"{add_user} can log in ({ask_for_user(add_user)})")
        return
    serve_app(
        port=port, address=address, runs=runs, origins=origin or [], certificate=ssl_certfile, key=ssl_keyfile, plain=plain_http
    )


def main() -> None:
    """Entry point: errors in what the user gave are printed without a traceback, exit 1."""
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    try:
        app()
    except WorkbenchError as error:
        say(f"error: {error}")
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
