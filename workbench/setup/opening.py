"""From parameters to a cohort, its split and a run folder; no torch: a run can be refused before anything heavy starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.cohort.folds import make_folds, read_folds
from workbench.cohort.table import FOLDS_FILE, INFO_FILE, Cohort
from workbench.contracts import SEGMENTATION
from workbench.errors import ParameterError, RunError
from workbench.files import value_digest
from workbench.jobs.processes import RUN_VARIABLE as RUN_VARIABLE
from workbench.models.catalogue import card
from workbench.models.options import build_options
from workbench.records.environment import code_version, environment
from workbench.records.provenance import split_digest
from workbench.records.run_folder import RunFolder
from workbench.records.spec import EXTENDED, SCHEMA_VERSION, SPEC_FILE, read_spec, run_id
from workbench.setup.parameters import ExperimentParameters

_PHANTOM: dict[str, dict[str, Any]] = {"demo": {"subjects": 40, "spacing": 3.0}, "paper": {"subjects": 64, "spacing": 2.0}}


def lacks_phantom(parameters: ExperimentParameters) -> bool:
    """Whether the parameters name no cohort and the embedded phantom is not there yet."""
    return not parameters.cohort and not (Path(parameters.resolve().cohort) / INFO_FILE).is_file()


def open_cohort(parameters: ExperimentParameters, *, progress: bool = True) -> Cohort:
    """The cohort that the parameters name; the embedded phantom is made on first use where none is named."""
    resolved = parameters.resolve()
    folder = Path(resolved.cohort)
    if lacks_phantom(parameters):
        from workbench.cohort.phantom.writer import make_phantom

        return make_phantom(folder, seed=0, workers=os.cpu_count() or 1, progress=progress, **_PHANTOM[resolved.size])
    return Cohort.open(folder)


def open_split(cohort: Cohort, fold: int) -> pd.Series:
    """The split of a fold (index = case); folds are written once, on first use.

    Raises:
        ParameterError: the cohort has no such fold.
    """
    folds = read_folds(cohort) if (cohort.folder / FOLDS_FILE).is_file() else make_folds(cohort)
    if fold >= len(folds):
        raise ParameterError(f"parameter 'fold' = {fold}: cohort {cohort.info.name} has folds 0 to {len(folds) - 1}")
    return folds.split(cohort, fold)


def open_run(
    parameters: ExperimentParameters, *, progress: bool = True, derived: Mapping[str, Any] | None = None
) -> tuple[Cohort, RunFolder]:
    """Open or create the run folder of these parameters on this cohort.

    Args:
        parameters: as given, not resolved.
        progress: show a bar while the embedded phantom is made.
        derived: of a run that takes another one further, what its `spec.json` says under this name. In a kernel it is known from
            the run folder that the driver made.

    Raises:
        ParameterError: the cohort has no such fold or sequence.
        RunError: the run is there, and was begun on other folds.
    """
    if derived is None and RUN_VARIABLE in os.environ:
        derived = read_spec(Path(os.environ[RUN_VARIABLE])).get("derived")
    cohort = open_cohort(parameters, progress=progress)
    check_fit(parameters, cohort)
    folder, spec = describe_run(parameters, cohort, cohort.fingerprint())
    if derived and derived["kind"] == EXTENDED:
        folder, spec = _extended(folder, spec, derived)
    if (folder / SPEC_FILE).is_file():
        run = RunFolder.open(folder)
        require_same_split(run.folder, run.spec, spec["split"])
        return cohort, run
    return cohort, RunFolder.create(folder.parent, spec)


def require_same_split(folder: Path, spec: Mapping[str, Any], split: str) -> None:
    """Refuse a run whose folds were dealt anew: what it has learned from may be among its test cases now.

    Args:
        folder: its folder.
        spec: its `spec.json`; an older one does not say what its split was.
        split: digest of the split as it is now, from `split_digest`.

    Raises:
        RunError: the splits differ.
    """
    if spec.get("split") and spec["split"] != split:
        raise RunError(
            f"run {folder} was begun on other folds: those of cohort {spec['cohort']['name']} were dealt anew since, and its "
            "training cases may be test cases now; put the folds.json of that time back, or choose another experiment"
        )


def _extended(folder: Path, spec: dict[str, Any], derived: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Folder and spec of the run that takes another one of the same experiment further: its name tells the two apart."""
    parent = read_spec(folder.parent / derived["parents"][0])
    require_same_split(folder.parent / derived["parents"][0], parent, spec["split"])
    name = value_digest([dict(derived), spec["parameters"], spec["cohort"]["fingerprint"]], 12)
    inherited = {key: parent[key] for key in ("pretrained", "threads") if key in parent}
    return folder.parent / name, spec | inherited | {"run": name, "derived": dict(derived)}


def check_fit(parameters: ExperimentParameters, cohort: Cohort) -> None:
    """Hold what the parameters name against what the cohort has, and against each other; its folds are written on first use.

    Raises:
        ParameterError: the cohort has no such fold or sequence; options that do not go together; noise that would change nothing.
    """
    resolved = parameters.resolve()
    build_options(resolved.method, resolved.options())
    check_sequences(parameters, cohort)
    check_corruption(resolved, cohort)
    open_split(cohort, parameters.fold)


def check_sequences(parameters: ExperimentParameters, cohort: Cohort) -> None:
    """Hold the sequences that the parameters name against those of the cohort.

    Raises:
        ParameterError: the cohort has not one of them, or none is left to learn from.
    """
    unknown = [name for name in parameters.modality_names() if name not in cohort.modalities]
    if unknown:
        raise ParameterError(
            f"parameter 'modalities': cohort {cohort.info.name} has no {', '.join(unknown)}; "
            f"it has {', '.join(cohort.modalities)}"
        )
    chosen = parameters.modality_names() or cohort.modalities
    if parameters.withheld() and (wrong := [name for name in parameters.withheld() if name not in chosen]):
        raise ParameterError(f"parameter 'withhold': {', '.join(wrong)} is not among the run's modalities {', '.join(chosen)}")
    if set(chosen) <= set(parameters.withheld()):
        raise ParameterError(f"parameter 'withhold' leaves nothing to learn from: the run's modalities are {', '.join(chosen)}")


def check_corruption(parameters: ExperimentParameters, cohort: Cohort) -> None:
    """Refuse noise in training that would change nothing, or leave nothing.

    Args:
        parameters: resolved.
        cohort: the cohort.

    Raises:
        ParameterError: noisy masks for a method that learns from none; a distance below a voxel; one sequence to misregister.
    """
    p = parameters
    if p.mask_noise != "none":
        from workbench.sampling.corruption import check_mask_noise  # SciPy is slow to load, and few runs ask for it

        check_mask_noise(p.mask_noise, p.mask_noise_mm, p.mask_noise_share, p.spacing)
        if SEGMENTATION not in card(p.method).tasks:
            raise ParameterError(f"parameter 'mask_noise': {p.method} learns from no mask; leave it at none")
    shown = [name for name in p.modality_names() or cohort.modalities if name not in p.withheld()]
    if p.misregistration and len(shown) < 2:
        raise ParameterError(
            f"parameter 'misregistration': training shows {shown[0]} alone, which has nothing to lie aside of; give 0"
        )


def describe_run(
    parameters: ExperimentParameters, cohort: Cohort, fingerprint: str, threads: int = 0
) -> tuple[Path, dict[str, Any]]:
    """The folder and the `spec.json` of the run that these parameters make of this cohort; nothing is written.

    Args:
        parameters: as given, not resolved.
        cohort: the cohort.
        fingerprint: its fingerprint.
        threads: CPU threads of a run that names none; 0: all that this process may use.
    """
    resolved = parameters.resolve()
    identity = run_id(resolved.identity(), fingerprint)
    experiment = Path(resolved.runs) / resolved.experiment
    folder = experiment / identity
    spec: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run": identity,
        "method": resolved.method,
        "experiment": resolved.experiment,
        "parameters": resolved.identity(),
        "cohort": {
            "name": cohort.info.name,
            "path": os.path.relpath(cohort.folder.resolve(), folder.resolve()),
            "fingerprint": fingerprint,
            "phantom": cohort.info.phantom,
            "external_sites": list(cohort.info.external_sites),
            "cases": len(cohort),
            "subjects": int(cohort.cases["subject"].nunique()),
        },
        "split": split_digest(open_split(cohort, resolved.fold)),  # folds can be dealt anew without changing the fingerprint
        "code_version": code_version(),
        "environment": environment(),
        "threads": threads if threads and resolved.threads <= 0 else thread_count(resolved),
    }
    if path := resolved.options().get("pretrained"):  # the digest is among the parameters; the name is for people
        spec["pretrained"] = Path(path).name
    return folder, spec


def thread_count(parameters: ExperimentParameters) -> int:
    """CPU threads of a run: those asked for, else all this process may use."""
    if parameters.threads > 0:
        return parameters.threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
