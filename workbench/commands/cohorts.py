"""`workbench cohort ...`: make, import, check and look at cohorts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.commands.printing import PLAIN, CohortFolder, Json, as_pairs, print_value, say
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.cohort.table import Cohort

cohort_app = typer.Typer(help="Make, import, check and look at cohorts.", **PLAIN)


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
    extra: Annotated[
        str, typer.Option(help="maps beside the four sequences: adc (diffusion), cbv (blood volume), or adc,cbv")
    ] = "",
    misregistration: Annotated[float, typer.Option(help="largest shift in mm between T1c and each other sequence, 0 to 3")] = 0.0,
    coarse_site: Annotated[str, typer.Option(help="site with whole-tumour masks only: harbour, hill, meadow, external")] = "",
    markerless_site: Annotated[str, typer.Option(help="site that knows no markers: harbour, hill, meadow, external")] = "",
    workers: Annotated[int, typer.Option(help="processes", min=1)] = 1,
) -> None:
    """Make a phantom cohort: synthetic gliomas or other lesions with known truth (never clinical evidence)."""
    from workbench.cohort.folds import external_subjects, make_folds
    from workbench.cohort.phantom.writer import make_phantom
    from workbench.cohort.table import FOLDS_FILE

    maps = tuple(name.strip() for name in extra.split(",") if name.strip())
    asked: dict[str, Any] = {"extra": maps, "misregistration": misregistration}
    asked |= {"coarse_site": coarse_site, "markerless_site": markerless_site}
    cohort = make_phantom(
        folder, subjects=subjects, spacing=spacing, seed=seed, signal=signal, stage=stage, lesion=lesion, workers=workers,
        progress=True, **{name: value for name, value in asked.items() if value},
    )  # fmt: skip
    if len(set(cohort.cases["subject"]) - external_subjects(cohort)) > 1 and not (cohort.folder / FOLDS_FILE).exists():
        make_folds(cohort)
    say(f"{cohort!r}")
    print_value(str(folder))


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
    pseudonyms: Annotated[
        bool, typer.Option("--pseudonyms", help="copy the images without names; the key is written beside OUT, as OUT.key.csv")
    ] = False,
) -> None:
    """Import a folder of images as a cohort; the images stay where they are."""
    from workbench.cohort.readers import import_cohort

    images = {key: value for key, value in (("t1", t1), ("t1c", t1c), ("t2", t2), ("flair", flair)) if value}
    images |= as_pairs(image or [], "--image")
    cohort = import_cohort(
        reader, folder, out, images=images, brain_mask=brain_mask, segmentation=segmentation, subjects=subjects, labels=labels,
        name=name or out.name, external_sites=tuple(external_site or ()), collections=tuple(collection or ()),
        lesion=lesion, overwrite=overwrite, pseudonyms=pseudonyms, progress=True,
    )  # fmt: skip
    _fold_and_say(cohort, out, overwrite)


def _fold_and_say(cohort: Cohort, out: Path, overwrite: bool) -> None:
    from workbench.cohort.folds import external_subjects, make_folds

    if len(set(cohort.cases["subject"]) - external_subjects(cohort)) > 1:
        make_folds(cohort, overwrite=overwrite)
    else:
        say("fewer than two subjects to train on: no folds; the cohort can be looked at and predicted")
    say(f"{cohort!r}")
    print_value(str(out))


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

    kinds = as_pairs(lesion or [], "--lesion")
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
        print_value({"cases": cases, "problems": [problem.as_dict() for problem in problems]})
    else:
        for problem in problems:
            print_value(f"{problem.severity}: {problem}")
        print_value(f"{cases} cases, {errors} errors, {len(problems) - errors} warnings")
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
        print_value({"info": cohort.info.model_dump(mode="json"), "fingerprint": cohort.fingerprint()}
               | {name: json.loads(table.reset_index().to_json(orient="records")) for name, table in tables.items()})  # fmt: skip
        return
    print_value(repr(cohort))
    for name, table in tables.items():
        print_value(f"\n{name}\n{table.to_string()}")


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
        print_value(f"fold {fold}: " + ", ".join(f"{n} {name}" for name, n in made.split(cohort, fold).value_counts().items()))


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

    say(repr(filter_cohort(Cohort.open(folder), query, out, overwrite=overwrite)))
    print_value(str(out))
