"""What may stand in a sweep file, and what is said where something else does."""

from __future__ import annotations

import difflib
import json
import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from workbench.errors import ParameterError
from workbench.records.sweep_plan import BASELINE
from workbench.setup.parameters import EXPERIMENT_PATTERN, LARGEST_SEED, LONGEST_NAME, ExperimentParameters
from workbench.sweeps.strict_yaml import read_yaml

Scalar = StrictStr | StrictBool | StrictInt | StrictFloat
Number = Annotated[int, Field(strict=True, ge=0)]
Seed = Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)]

EXPERIMENT = re.compile(rf"(?=.{{1,{LONGEST_NAME}}}$){EXPERIMENT_PATTERN}")
"""What the name of an experiment, and of a sweep, may be."""
NAMING = f"letters, digits and . _ -, at most {LONGEST_NAME} of them"
OWN_KEYS = ("cohort", "runs", "experiment", "fold", "seed", "method")
"""Parameters that have a key of their own in the file."""
_PLURAL = {"fold": "folds", "seed": "seeds", "method": "methods"}


class Ablation(BaseModel):
    """A declared ablation: a baseline, and what each switch changes of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline: dict[str, Scalar] = Field({}, description="parameters of the baseline, beside the common ones")
    switches: dict[str, dict[str, Scalar]] = Field(description="name -> parameters that differ from the baseline")


class SweepFile(BaseModel):
    """The content of a sweep file. Paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        "", pattern=rf"^$|{EXPERIMENT_PATTERN}", max_length=LONGEST_NAME, description="default: the file's name without suffix"
    )
    description: str = ""
    experiment: str = Field(pattern=EXPERIMENT_PATTERN, max_length=LONGEST_NAME, description="name of the group of runs")
    cohort: str = Field("", description="cohort folder; empty: the embedded phantom of the runs' `size`, made on first use")
    runs: str = Field("", description="folder of all runs; empty: `runs` in the working directory, as for all commands")
    methods: list[str] = Field([], description="as in `workbench models`")
    parameters: dict[str, Scalar | list[Scalar]] = Field({}, description="name -> value, or values to cross")
    zip: dict[str, list[Scalar]] = Field({}, description="name -> values; all lists are as long and move together")
    include: list[dict[str, Scalar]] = Field([], description="combinations to add; `method`, `fold`, `seed` narrow them")
    exclude: list[dict[str, Scalar]] = Field([], description="combinations to take away: all that have these values")
    folds: list[Number] | Number | Literal["all"] = Field([0], description="test folds, or 'all'")
    seeds: list[Seed] | Seed = Field([0], description="one, or several")
    ablation: Ablation | None = None

    def fold_list(self, folds: int) -> list[int]:
        """The test folds on a cohort that has `folds` of them."""
        if self.folds == "all":
            return list(range(folds))
        return [self.folds] if isinstance(self.folds, int) else [int(fold) for fold in self.folds]

    def seed_list(self) -> list[int]:
        """The seeds."""
        return [self.seeds] if isinstance(self.seeds, int) else list(self.seeds)

    def every_method(self) -> list[str]:
        """All methods that are named, those of `include` last."""
        return list(dict.fromkeys([*self.methods, *(str(extra["method"]) for extra in self.include if "method" in extra)]))

    def count(self, folds: int) -> int:
        """How many runs there are at most, without listing them; `folds`: how many the cohort has."""
        crossed = math.prod(len(value) for value in self.parameters.values() if isinstance(value, list))
        zipped = max((len(values) for values in self.zip.values()), default=1)
        conditions = len(self.ablation.switches) + 1 if self.ablation else 1
        times = len(self.fold_list(folds)) * len(self.seed_list())
        return (len(self.methods) * crossed * zipped * conditions + len(self.include) * max(1, len(self.methods))) * times


def read_sweep(path: str | Path) -> SweepFile:
    """Read a sweep file.

    Raises:
        ParameterError: it is missing, no YAML, or has keys or values that a sweep does not have; every one is named.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParameterError(
            f"sweep file {path} is not there; those that come with the workbench lie in notebooks/sweeps"
        ) from None
    except OSError as error:
        raise ParameterError(f"sweep file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ParameterError(f"sweep file {path} is no text (UTF-8 is read): is it a sweep file?") from None
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise ParameterError(f"sweep file {path} is not YAML: {error}") from None
    if content is None:
        raise ParameterError(f"sweep file {path} is empty: it needs at least `experiment` and `methods`")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "one value"
        raise ParameterError(f"sweep file {path} holds {kind}: it must hold keys, at least `experiment` and `methods`")
    try:
        sweep = SweepFile(**content)
    except ValidationError as error:
        problems = list(dict.fromkeys(_explain(item["loc"], item["type"], item["input"], content) for item in error.errors()))
        raise ParameterError("\n".join(f"sweep file {path}: {problem}" for problem in problems)) from None
    check_sweep(sweep, path)
    return sweep


def check_sweep(sweep: SweepFile, path: Path) -> None:
    """Refuse a sweep that cannot be meant so, whatever its methods and its cohort are.

    Raises:
        ParameterError: every problem, named.
    """
    if problems := list(dict.fromkeys(_misshapen(sweep, path))):
        raise ParameterError("\n".join(f"sweep file {path}: {problem}" for problem in problems))


_SHAPES = {
    "name": f"must be a text of {NAMING} (in quotes where it is a number)",
    "description": "must be a text",
    "experiment": f"must be a text of {NAMING} (in quotes where it is a number)",
    "cohort": "must be a text: the folder of a cohort",
    "runs": "must be a text: the folder of all runs",
    "methods": "must be a list of methods, as `[unet, mts_unet]`",
    "parameters": "must be `name: value`, or `name: [value, value]` to cross values; a value is a text, a number, true or false",
    "zip": "must be `name: [value, value]` of lists that are as long as each other",
    "include": "must be a list of `{name: value}`",
    "exclude": "must be a list of `{name: value}`",
    "folds": "must be a fold, a list of folds (0, 1, ...) or all",
    "seeds": f"must be a seed or a list of seeds (0, 1, ... {LARGEST_SEED})",
    "ablation": "must be `baseline: {name: value}` and `switches: {switch: {name: value}}`",
}  # fmt: skip


def _explain(location: tuple[Any, ...], kind: str, found: Any, content: Mapping[str, Any]) -> str:
    """One of pydantic's errors in words that a file's writer can use: where, what must stand there, what was found."""
    key = str(location[0])
    if kind == "extra_forbidden":
        known = list(SweepFile.model_fields if len(location) == 1 else Ablation.model_fields)
        where = ".".join(map(str, location))
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        if len(location) == 1 and not near and key in ExperimentParameters.model_fields:
            plural = f"`{_PLURAL[key]}`" if key in _PLURAL else "`parameters`"
            return f"`{key}` is no key of a sweep: it belongs under {plural}"
        return f"`{where}` is no key of a sweep: " + (f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}")
    if kind == "missing":
        return f"`{'.'.join(map(str, location))}` is missing: {_SHAPES[key] if len(location) == 1 else _SHAPES['ablation']}"
    way, value = [key], content.get(key)  # the way down to what is wrong, without pydantic's names of alternatives
    for part in location[1:]:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and part in range(len(value))):
            value = value[part]
            way.append(str(part))
    if value is None:
        return f"`{'.'.join(way)}` has no value: give it one, or leave the line out"
    return f"`{'.'.join(way)}` {_SHAPES[key]}; found {_found(value)}"


def _found(value: Any) -> str:
    """What stood there, no longer than a line or two; aliases in YAML can make a small file a very large value."""
    size, inside = 0, [value]
    while inside and size < 100:
        size, item = size + 1, inside.pop()
        inside += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    text = reprlib.repr(value) if inside else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _misshapen(sweep: SweepFile, path: Path) -> Iterator[str]:
    """What can be wrong with a file whatever its methods and its cohort are."""
    if not sweep.every_method():
        yield "`methods` is empty: name at least one, as in `workbench models`"
    if not sweep.name and not EXPERIMENT.match(path.stem):
        yield f"the name '{path.stem}' can only have {NAMING}: give the sweep a `name` of its own"
    listed = {"methods": sweep.methods, "folds": sweep.folds, "seeds": sweep.seeds}
    for name, value in {**sweep.parameters, **sweep.zip, **listed}.items():
        if value == [] and name != "methods":
            yield f"'{name}' is an empty list: the grid has no run"
        elif isinstance(value, list) and name not in sweep.zip and (twice := _repeated(value)) is not None:
            yield f"'{name}' lists {twice!r} twice"
    for name in sorted(set(sweep.parameters) & set(sweep.zip)):
        yield f"'{name}' stands under `parameters` and under `zip`"
    lengths = {name: len(values) for name, values in sweep.zip.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        yield f"the lists under `zip` are not as long as each other: {told}"
    yield from _misplaced({"parameters": sweep.parameters, "zip": sweep.zip})
    for extra in sweep.include:
        if own := {"cohort", "runs", "experiment"} & set(extra):
            yield f"'{min(own)}' cannot stand under `include`: it is one for all runs of a sweep"
        if "method" not in extra and not sweep.methods:
            yield f"`include` entry {as_text(extra)} needs a `method`"
    yield from _too_long(sweep)
    if sweep.ablation:
        yield from _unfit(sweep, sweep.ablation)


def _unfit(sweep: SweepFile, ablation: Ablation) -> Iterator[str]:
    """What can be wrong with an ablation."""
    switches = ablation.switches
    if not switches:
        yield "`ablation.switches` is empty: an ablation needs at least one switch"
    if BASELINE in switches:
        yield f"a switch cannot be called '{BASELINE}': that is what switches are compared with"
    base = {**sweep.parameters, **ablation.baseline}
    for name, changes in switches.items():
        if not changes:
            yield f"switch '{name}' changes nothing: name what differs from the baseline"
        for key in changes:
            if key in base and same_value(changes[key], base[key]):
                yield f"switch '{name}' sets '{key}' to {changes[key]!r}, which is what the baseline has"
    given: dict[str, Mapping[str, Any]] = {"ablation.baseline": ablation.baseline}
    given |= {f"ablation.switches.{name}": changes for name, changes in switches.items()}
    yield from _misplaced(given)
    for where, names in given.items():
        for name in names:
            if name in sweep.zip or isinstance(sweep.parameters.get(name), list):
                yield f"`{where}` sets '{name}', whose values are crossed: the same run would come up once for each of them"


def _misplaced(given: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for where, names in given.items():
        for name in names:
            if name in OWN_KEYS:
                yield f"'{name}' cannot stand under `{where}`: a sweep has the key `{_PLURAL.get(name, name)}`"


def _too_long(sweep: SweepFile) -> Iterator[str]:
    switches = sweep.ablation.switches if sweep.ablation else {}
    for name in (*switches, *(str(extra.get("condition", "")) for extra in sweep.include)):
        if len(name) > LONGEST_NAME:
            yield f"the condition '{name[:30]}…' has {len(name)} letters: tables and plots show its name, {LONGEST_NAME} at most"


def same_value(one: Any, other: Any) -> bool:
    """Whether two scalars are the same in a file: true is not 1, but 1 is 1.0."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _repeated(values: list[Any]) -> Any:
    """The first value that comes a second time; None where none does."""
    return next((value for index, value in enumerate(values) if any(same_value(value, one) for one in values[:index])), None)


def as_text(values: Mapping[str, Any]) -> str:
    """`name=value, name=value`: what a condition without a name is called."""
    return ", ".join(f"{name}={value}" for name, value in values.items())
