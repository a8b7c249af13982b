"""`workbench rerun`, `verify`, `provenance`: make a run again, compare it with its rerun, say where its files come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.commands.printing import PLAIN, Json, RunArgument, as_pairs, print_value, say
from workbench.errors import ParameterError

if TYPE_CHECKING:
    from workbench.execution.verification import Verification
    from workbench.records.provenance import FileCheck

reproduce_app = typer.Typer(**PLAIN)

Moved = Annotated[Path | None, typer.Option("--cohort", help="where the run's cohort lies now, if it was moved")]
Parameters = Annotated[
    list[str] | None, typer.Option("-p", "--parameter", help="device, threads, workers, pretrained or embeddings =VALUE")
]
Timeout = Annotated[float, typer.Option(help="minutes after which the rerun is killed; 0 = none", min=0)]


@reproduce_app.command()
def rerun(
    folder: RunArgument,
    runs: Annotated[Path | None, typer.Option("--runs", help="folder of runs for the new one; default: that of the run")] = None,
    experiment: Annotated[str, typer.Option(help="experiment of the new one; default: <experiment>-rerun")] = "",
    cohort: Moved = None,
    parameter: Parameters = None,
    timeout: Timeout = 0.0,
    quiet: Annotated[bool, typer.Option(help="no progress")] = False,
) -> None:
    """Make a run again from its spec.json alone: parameters, cohort, split, seed, threads. Prints the new run folder last."""
    from workbench.execution.rerun import rerun as make_again

    finished = make_again(
        folder, runs=runs, experiment=experiment, cohort=cohort, values=as_pairs(parameter or [], "-p"), timeout=timeout,
        progress=not quiet, tell=_warn,
    )  # fmt: skip
    print_value(str(finished.folder))


@reproduce_app.command()
def verify(
    folder: RunArgument,
    again: Annotated[Path | None, typer.Argument(metavar="RERUN", help="its rerun; default: made now, and removed")] = None,
    files: Annotated[bool, typer.Option("--files", help="only read the run's files again: changed, added or missing?")] = False,
    tolerance: Annotated[
        list[str] | None, typer.Option("--tolerance", help="KIND=LARGEST, e.g. weights=0.1; see the table for kinds' units")
    ] = None,
    cohort: Moved = None,
    parameter: Parameters = None,
    keep: Annotated[bool, typer.Option("--keep", help="keep the rerun that is made, as <experiment>-rerun")] = False,
    timeout: Timeout = 0.0,
    quiet: Annotated[bool, typer.Option(help="no progress")] = False,
    as_json: Json = False,
) -> None:
    """Does a run repeat? Identical on the same machine, within tolerance on another; exit 1 where it does not."""
    if files:
        if again or tolerance or cohort or parameter or keep:
            raise ParameterError("--files reads the run's own files; it goes with no rerun and no option of one")
        _verify_files(folder, as_json)
    from workbench.execution.verification import tolerances, verify_by_rerun
    from workbench.execution.verification import verify as compare

    limits = tolerances(as_pairs(tolerance or [], "--tolerance"))
    if again is not None:
        if cohort or parameter or keep:
            raise ParameterError("--cohort, -p and --keep are for the rerun that is made; here one is given")
        found = compare(folder, again, limits=limits)
    else:
        found = verify_by_rerun(
            folder, limits=limits, cohort=cohort, values=as_pairs(parameter or [], "-p"), keep=keep, timeout=timeout,
            progress=not quiet, tell=_warn,
        )  # fmt: skip
    if as_json:
        print_value(found.as_dict())
    else:
        for line in _verification_lines(found):
            print_value(line)
    raise typer.Exit(0 if found.repeats else 1)


@reproduce_app.command()
def provenance(
    folder: RunArgument,
    file: Annotated[str, typer.Argument(help="a file of the run, e.g. metrics.parquet; default: list all")] = "",
    record: Annotated[bool, typer.Option("--record", help="record the files of a finished run that has no record yet")] = False,
    as_json: Json = False,
) -> None:
    """Where the files of a finished run come from: what made each, from what; of one FILE the chain back to the cohort."""
    from workbench.records.artefacts_file import read_artefacts
    from workbench.records.environment import read_environments
    from workbench.records.lineage import lineage, lineage_lines
    from workbench.records.provenance import write_artefacts
    from workbench.records.run_folder import RunFolder

    run = RunFolder.open(folder)
    if record:
        write_artefacts(run)
    if file:
        node = lineage(folder, file)
        if as_json:
            print_value(node)
            return
        for line in lineage_lines(node):
            print_value(line)
        return
    document = read_artefacts(folder)
    if as_json:
        print_value(document)
        return
    inputs = document["inputs"]
    print_value(f"run {document['run']}: {document['method']}, code {', '.join(document['code_versions'])}")
    print_value(f"cohort {inputs['cohort']['name']}, fingerprint {inputs['cohort']['fingerprint']}")
    for entry in read_environments(run.folder) or [{**run.spec["environment"], "since": "made"}]:
        known = [entry.get("python", "environment not recorded"), entry.get("cpu"), entry.get("card"), entry.get("system")]
        torch = entry.get("packages", {}).get("torch")
        known += [f"torch {torch}" if torch else None, f"{run.spec['threads']} thread{'s' * (run.spec['threads'] != 1)}"]
        print_value(f"environment ({entry['since']}): {', '.join(text for text in known if text)}")
    print_value(f"files as of {document['written']}")
    rows: list[tuple[str, ...]] = [("step", "kind", "bytes", "digest", "file")]
    for name, entry in document["files"].items():
        gone = " (removed)" if "removed" in entry else ""
        rows.append((entry["step"], entry["kind"], str(entry["bytes"]), entry["digest"][:12], name + gone))
    for line in _aligned(rows):
        print_value(line)


def _verify_files(folder: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from workbench.records.provenance import check_files

    found: FileCheck = check_files(folder)
    if as_json:
        print_value({**asdict(found), "unchanged": found.unchanged})
    else:
        for state in ("changed", "added", "missing", "removed"):
            for name in getattr(found, state):
                print_value(f"{state}: {name}{' (on purpose)' if state == 'removed' else ''}")
        verdict = "all as they were when the run was done" if found.unchanged else "not as they were when the run was done"
        print_value(f"{found.checked} files, {verdict}")
    raise typer.Exit(0 if found.unchanged else 1)


def _verification_lines(found: Verification) -> list[str]:
    rows: list[tuple[str, ...]] = [("artefact", "files", "verdict", "largest", "tolerated", "where")]
    for item in found.artefacts:
        largest = "" if item.largest is None else f"{item.largest:.2g} {item.unit}"
        limit = "" if item.limit is None else f"{item.limit:g}"
        rows.append((item.artefact, str(item.files), item.verdict, largest, limit, item.where))
    lines = _aligned(rows) if found.artefacts else []
    for name, (before, now) in found.environment.items():
        lines.append(f"environment: {name}: {before} | {now}")
    return [*lines, f"{found.verdict}: {found.reason}"]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _warn(text: str) -> None:
    say(f"warning: {text}")
