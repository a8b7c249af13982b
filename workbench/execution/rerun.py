"""Make a run again from its `spec.json`: the same parameters on the same cohort, split and threads, in another folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError, WorkbenchError, listed
from workbench.files import read_json
from workbench.records.artefacts_file import read_artefacts
from workbench.records.environment import code_version, differences, environment, read_environments
from workbench.records.provenance import case_digests, split_digest
from workbench.records.run_folder import RunFolder
from workbench.records.spec import EXTENDED, SPEC_FILE
from workbench.setup.opening import describe_run, open_run, open_split
from workbench.setup.parameters import DIGEST_PREFIX, ExperimentParameters, applicable, as_recorded, pretrained_digest

WHERE = ("device", "threads")
"""Parameters that say where a run computes, not what: a rerun may set them, and is compared all the same."""
FILES = ("pretrained", "embeddings")
"""Parameters of which `spec.json` keeps the digest of a file alone."""


def _silent(text: str) -> None:
    pass


def rerun(
    folder: str | Path,
    *,
    runs: str | Path | None = None,
    experiment: str = "",
    cohort: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    timeout: float = 0.0,
    progress: bool = True,
    report: bool = True,
    tell: Callable[[str], None] = _silent,
) -> RunFolder:
    """Make a run again from its `spec.json`; one that was begun is resumed, one that is done is not repeated.

    Args:
        folder: the folder of the run, in whatever state.
        runs: folder of runs for the new one; None: that of the run.
        experiment: experiment of the new one; empty: `<experiment>-rerun`.
        cohort: where the cohort lies now, if it was moved.
        values: parameters of `WHERE`, `workers`, and the path of each file in `FILES` that the run used.
        timeout: minutes; see `run_notebook`.
        progress: show progress.
        report: write `report.html` too.
        tell: takes each warning, e.g. that the code is not what it was.

    Raises:
        RunError: the run cannot be made again: its cohort, split or parameters are not what they were, or it was derived from
            others, or from files; or the new folder would be the run's own.
        ParameterError: a value that may not be set, or a file that is not the one that was used.
    """
    from workbench.execution.notebook import run_notebook

    run = RunFolder.open(folder)
    derived = run.spec.get("derived")
    if derived and derived["kind"] == EXTENDED:  # what it went on from, first
        rerun(
            _parent(run, values), runs=runs, experiment=experiment or f"{run.spec['experiment']}-rerun", cohort=cohort,
            values=values, timeout=timeout, progress=progress, report=report, tell=tell,
        )  # fmt: skip
    given = plan_rerun(folder, runs=runs, experiment=experiment, cohort=cohort, values=values, tell=tell)
    method = given.pop("method")
    return run_notebook(method, given, timeout=timeout, progress=progress, report=report, derived=derived)


def _parent(run: RunFolder, values: Mapping[str, Any] | None) -> Path:
    """The folder of the run that an extended one went on from."""
    if elsewhere := [name for name in WHERE if name in (values or {})]:
        raise ParameterError(
            f"parameter '{elsewhere[0]}' cannot be set: run {run.folder} is extended, its name depends on its parent's parameters"
        )
    parent = run.folder.parent / run.spec["derived"]["parents"][0]
    if not (parent / SPEC_FILE).is_file():
        raise RunError(f"run {run.folder} cannot be made again: it went on from run {parent}, which is not there")
    return parent


def plan_rerun(
    folder: str | Path,
    *,
    runs: str | Path | None = None,
    experiment: str = "",
    cohort: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = _silent,
) -> dict[str, Any]:
    """Check all that `rerun` checks and create the folder of the new run, queued; see there for arguments and errors.

    Returns:
        The parameters to run with, `method` among them.
    """
    run = RunFolder.open(folder)
    spec = run.spec
    derived = spec.get("derived")
    if derived and derived.get("kind") != EXTENDED:
        kind = derived.get("kind", "derived")
        raise RunError(
            f"run {run.folder} is {kind}: it was made from other runs or files, not from its parameters alone; "
            f"make again what it was made from ({', '.join(derived.get('parents', [])) or 'the imported files'})"
        )
    opened = _same_cohort(run, Path(cohort) if cohort else run.cohort_path)
    root = Path(runs) if runs else run.folder.resolve().parents[1]
    given = _parameters(run, values or {}) | {
        "cohort": str(opened.folder), "runs": str(root), "experiment": experiment or f"{spec['experiment']}-rerun",
    }  # fmt: skip
    parameters = ExperimentParameters.build(spec["method"], given)
    _same_parameters(run, parameters, values or {})
    _same_split(run, opened)
    where, new = describe_run(parameters, opened, spec["cohort"]["fingerprint"], threads=int(spec["threads"]))
    if where.resolve() == run.folder.resolve() or (derived and where.resolve().parent == run.folder.resolve().parent):
        raise RunError(f"run {run.folder} would be made again in its own folder: choose another experiment or --runs folder")
    for warning in changes_since(run):
        tell(warning)
    if derived:  # its folder is named after its parent's, which is there by now
        where = open_run(parameters, progress=False, derived=derived)[1].folder
    if (where / SPEC_FILE).is_file():
        there = RunFolder.open(where)
        if there.status["state"] == "completed":
            tell(f"{where} is there already, completed: it is not made again; remove it or choose another --experiment")
    else:
        new["rerun_of"] = f"{spec['experiment']}/{spec['run']}"
        RunFolder.create(where.parent, new)
    return {**given, "method": spec["method"]}


def changes_since(run: RunFolder) -> list[str]:
    """What of code and environment is not what a run was computed with, one sentence each."""
    found = []
    noted = read_environments(run.folder)
    # the machine is the one that computed; its variables are a kernel's, those of the spec a driver's, as they are here
    computed = {key: value for key, value in noted[-1].items() if key != "variables"} if noted else {}
    before = {**run.spec["environment"], **computed}
    version = before.get("code_version") or run.spec["code_version"]
    if version != code_version():
        found.append(f"the run was made by code {version or 'of an unknown version'}, this is {code_version()}")
    if not before:
        return [*found, "the run says nothing of its environment (it is older than that record): what differs is not known"]
    now = environment()
    changed = differences({key: value for key, value in before.items() if key in now}, now)
    if changed:
        changes = "; ".join(f"{name} was {old}, is {new}" for name, (old, new) in changed.items())
        found.append(f"the environment is not what it was: {changes}")
    return found


# -- what must be the same ---------------------------------------------------------------------------------------------


def _same_cohort(run: RunFolder, place: Path) -> Cohort:
    wanted, name = run.spec["cohort"]["fingerprint"], run.spec["cohort"]["name"]
    try:
        cohort = Cohort.open(place)
    except WorkbenchError as error:
        raise RunError(
            f"run {run.folder} cannot be made again: its cohort {name} cannot be read at {place}; if it was moved, say where it "
            f"lies now with --cohort DIR ({error})"
        ) from error
    noted = _noted_digests(place)
    found = cohort.fingerprint()
    if found != wanted:
        raise RunError(
            f"run {run.folder} cannot be made again: cohort {place} is not what it was (fingerprint {found}, the run used "
            f"{wanted}): {_what_changed(run, cohort, noted)}. If the one that was used lies elsewhere: --cohort DIR"
        )
    return cohort


def _noted_digests(place: Path) -> dict[str, str]:
    """Image -> digest as last noted beside the cohort, before it is read afresh."""
    try:
        return {name: entry[2] for name, entry in read_json(place / "digests.json").items()}
    except (WorkbenchError, AttributeError, TypeError, IndexError, KeyError):
        return {}


def _what_changed(run: RunFolder, cohort: Cohort, noted: Mapping[str, str]) -> str:
    try:
        before = read_artefacts(run.folder)["inputs"]["cohort"]["cases"]
    except (RunError, KeyError):
        before = {}
    if before:
        now = case_digests(cohort)
        kinds = {
            "changed": [case for case in before if case in now and now[case] != before[case]],
            "gone": [case for case in before if case not in now],
            "new": [case for case in now if case not in before],
        }
        differing = [f"{len(cases)} {kind} ({listed(cases)})" for kind, cases in kinds.items() if cases]
        return f"cases {', '.join(differing)}" if differing else "the cases are the same, what cohort.json says of them is not"
    files = [name for name, digest in cohort.digests().items() if noted.get(name) not in (None, digest)]
    if files:
        return f"{len(files)} image{'s' * (len(files) > 1)} changed since they were last read ({listed(files)})"
    return "which cases differ is not known, since the run recorded none"


def _same_split(run: RunFolder, cohort: Cohort) -> None:
    """Folds are no part of the fingerprint: they can be dealt anew."""
    fold = int(run.spec["parameters"]["fold"])
    split = open_split(cohort, fold)
    if run.spec["split"]:
        same = run.spec["split"] == split_digest(split)
    else:  # an older run: its tables tell of those held out
        tables = [table for table in (run.metrics(), run.markers()) if table is not None and len(table)]
        pairs = {(case, name) for table in tables for case, name in zip(table["case"], table["split"], strict=True)}
        same = all(split.get(case) == name for case, name in pairs)
    if not same:
        raise RunError(
            f"run {run.folder} cannot be made again: the folds of cohort {cohort.folder} were dealt anew since, and "
            f"fold {fold} has other cases; put the folds.json of that time back"
        )


def _parameters(run: RunFolder, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run with `values` in place, files found and checked."""
    method, recorded = run.spec["method"], run.spec["parameters"]
    allowed = (*WHERE, "workers", *FILES)
    for name in values:
        if name not in allowed:
            raise ParameterError(
                f"parameter '{name}' cannot be set: a rerun has those of the run; only {', '.join(allowed)} may be given. "
                f"For another run: `workbench run {method} -p {name}=...`"
            )
    lacking = [name for name in recorded if name != "method" and name not in applicable(method)]
    if lacking:
        raise RunError(
            f"run {run.folder} cannot be made again by this version of the workbench: {method} has no parameter "
            f"{', '.join(lacking)} any more; it was made by code {run.spec['code_version']}"
        )
    for name in FILES:
        digest = str(recorded.get(name, ""))
        if not digest.startswith(DIGEST_PREFIX):
            continue
        called = run.spec.get(name) or "the file"
        if name not in values:
            raise ParameterError(
                f"run {run.folder} started from a file of which it keeps the digest alone ({called}, {digest}): say where it "
                f"lies with -p {name}=FILE"
            )
        if pretrained_digest(str(values[name]), name) != digest:
            raise ParameterError(
                f"parameter '{name}': {values[name]} is not the file the run used ({called}): its digest is "
                f"{pretrained_digest(str(values[name]), name)}, not {digest}"
            )
    return as_recorded(method, {name: value for name, value in recorded.items() if name != "method"}) | dict(values)


def _same_parameters(run: RunFolder, parameters: ExperimentParameters, values: Mapping[str, Any]) -> None:
    """Hold the parameters as this version resolves them against those on record."""
    recorded, now = run.spec["parameters"], parameters.resolve().identity()
    changed = [
        f"{name} was {recorded.get(name, 'not there')!r}, is {now.get(name, 'not there')!r}"
        for name in dict.fromkeys([*recorded, *now])
        if recorded.get(name) != now.get(name) and name not in (set(values) & set(WHERE))
    ]
    if changed:
        raise RunError(
            f"run {run.folder} cannot be made again by this version of the workbench, whose parameters are not those of the run: "
            f"{'; '.join(changed)}; it was made by code {run.spec['code_version']}"
        )
