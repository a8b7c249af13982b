"""The sweep file: many runs, declared in a page of YAML, checked as a whole before any of them starts.

A sweep is methods x conditions x folds x seeds. Lists under `parameters` are crossed, lists under `zip` move together, `exclude`
takes combinations away, `include` adds some; an `ablation` names a baseline and what each switch changes of it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from workbench.cohort.folds import NUMBER_OF_FOLDS, Folds, make_folds, read_folds
from workbench.cohort.table import FOLDS_FILE, Cohort
from workbench.errors import ParameterError, WorkbenchError
from workbench.models.options import build_options
from workbench.records.spec import run_id
from workbench.records.sweep_plan import BASELINE, PlannedCohort, PlannedRun, SweepPlan
from workbench.setup.opening import check_sequences, lacks_phantom, open_cohort
from workbench.setup.parameters import DEFAULT_COHORT, DIGEST_PREFIX, FILE_PARAMETERS, LONGEST_NAME, ExperimentParameters
from workbench.sweeps.overrides import Overrides, override
from workbench.sweeps.schema import EXPERIMENT, NAMING, Scalar, SweepFile, as_text, read_sweep, same_value

MANY = 1000
"""More runs than this are asked about."""
_TOLD = 20
"""Problems that are listed; there may be more."""


class Combination(BaseModel):
    """One run as the file asks for it, not yet checked against its method."""

    model_config = ConfigDict(frozen=True)

    method: str
    condition: str
    factors: dict[str, Any]
    fold: int
    seed: int
    parameters: dict[str, Any]

    def matches(self, pattern: Mapping[str, Scalar]) -> bool:
        """Whether this combination has all the values of a pattern."""
        mine = self.parameters | {name: getattr(self, name) for name in ("method", "condition", "fold", "seed")}
        return all(name in mine and same_value(mine[name], value) for name, value in pattern.items())


def combinations(sweep: SweepFile, folds: int) -> Iterator[Combination]:
    """All runs that the file asks for, in the order: method, condition, fold, seed.

    Args:
        sweep: the file.
        folds: how many folds the cohort has.
    """
    for found in _crossed(sweep, folds):
        if not any(found.matches(pattern) for pattern in sweep.exclude):
            yield found
    for extra in sweep.include:
        yield from _included(sweep, extra, folds)


def _crossed(sweep: SweepFile, folds: int) -> Iterator[Combination]:
    """Methods x conditions x folds x seeds, before any is taken away or added."""
    for method, (condition, factors, values) in itertools.product(sweep.methods, list(_conditions(sweep))):
        for fold, seed in itertools.product(sweep.fold_list(folds), sweep.seed_list()):
            yield Combination(method=method, condition=condition, factors=factors, fold=fold, seed=seed, parameters=dict(values))


def _included(sweep: SweepFile, extra: Mapping[str, Scalar], folds: int) -> Iterator[Combination]:
    """What one entry of `include` adds: its values over those that all runs have, at the sweep's folds and seeds."""
    common = {name: value for name, value in sweep.parameters.items() if not isinstance(value, list)}
    own = {name: value for name, value in extra.items() if name not in ("method", "fold", "seed", "condition")}
    condition = str(extra.get("condition", as_text(own) or "included"))
    methods = [str(extra["method"])] if "method" in extra else sweep.methods
    for method, fold, seed in itertools.product(methods, sweep.fold_list(folds), sweep.seed_list()):
        if same_value(extra.get("fold", fold), fold) and same_value(extra.get("seed", seed), seed):
            yield Combination(
                method=method, condition=condition, factors={} if sweep.ablation else own, fold=fold, seed=seed,
                parameters={**common, **own},
            )  # fmt: skip


def _conditions(sweep: SweepFile) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, crossed values, all values) of every condition."""
    fixed = {name: value for name, value in sweep.parameters.items() if not isinstance(value, list)}
    crossed = {name: value for name, value in sweep.parameters.items() if isinstance(value, list)}
    rows = [dict(zip(sweep.zip, values, strict=True)) for values in zip(*sweep.zip.values(), strict=True)] or [{}]
    for values in itertools.product(*crossed.values()):
        for row in rows:
            factors = dict(zip(crossed, values, strict=True)) | row
            common = fixed | factors
            if sweep.ablation is None:
                yield as_text(factors) or BASELINE, factors, common
                continue
            base = common | sweep.ablation.baseline
            yield BASELINE, factors, base
            for name, changes in sweep.ablation.switches.items():
                yield name, factors, base | changes


def plan_sweep(
    path: str | Path,
    *,
    runs: Path | None = None,
    cohort: Path | None = None,
    experiment: str = "",
    overrides: Overrides | None = None,
    sure: bool = False,
    make_phantom: bool = True,
) -> tuple[SweepPlan, Path]:
    """Read, check and expand a sweep file: every run with its id. Nothing is written but, where none is named, the phantom.

    A plan that differs from the file's goes by a name of its own, so that neither takes the place of the other: what differs is
    put behind it. Runs with other parameters are an experiment of their own, too; of fewer folds they are the file's own runs.

    Args:
        path: the file.
        runs: folder of all runs instead of the file's.
        cohort: cohort folder instead of the file's.
        experiment: experiment instead of the file's; the plan then goes by the name `<name>-<experiment>`.
        overrides: other values, fewer folds, seeds or conditions than the file's.
        sure: do not mind how many runs there are.
        make_phantom: make the embedded phantom where it is needed and not there; else the runs of the plan have no names yet.

    Returns:
        The plan, and the folder of all runs.

    Raises:
        TooManyRuns: more than `MANY`, and not `sure`.
        ParameterError: something in the file is wrong; the message names everything that is.
    """
    path = Path(path).resolve()
    sweep = read_sweep(path)
    if overrides is None or overrides == Overrides():
        return _plan(sweep, path, sweep.name or path.stem, runs, cohort, experiment, sure=sure, make_phantom=make_phantom)
    found = override(sweep, path, overrides)
    changed, name = found.sweep, "-".join(filter(None, (sweep.name or path.stem, found.values, found.fewer)))
    if found.values and not experiment:
        changed = changed.model_copy(update={"experiment": f"{sweep.experiment}-{found.values}"})
    try:
        plan, where = _plan(changed, path, name, runs, cohort, experiment, sure=sure, make_phantom=make_phantom)
    except ParameterError as error:
        raise ParameterError(f"with {overrides}:\n{error}") from error
    return plan.model_copy(update={"given": found.given}), where


def _plan(
    sweep: SweepFile, path: Path, name: str, runs: Path | None, cohort: Path | None, experiment: str, *, sure: bool,
    make_phantom: bool,
) -> tuple[SweepPlan, Path]:  # fmt: skip
    if experiment and experiment != sweep.experiment:
        sweep, name = sweep.model_copy(update={"experiment": experiment}), f"{name}-{experiment}"
    if not EXPERIMENT.match(sweep.experiment):
        raise ParameterError(f"experiment '{sweep.experiment}' can only have {NAMING}: choose another --experiment")
    if len(name) > 2 * LONGEST_NAME:
        raise ParameterError(f"the plan's name '{name}' has {len(name)} letters: choose a shorter --experiment")
    where = _beside(path, sweep.runs) if sweep.runs and runs is None else Path(runs or "runs").resolve()
    if (taken := next((one for one in (where, *where.parents) if one.exists() and not one.is_dir()), None)) is not None:
        raise ParameterError(f"the runs folder of a sweep cannot be {where}: {taken} is a file; choose another --runs folder")
    _refuse_many(sweep.count(1), sweep, path, sure=sure)  # before a cohort is looked at, or made
    _check_parameters(sweep, path)
    opened = Cohort.open(cohort) if cohort is not None else _cohort(sweep, path, make_phantom=make_phantom)
    folds = NUMBER_OF_FOLDS if not isinstance(opened, Cohort) else len(_folds(opened))
    _refuse_many(sweep.count(folds), sweep, path, sure=sure)
    planned = _planned_cohort(opened, where)
    _check_extras(sweep, path, planned.name, folds)
    cells = _cells(sweep, path, opened, planned.fingerprint, folds, where)
    if not cells:
        raise ParameterError(f"sweep file {path} asks for no run: `exclude` takes everything away")
    _refuse_doubles(cells, path)
    if not planned.fingerprint:
        cells = [cell.model_copy(update={"run": ""}) for cell in cells]
    plan = SweepPlan(
        name=name,
        file=os.path.relpath(path, where),
        experiment=sweep.experiment,
        cohort=planned,
        ablation=sweep.ablation is not None,
        all_folds=sweep.folds == "all",
        cells=tuple(cells),
    )
    return plan, where


class TooManyRuns(WorkbenchError):  # noqa: N818 - a question, not a fault
    """A sweep asks for very many runs.

    Attributes:
        runs: how many.
    """

    def __init__(self, message: str, runs: int) -> None:
        super().__init__(message)
        self.runs = runs


def _refuse_many(most: int, sweep: SweepFile, path: Path, *, sure: bool) -> None:
    if most > MANY and not sure:
        raise TooManyRuns(f"{path.name} asks for {most:,} runs or more; if that is meant, say `--yes`", most)


def _check_parameters(sweep: SweepFile, path: Path) -> None:
    """Hold every condition against its method before a cohort is opened, or a phantom made for it."""
    problems = []
    for asked in combinations(sweep.model_copy(update={"folds": [0], "seeds": [0]}), 1):
        try:
            resolved = ExperimentParameters.build(asked.method, _values(asked, path)).resolve()
            build_options(asked.method, resolved.options())
        except WorkbenchError as error:
            problems.append((asked, str(error)))
    _refuse(problems, path)


def _folds(cohort: Cohort) -> Folds:
    """The folds of a cohort, as they are or as they will be dealt."""
    return read_folds(cohort) if (cohort.folder / FOLDS_FILE).is_file() else make_folds(cohort, write=False)


def _planned_cohort(cohort: Cohort | Path, runs: Path) -> PlannedCohort:
    if isinstance(cohort, Path):  # the embedded phantom, yet to be made
        return PlannedCohort(name=cohort.name, path=os.path.relpath(cohort.resolve(), runs), fingerprint="", phantom=True)
    return PlannedCohort(
        name=cohort.info.name,
        path=os.path.relpath(cohort.folder.resolve(), runs),
        fingerprint=cohort.fingerprint(),
        phantom=cohort.info.phantom,
    )


def _check_extras(sweep: SweepFile, path: Path, cohort: str, folds: int) -> None:
    """Entries that change nothing are slips of the pen: a value that no run has, a fold that the cohort has not."""
    problems = [
        f"`folds` asks for fold {fold}: cohort {cohort} has folds 0 to {folds - 1}"
        for fold in sweep.fold_list(folds)
        if fold >= folds
    ]
    every = list(_crossed(sweep, folds)) if sweep.exclude else []
    for pattern in sweep.exclude:
        if not any(one.matches(pattern) for one in every):
            problems.append(f"`exclude` entry {as_text(pattern)} takes nothing away: no run has these values")
    for extra in sweep.include:
        if not any(True for _ in _included(sweep, extra, folds)):
            problems.append(f"`include` entry {as_text(extra)} adds nothing: its fold or seed is not among `folds` and `seeds`")
    if problems:
        raise ParameterError("\n".join(f"sweep file {path}: {problem}" for problem in problems))


def _cohort(sweep: SweepFile, path: Path, *, make_phantom: bool) -> Cohort | Path:
    """The cohort of the file; the folder of the embedded phantom where that is not to be made now."""
    if sweep.cohort:
        try:
            return Cohort.open(_beside(path, sweep.cohort))
        except WorkbenchError as error:
            raise ParameterError(
                f"sweep file {path}: `cohort`: {error} (a path in a sweep file is relative to the file; `--cohort` names another)"
            ) from error
    sizes = {str(asked.parameters.get("size", "paper")) for asked in combinations(sweep, 1)}
    if len(sizes) > 1:
        raise ParameterError(f"sweep file {path}: runs of several sizes need a `cohort` of their own")
    size = min(sizes, default="paper")
    parameters = ExperimentParameters.build(sweep.every_method()[0], {"size": size})
    if not make_phantom and lacks_phantom(parameters):
        return Path(DEFAULT_COHORT[size])
    return open_cohort(parameters)


def _values(asked: Combination, path: Path) -> dict[str, Any]:
    """The parameters of a run as they are given to `workbench run`, which is started anywhere: files by their whole path."""
    values = dict(asked.parameters)
    for name in FILE_PARAMETERS:
        file = values.get(name)
        if isinstance(file, str) and file and not file.startswith(DIGEST_PREFIX):
            values[name] = str(_beside(path, file))
    return values


def _cells(sweep: SweepFile, path: Path, cohort: Cohort | Path, fingerprint: str, folds: int, runs: Path) -> list[PlannedRun]:
    """Every run with its id."""
    cells: list[PlannedRun] = []
    problems, fitting = [], set()
    for asked in combinations(sweep, folds):
        try:
            given = {**_values(asked, path), "experiment": sweep.experiment, "fold": asked.fold, "seed": asked.seed}
            parameters = ExperimentParameters.build(asked.method, {**given, "runs": str(runs)})
            condition = (asked.method, repr(asked.parameters))
            if isinstance(cohort, Cohort) and condition not in fitting:
                check_sequences(parameters, cohort)
                fitting.add(condition)
            name_of_run = run_id(parameters.resolve().identity(), fingerprint)
        except WorkbenchError as error:
            problems.append((asked, str(error)))
            continue
        cells.append(
            PlannedRun(
                run=f"{sweep.experiment}/{name_of_run}", method=asked.method, condition=asked.condition, factors=asked.factors,
                fold=asked.fold, seed=asked.seed, parameters=given,
            )
        )  # fmt: skip
    _refuse(problems, path)
    return cells


def _refuse(problems: list[tuple[Combination, str]], path: Path) -> None:
    """Say each problem once, with the method and the conditions that have it."""
    found: dict[tuple[str, str], list[str]] = {}
    for asked, text in problems:
        for line in text.splitlines():
            conditions = found.setdefault((asked.method, line), [])
            factors = as_text(asked.factors)
            name = asked.condition if asked.condition == factors or not factors else f"{factors}, {asked.condition}"
            if name not in conditions:
                conditions.append(name)
    if not found:
        return
    lines = []
    for (method, text), conditions in list(found.items())[:_TOLD]:
        more = f" and {len(conditions) - 3} more" if len(conditions) > 3 else ""
        lines.append(f"{method} ({'; '.join(conditions[:3])}{more}): {text}")
    if len(found) > _TOLD:
        lines.append(f"and {len(found) - _TOLD} more")
    raise ParameterError(f"sweep file {path} cannot be run:\n" + "\n".join(lines))


def _refuse_doubles(cells: list[PlannedRun], path: Path) -> None:
    """Two cells that are the same run would count once, or twice: neither is what the file says."""
    first: dict[str, PlannedRun] = {}
    found: dict[tuple[str, str, str, str], str] = {}
    for cell in cells:
        other = first.setdefault(cell.run, cell)
        if other is not cell:
            names = [f"{one.method} '{one.condition}' (fold {one.fold}, seed {one.seed})" for one in (other, cell)]
            differing = sorted(
                name for name in {*other.parameters, *cell.parameters} if other.parameters.get(name) != cell.parameters.get(name)
            )
            why = f": {', '.join(differing)} comes out the same in both, given or not" if differing else ""
            text = f"sweep file {path}: {names[0]} and {names[1]} are the same run{why}"
            found.setdefault((other.method, other.condition, cell.method, cell.condition), text)
    if found:
        raise ParameterError("\n".join([*found.values(), "Take one of them away: `--without` leaves a switch out by its name"]))


def _beside(path: Path, text: str) -> Path:
    return Path(os.path.normpath(path.parent / Path(text).expanduser()))
