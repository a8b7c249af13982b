"""The command line: thin, every command imports what it needs when it runs, so that `workbench --help` is quick.

Results go to standard output, everything else to standard error. With `--json` standard output holds one JSON document and
nothing else. The exit status is 0 when the command did what it says, 1 when it did not, 2 when it was called wrongly.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.errors import InputError, ParameterError, WorkbenchError

if TYPE_CHECKING:
    from workbench.cohort.table import Cohort

_PLAIN: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
app = typer.Typer(help="Brain MRI Workbench: train, evaluate and compare methods for multi-modal brain MRI.", **_PLAIN)
cohort_app = typer.Typer(help="Make, import, check and look at cohorts.", **_PLAIN)
app.add_typer(cohort_app, name="cohort")

Json = Annotated[bool, typer.Option("--json", help="one JSON document on standard output and nothing else")]
Runs = Annotated[Path, typer.Option("--runs", help="folder of all runs")]
CohortFolder = Annotated[Path, typer.Argument(help="cohort folder", show_default=False)]


def _print(value: Any) -> None:
    if isinstance(value, str):
        typer.echo(value)
    else:
        typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _pairs(items: list[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name.strip():
            raise ParameterError(f"{option} {item}: expected NAME=VALUE")
        if name.strip() in pairs:
            raise ParameterError(f"{option} {name.strip()} is given twice")
        pairs[name.strip()] = value.strip()
    return pairs


# -- cohorts -----------------------------------------------------------------------------------------------------------


@cohort_app.command("phantom")
def cohort_phantom(
    folder: CohortFolder,
    subjects: Annotated[int, typer.Option(help="number of subjects", min=1)] = 40,
    spacing: Annotated[float, typer.Option(help="voxel edge in mm, 1 to 4")] = 2.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    signal: Annotated[str, typer.Option(help="what the markers can be read from: normal, permuted, mismatch, ...")] = "normal",
    stage: Annotated[
        str, typer.Option(help="preoperative, or posttreatment: cavity, residual tumour, time points")
    ] = "preoperative",
    lesion: Annotated[str, typer.Option(help="glioma, ms, wmh, stroke, metastasis or mixed")] = "glioma",
    workers: Annotated[int, typer.Option(help="processes", min=1)] = 1,
) -> None:
    """Make a phantom cohort: synthetic gliomas or other lesions with known truth (never clinical evidence)."""
    from workbench.cohort.folds import external_subjects, make_folds
    from workbench.cohort.phantom.writer import make_phantom
    from workbench.cohort.table import FOLDS_FILE

    cohort = make_phantom(
        folder, subjects=subjects, spacing=spacing, seed=seed, signal=signal, stage=stage, lesion=lesion, workers=workers,
        progress=True,
    )  # fmt: skip
    if len(set(cohort.cases["subject"]) - external_subjects(cohort)) > 1 and not (cohort.folder / FOLDS_FILE).exists():
        make_folds(cohort)
    _say(f"{cohort!r}")
    _print(str(folder))


@cohort_app.command("import")
def cohort_import(
    reader: Annotated[str, typer.Argument(help="generic, brats2021, brats2023, brats2024 or auto")],
    folder: Annotated[Path, typer.Argument(help="folder of the images; it is not changed")],
    out: Annotated[Path, typer.Option("--out", help="cohort folder to write")],
    t1: Annotated[str, typer.Option(help="glob relative to FOLDER; the text matched by the first * is the case")] = "",
    t1c: Annotated[str, typer.Option(help="glob")] = "",
    t2: Annotated[str, typer.Option(help="glob")] = "",
    flair: Annotated[str, typer.Option(help="glob")] = "",
    image: Annotated[list[str] | None, typer.Option("--image", help="NAME=GLOB for any other sequence")] = None,
    brain_mask: Annotated[str, typer.Option(help="glob")] = "",
    segmentation: Annotated[str, typer.Option(help="glob")] = "",
    subjects: Annotated[Path | None, typer.Option(help="CSV: case and/or subject, site, idh, codel, grade, age, ...")] = None,
    labels: Annotated[str, typer.Option(help="label convention of the masks, e.g. brats2015, lesion")] = "",
    name: Annotated[str, typer.Option(help="name of the cohort; default: name of the output folder")] = "",
    external_site: Annotated[list[str] | None, typer.Option(help="site never used for training")] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="public collection the images come from, e.g. tcga-gbm, ucsf-pdgm; or private")
    ] = None,
    lesion: Annotated[str, typer.Option(help="kind of lesion: glioma, ms, wmh, stroke, metastasis, ...")] = "",
    overwrite: Annotated[bool, typer.Option(help="replace a cohort that is already there")] = False,
) -> None:
    """Import a folder of images as a cohort; the images stay where they are."""
    from workbench.cohort.readers import import_cohort

    images = {key: value for key, value in (("t1", t1), ("t1c", t1c), ("t2", t2), ("flair", flair)) if value}
    images |= _pairs(image or [], "--image")
    cohort = import_cohort(
        reader, folder, out, images=images, brain_mask=brain_mask, segmentation=segmentation, subjects=subjects, labels=labels,
        name=name or out.name, external_sites=tuple(external_site or ()), collections=tuple(collection or ()),
        lesion=lesion, overwrite=overwrite,
    )  # fmt: skip
    _fold_and_say(cohort, out, overwrite)


def _fold_and_say(cohort: Cohort, out: Path, overwrite: bool) -> None:
    from workbench.cohort.folds import external_subjects, make_folds

    if len(set(cohort.cases["subject"]) - external_subjects(cohort)) > 1:
        make_folds(cohort, overwrite=overwrite)
    else:
        _say("fewer than two subjects to train on: no folds; the cohort can be looked at and predicted")
    _say(f"{cohort!r}")
    _print(str(out))


@cohort_app.command("merge")
def cohort_merge(
    folders: Annotated[list[Path], typer.Argument(help="two or more cohort folders", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="cohort folder to write")],
    labels: Annotated[str, typer.Option(help="lesion or WT: read every mask as one class; default: as drawn")] = "",
    lesion: Annotated[list[str] | None, typer.Option("--lesion", help="NAME=KIND: kind of lesion of the cohort NAME")] = None,
    name: Annotated[str, typer.Option(help="name of the cohort; default: name of the output folder")] = "",
    overwrite: Annotated[bool, typer.Option(help="replace a cohort that is already there")] = False,
) -> None:
    """Merge cohorts into one, images shared; names that occur twice get their cohort in front."""
    from workbench.cohort.merge import merge_cohorts

    kinds = _pairs(lesion or [], "--lesion")
    cohort = merge_cohorts(folders, out, labels=labels, lesions=kinds, name=name, overwrite=overwrite)
    _fold_and_say(cohort, out, overwrite)


@cohort_app.command("check")
def cohort_check(folder: CohortFolder, as_json: Json = False) -> None:
    """Check every file of a cohort; exit 1 on any error."""
    from workbench.cohort.check import check_cohort
    from workbench.cohort.table import Cohort

    try:
        problems = check_cohort(folder, progress=not as_json)
        cases = len(Cohort.open(folder))
    except InputError as error:
        problems, cases = list(error.problems), 0
    errors = sum(problem.severity == "error" for problem in problems)
    if as_json:
        _print({"cases": cases, "problems": [problem.as_dict() for problem in problems]})
    else:
        for problem in problems:
            _print(f"{problem.severity}: {problem}")
        _print(f"{cases} cases, {errors} errors, {len(problems) - errors} warnings")
    raise typer.Exit(1 if errors else 0)


@cohort_app.command("show")
def cohort_show(
    folder: CohortFolder,
    volumes: Annotated[bool, typer.Option(help="measure the masks too")] = False,
    as_json: Json = False,
) -> None:
    """Show what a cohort holds: sites, sequences, markers, grids."""
    from workbench.cohort.show import fingerprint_tables
    from workbench.cohort.table import Cohort

    cohort = Cohort.open(folder)
    tables = fingerprint_tables(cohort, volumes=volumes)
    if as_json:
        _print({"info": cohort.info.model_dump(mode="json"), "fingerprint": cohort.fingerprint()}
               | {name: json.loads(table.reset_index().to_json(orient="records")) for name, table in tables.items()})  # fmt: skip
        return
    _print(repr(cohort))
    for name, table in tables.items():
        _print(f"\n{name}\n{table.to_string()}")


@cohort_app.command("fold")
def cohort_fold(
    folder: CohortFolder,
    folds: Annotated[int, typer.Option(min=2)] = 5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    overwrite: Annotated[bool, typer.Option(help="deal the subjects anew; earlier runs keep the split they used")] = False,
) -> None:
    """Deal the subjects into folds, once."""
    from workbench.cohort.folds import make_folds
    from workbench.cohort.table import Cohort

    cohort = Cohort.open(folder)
    made = make_folds(cohort, folds=folds, seed=seed, overwrite=overwrite)
    for fold in range(len(made)):
        _print(f"fold {fold}: " + ", ".join(f"{n} {name}" for name, n in made.split(cohort, fold).value_counts().items()))


@cohort_app.command("filter")
def cohort_filter(
    folder: CohortFolder,
    query: Annotated[str, typer.Argument(help="e.g. \"grade == 4 and site != 'north'\"")],
    out: Annotated[Path, typer.Option("--out", help="cohort folder to write")],
    overwrite: Annotated[bool, typer.Option(help="replace a cohort that is already there")] = False,
) -> None:
    """Write a cohort of the cases that match a query on the table; images are shared, not copied."""
    from workbench.cohort.selection import filter_cohort
    from workbench.cohort.table import Cohort

    _say(repr(filter_cohort(Cohort.open(folder), query, out, overwrite=overwrite)))
    _print(str(out))


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
    _print(str(prepared.folder))


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
        _print(rows)
        return
    for row in rows:
        tera = f", {row['flops'] / 1e12:.2f} TFLOP forward" if row.get("flops") else ""
        size = "no network" if row["parameters"] is None else f"{row['parameters'] / 1e6:8.2f} M"
        reported = f"; reported: {row['reported']}" if row["reported"] else ""
        _print(f"{row['name']:<18} {size:>10}{tera}  {'+'.join(row['tasks']):<22} {row['paper']}{reported}")


@app.command("modality-embeddings")
def modality_embeddings(
    model: Annotated[Path, typer.Option(help="folder of BioBERT v1.1 as transformers saves it; nothing is downloaded")],
    out: Annotated[Path, typer.Option("--out", help="safetensors file to write: brainfm's option 'embeddings'")],
    name: Annotated[list[str] | None, typer.Option("--name", help="NAME=PHRASE of a further sequence")] = None,
) -> None:
    """Turn the phrases of all known sequences into text vectors with a BERT model that lies on this machine."""
    from workbench.models.modality_embedding import write_embeddings

    _say(f"{write_embeddings(model, out, _pairs(name or [], '--name'))} sequences")
    _print(str(out))


@app.command()
def run(
    method: Annotated[str, typer.Argument(help="as in `workbench models`")],
    cohort: Annotated[str, typer.Option(help="cohort folder; default: the embedded phantom")] = "",
    parameter: Annotated[list[str] | None, typer.Option("-p", "--parameter", help="KEY=VALUE, as in --list-parameters")] = None,
    runs: Runs = Path("runs"),
    timeout: Annotated[float, typer.Option(help="minutes after which the run is killed; 0 = none", min=0)] = 0.0,
    quiet: Annotated[bool, typer.Option(help="no progress")] = False,
    list_parameters: Annotated[bool, typer.Option("--list-parameters", help="print the parameters and stop")] = False,
) -> None:
    """Run a method's notebook: prepare, train, predict, evaluate. Prints the run folder last; repeating it resumes it."""
    from workbench.experiments.parameters import ExperimentParameters, cell_source

    values: dict[str, Any] = _pairs(parameter or [], "-p")
    for name, given in (("cohort", cohort), ("runs", str(runs) if "runs" not in values else "")):
        if given:
            if name in values:
                raise ParameterError(f"'{name}' is given twice: as --{name} and as -p {name}")
            values[name] = given
    ExperimentParameters.build(method, values)
    if list_parameters:
        _print(cell_source(method))
        return
    from workbench.experiments.execution import run_notebook

    finished = run_notebook(method, values, timeout=timeout, progress=not quiet)
    _print(str(finished.folder))


@app.command("runs")
def list_all_runs(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """List all runs, newest first; an unreadable one is listed with the reason."""
    from workbench.experiments.headlines import headline
    from workbench.records.index import list_runs

    rows = list_runs(runs)
    if as_json:
        _print([
            {"run": row.run, "experiment": row.experiment, "method": row.method, "cohort": row.cohort, "status": row.state,
             "reason": row.reason, "pretrained": row.pretrained.as_dict(),
             "metrics": headline(runs / row.run) if row.readable else {}}
            for row in rows
        ])  # fmt: skip
        return
    if not rows:
        _say(f"no runs under {runs} yet: start one with `workbench run unet -p size=demo`")
    for row in rows:
        values = headline(runs / row.run) if row.readable else {}
        numbers = ", ".join(_number(name, value) for name, value in values.items())
        caution = f"  [⚠ {row.pretrained.caution}]" if row.pretrained.caution else ""
        _print(f"{row.run}  {row.method or '?'} on {row.cohort or '?'}  {row.state}  {numbers or row.reason}{caution}")


def _number(name: str, value: dict[str, Any]) -> str:
    if value["value"] is None:
        return f"{name} not estimable (n {value['n']})"
    interval = "no interval" if value["low"] is None else f"{value['low']:.3f} to {value['high']:.3f}"
    return f"{name} {value['value']:.3f} ({interval}, n {value['n']})"


@app.command()
def cancel(folder: Annotated[Path, typer.Argument(help="run folder")]) -> None:
    """Cancel a run: it saves a checkpoint, then its processes are ended."""
    from workbench.records.processes import cancel as cancel_run
    from workbench.records.run_folder import RunFolder

    _print(cancel_run(RunFolder.open(folder)))


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="folder of a trained run")],
    cohort: Annotated[Path, typer.Option(help="cohort to predict")],
    out: Annotated[Path, typer.Option("--out", help="folder for masks and markers.csv")],
) -> None:
    """Predict every case of a cohort with a trained run: masks on the native grid and markers.csv."""
    from workbench.experiments.application import predict_cohort

    _print(str(predict_cohort(folder, cohort, out)))


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="two or more run folders")],
    split: Annotated[str, typer.Option(help="test, validation or external")] = "test",
    as_json: Json = False,
) -> None:
    """Compare runs pairwise on the same subjects: paired differences with intervals, tests, Holm correction."""
    from workbench.experiments.comparison import compare as compare_runs

    table = compare_runs(*folders, split=split)
    _print(json.loads(table.to_json(orient="records")) if as_json else table.to_string(index=False))


@app.command()
def robustness(
    folders: Annotated[list[Path], typer.Argument(help="folders of trained runs")],
    split: Annotated[str, typer.Option(help="test or external")] = "test",
    as_json: Json = False,
) -> None:
    """Judge runs under every subset of their cases' sequences, where that is not done yet; print the means."""
    from workbench.experiments.robustness import robustness_of

    table = robustness_of(folders, split=split)
    if table.empty and not as_json:
        _say(f"nothing of the {split} split was judged (with subsets=few a run judges six test cases and no external ones)")
        return
    _print(json.loads(table.to_json(orient="records")) if as_json else table.to_string(index=False))


# -- the house ---------------------------------------------------------------------------------------------------------


@app.command()
def viewer() -> None:
    """Fetch the volume viewer's JavaScript file from the npm registry (the one download this program makes)."""
    from workbench.experiments.serving import app_folder
    from workbench.views.viewer_bundle import install_viewer

    _print(install_viewer(app_folder()))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: versions, devices, memory, browser viewer; exit 1 where something essential is missing."""
    from workbench.experiments.doctor import examine

    findings = examine()
    if as_json:
        _print(findings)
    else:
        for finding in findings:
            _print(
                f"{finding['state']:<8} {finding['what']}: {finding['found']}"
                + (f" -> {finding['remedy']}" if finding["remedy"] else "")
            )
    raise typer.Exit(1 if any(finding["state"] == "error" for finding in findings) else 0)


@app.command("app")
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535)] = 5006,
    address: Annotated[
        str, typer.Option(help="address to bind; anything but 127.0.0.1 opens patient data to the network")
    ] = "127.0.0.1",
    runs: Runs = Path("runs"),
) -> None:
    """Serve the dashboard on this machine."""
    from workbench.experiments.serving import serve_app

    serve_app(port=port, address=address, runs=runs)


def main() -> None:
    """Entry point: errors in what the user gave are printed without a traceback, exit 1."""
    warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
    try:
        app()
    except WorkbenchError as error:
        _say(f"error: {error}")
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        _say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
