"""The sweep file: many runs, declared in a page of YAML, checked as a whole before any of them starts.

A sweep is methods x conditions x folds x seeds. Lists under `parameters` are crossed, lists under `zip` move together, `exclude`
takes combinations away, `include` adds some; an `ablation` names a baseline and what each switch changes of it.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from workbench.cohort.folds import make_folds, read_folds
from workbench.cohort.table import FOLDS_FILE, Cohort
from workbench.errors import ParameterError, WorkbenchError
from workbench.experiments.opening import check_fit, describe_run, open_cohort
from workbench.experiments.parameters import ExperimentParameters
from workbench.records.sweeps import BASELINE, PlannedCohort, PlannedRun, SweepPlan

Scalar = str | int | float | bool
MANY = 1000
"""More runs than this are asked about."""

_OWN = ("cohort", "runs", "experiment", "fold", "seed", "method")
"""Parameters that have a key of their own in the file."""


class Ablation(BaseModel):
    """A declared ablation: a baseline, and what each switch changes of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline: dict[str, Scalar] = Field({}, description="parameters of the baseline, beside the common ones")
    switches: dict[str, dict[str, Scalar]] = Field(min_length=1, description="name -> parameters that differ from the baseline")

    @field_validator("switches")
    @classmethod
    def _named(cls, switches: dict[str, dict[str, Scalar]]) -> dict[str, dict[str, Scalar]]:
        if BASELINE in switches:
            raise ValueError(f"a switch cannot be called '{BASELINE}'")
        if empty := [name for name, changes in switches.items() if not changes]:
            raise ValueError(f"switch '{empty[0]}' changes nothing")
        return switches


class SweepFile(BaseModel):
    """The content of a sweep file. Paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", description="default: the file's name without suffix")
    description: str = ""
    experiment: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the group of runs")
    cohort: str = Field("", description="cohort folder; empty: the embedded phantom of the runs' `size`, made on first use")
    runs: str = Field("", description="folder of all runs; empty: `runs` in the working directory, as for all commands")
    methods: list[str] = Field([], description="as in `workbench models`")
    parameters: dict[str, Scalar | list[Scalar]] = Field({}, description="name -> value, or values to cross")
    zip: dict[str, list[Scalar]] = Field({}, description="name -> values; all lists are as long and move together")
    include: list[dict[str, Scalar]] = Field([], description="combinations to add; `method`, `fold`, `seed` narrow them")
    exclude: list[dict[str, Scalar]] = Field([], description="combinations to take away: all that have these values")
    folds: list[int] | int | Literal["all"] = Field([0], description="test folds, or 'all'")
    seeds: list[int] | int = Field([0])
    ablation: Ablation | None = None


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
        return all(name in mine and mine[name] == value for name, value in pattern.items())


def read_sweep(path: str | Path) -> SweepFile:
    """Read a sweep file.

    Raises:
        ParameterError: it is missing, no YAML, or has keys or values that a sweep does not have; every one is named.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"sweep file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ParameterError(f"sweep file {path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ParameterError(f"sweep file {path} holds no keys: it needs at least `experiment` and `methods`")
    try:
        return SweepFile(**content)
    except ValidationError as error:
        known = ", ".join(SweepFile.model_fields)
        lines = []
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"] if not str(part).startswith(("list[", "union", "literal")))
            extra = f" (there are: {known})" if item["type"] == "extra_forbidden" else ""
            lines.append(f"sweep file {path}: {where or 'the file'}: {item['msg'].removeprefix('Value error, ')}{extra}")
        raise ParameterError("\n".join(dict.fromkeys(lines))) from None
    except TypeError as error:
        raise ParameterError(f"sweep file {path}: its keys must be texts ({error})") from error


def count(sweep: SweepFile, folds: int) -> int:
    """How many runs a sweep has at most, without listing them; `folds`: how many the cohort has."""
    crossed = math.prod(len(value) for value in sweep.parameters.values() if isinstance(value, list))
    zipped = max((len(values) for values in sweep.zip.values()), default=1)
    conditions = len(sweep.ablation.switches) + 1 if sweep.ablation else 1
    times = (folds if sweep.folds == "all" else len(_listed(sweep.folds))) * len(_listed(sweep.seeds))
    return (len(sweep.methods) * crossed * zipped * conditions + len(sweep.include) * max(1, len(sweep.methods))) * times


def combinations(sweep: SweepFile, folds: int) -> Iterator[Combination]:
    """All runs that the file asks for, in the order: method, condition, fold, seed.

    Args:
        sweep: the file.
        folds: how many folds the cohort has.
    """
    times = list(itertools.product(range(folds) if sweep.folds == "all" else _listed(sweep.folds), _listed(sweep.seeds)))
    for method, (condition, factors, values) in itertools.product(sweep.methods, list(_conditions(sweep))):
        for fold, seed in times:
            found = Combination(
                method=method, condition=condition, factors=factors, fold=fold, seed=seed, parameters=dict(values)
            )
            if not any(found.matches(pattern) for pattern in sweep.exclude):
                yield found
    common = {name: value for name, value in sweep.parameters.items() if not isinstance(value, list)}
    for extra in sweep.include:
        own = {name: value for name, value in extra.items() if name not in ("method", "fold", "seed", "condition")}
        condition = str(extra.get("condition", _as_text(own) or "included"))
        methods = [str(extra["method"])] if "method" in extra else sweep.methods
        for method, (fold, seed) in itertools.product(methods, times):
            if extra.get("fold", fold) == fold and extra.get("seed", seed) == seed:
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
                yield _as_text(factors) or BASELINE, factors, common
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
    sure: bool = False,
) -> tuple[SweepPlan, Path]:
    """Read, check and expand a sweep file: every run with its id. Nothing but the cohort's folds (and phantom) is written.

    Args:
        path: the file.
        runs: folder of all runs instead of the file's.
        cohort: cohort folder instead of the file's.
        experiment: experiment instead of the file's; the plan then goes by the name `<name>-<experiment>`.
        sure: do not mind how many runs there are.

    Returns:
        The plan, and the folder of all runs.

    Raises:
        TooManyRuns: more than `MANY`, and not `sure`.
        ParameterError: something in the file is wrong; the message names everything that is.
    """
    path = Path(path).resolve()
    sweep = read_sweep(path)
    name = sweep.name or path.stem
    if experiment and experiment != sweep.experiment:
        sweep, name = sweep.model_copy(update={"experiment": experiment}), f"{name}-{experiment}"
    _check_shape(sweep, path)
    where = _beside(path, sweep.runs) if sweep.runs and runs is None else Path(runs or "runs").resolve()
    opened = Cohort.open(cohort) if cohort is not None else _cohort(sweep, path)
    folds = len(read_folds(opened) if (opened.folder / FOLDS_FILE).is_file() else make_folds(opened))
    most = count(sweep, folds)
    if most > MANY and not sure:
        raise TooManyRuns(f"{path.name} asks for {most:,} runs; to go on say `--yes`", most)
    fingerprint = opened.fingerprint()
    cells, problems = [], []
    for asked in combinations(sweep, folds):
        try:
            cells.append(_cell(sweep, asked, opened, fingerprint, where))
        except WorkbenchError as error:
            problems.append(f"{asked.method}, {asked.condition}: {error}")
    if problems:
        counted = Counter(problems)
        lines = [f"{text} ({times} runs)" if times > 1 else text for text, times in list(counted.items())[:20]]
        raise ParameterError(f"sweep file {path} cannot be run:\n" + "\n".join(lines))
    if not cells:
        raise ParameterError(f"sweep file {path} asks for no run: `exclude` takes everything away")
    _refuse_doubles(cells, path)
    plan = SweepPlan(
        name=name,
        file=os.path.relpath(path, where),
        experiment=sweep.experiment,
        cohort=PlannedCohort(
            name=opened.info.name,
            path=os.path.relpath(opened.folder.resolve(), where),
            fingerprint=fingerprint,
            phantom=opened.info.phantom,
        ),
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


def _check_shape(sweep: SweepFile, path: Path) -> None:
    """What can be wrong with a file whatever its methods are."""
    problems = []
    if not sweep.methods and not any("method" in extra for extra in sweep.include):
        problems.append("`methods` is empty: name at least one, as in `workbench models`")
    for name, value in {**sweep.parameters, **sweep.zip, "folds": sweep.folds, "seeds": sweep.seeds}.items():
        if value == []:
            problems.append(f"'{name}' is an empty list: the grid has no run")
        elif isinstance(value, list) and len({json.dumps(item) for item in value}) < len(value) and name not in sweep.zip:
            problems.append(f"'{name}' lists a value twice: {value}")
    given: list[Mapping[str, Any]] = [sweep.parameters, sweep.zip]
    if sweep.ablation:
        given += [sweep.ablation.baseline, *sweep.ablation.switches.values()]
    for names in given:
        problems += [f"'{name}' is no entry of parameters here: use the key of that name" for name in names if name in _OWN]
    if both := set(sweep.parameters) & set(sweep.zip):
        problems.append(f"'{min(both)}' stands under `parameters` and under `zip`")
    lengths = {name: len(values) for name, values in sweep.zip.items()}
    if len(set(lengths.values())) > 1:
        problems.append(f"the lists under `zip` are not as long as each other: {lengths}")
    if problems:
        raise ParameterError("\n".join(f"sweep file {path}: {problem}" for problem in dict.fromkeys(problems)))


def _cohort(sweep: SweepFile, path: Path) -> Cohort:
    if sweep.cohort:
        return Cohort.open(_beside(path, sweep.cohort))
    sizes = sweep.parameters.get("size", "paper")
    method = next(iter([*sweep.methods, *(str(extra["method"]) for extra in sweep.include if "method" in extra)]))
    if isinstance(sizes, list):
        raise ParameterError(f"sweep file {path}: runs of several sizes need a `cohort` of their own")
    return open_cohort(ExperimentParameters.build(method, {"size": sizes}))


def _cell(sweep: SweepFile, asked: Combination, cohort: Cohort, fingerprint: str, runs: Path) -> PlannedRun:
    given = {**asked.parameters, "experiment": sweep.experiment, "fold": asked.fold, "seed": asked.seed}
    parameters = ExperimentParameters.build(asked.method, {**given, "cohort": str(cohort.folder), "runs": str(runs)})
    check_fit(parameters, cohort)
    folder, _ = describe_run(parameters, cohort, fingerprint)
    return PlannedRun(
        run=f"{sweep.experiment}/{folder.name}", method=asked.method, condition=asked.condition, factors=asked.factors,
        fold=asked.fold, seed=asked.seed, parameters=given,
    )  # fmt: skip


def _refuse_doubles(cells: list[PlannedRun], path: Path) -> None:
    """Two cells that are the same run would count once, or twice: neither is what the file says."""
    first: dict[str, PlannedRun] = {}
    for cell in cells:
        other = first.setdefault(cell.run, cell)
        if other is not cell:
            names = [f"{one.method} '{one.condition}' (fold {one.fold}, seed {one.seed})" for one in (other, cell)]
            raise ParameterError(
                f"sweep file {path}: {names[0]} and {names[1]} are the same run {cell.run}: what one changes is what the other "
                "has by default"
            )


def _beside(path: Path, text: str) -> Path:
    return Path(os.path.normpath(path.parent / Path(text).expanduser()))


def _listed(value: list[int] | int | str) -> list[int]:
    return [value] if isinstance(value, int) else [int(item) for item in value]


def _as_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
