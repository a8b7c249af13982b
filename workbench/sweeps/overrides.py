"""What the command line says about a sweep file: other values, fewer folds, seeds or conditions. The file stays as it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workbench.errors import ParameterError
from workbench.files import value_digest
from workbench.setup.parameters import FILE_PARAMETERS, ExperimentParameters
from workbench.sweeps.schema import OWN_KEYS, SweepFile, check_sweep, same_value

_OPTION = {"cohort": "--cohort", "runs": "--runs", "experiment": "--experiment", "fold": "--folds", "seed": "--seeds"}
_PLAIN = re.compile(r"[A-Za-z0-9._]+")
_READABLE = 24
"""Letters that overrides may add to a name; longer ones are told by a digest."""


@dataclass(frozen=True)
class Overrides:
    """As given to `workbench sweep`: `-p`, `--folds`, `--seeds`, `--without`."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    """Name -> text of a value that every run gets."""
    folds: str = ""
    """Test folds with commas, or 'all'."""
    seeds: str = ""
    """Seeds with commas."""
    without: Sequence[str] = ()
    """Switches, or conditions of `include`, that are left out."""

    def __str__(self) -> str:
        return _as_options(self.parameters, {"folds": self.folds, "seeds": self.seeds, "without": self.without})


@dataclass(frozen=True)
class Overridden:
    """A sweep as the command line wants it. The texts are the same for the same values, however they are written."""

    sweep: SweepFile
    values: str
    """What the names of experiment and plan get because runs have other parameters: 'size-demo'; empty: they have not."""
    fewer: str
    """What the name of the plan gets besides because there are other folds, seeds or conditions: 'folds-0'."""
    given: str
    """As options of the command line; what the file says anyway is left out."""


def override(sweep: SweepFile, path: Path, given: Overrides) -> Overridden:
    """A sweep as the command line wants it.

    Args:
        sweep: as the file has it.
        path: the file.
        given: what the command line says.

    Raises:
        ParameterError: a name that the file varies, a condition that it has not, folds or seeds that are none.
    """
    values = {name: _typed(sweep, name, text) for name, text in given.parameters.items()}
    problems = [problem for name in values for problem in _conflicts(sweep, name)]
    if problems:
        raise ParameterError("\n".join(f"sweep file {path}: {problem}" for problem in problems))
    values = {name: value for name, value in values.items() if not _has(sweep, name, value)}
    changed = _with_values(sweep, values) if values else sweep
    fewer: dict[str, Any] = {}
    for key, text in (("folds", given.folds), ("seeds", given.seeds)):
        if text and (numbers := _numbers(key, text)) != _sorted(getattr(sweep, key)):
            fewer[key] = numbers
    changed = changed.model_copy(update=dict(fewer))
    without = sorted(set(given.without))
    for condition in without:
        changed = _without(changed, path, condition)
    check_sweep(changed, path)
    if without:
        fewer["without"] = without
    return Overridden(changed, _tag(values), _tag(fewer), _as_options(dict(sorted(values.items())), fewer))


def _typed(sweep: SweepFile, name: str, text: str) -> Any:
    """The value that a text stands for; the text itself where no method of the sweep can read it, which is said later."""
    if name in FILE_PARAMETERS and text:
        return str(Path(text).expanduser().resolve())  # a path on the command line is relative to where one stands
    for method in sweep.every_method():
        found = ExperimentParameters.for_method(method).model_fields.get(name)
        if found is not None and found.annotation is not None:
            try:
                return TypeAdapter(found.annotation).validate_python(text)
            except ValidationError:
                return text
    return text


def _conflicts(sweep: SweepFile, name: str) -> list[str]:
    """Why a parameter cannot be one for all runs."""
    if name in OWN_KEYS:
        return [f"-p {name}: a sweep has {_OPTION.get(name, 'its own methods')} for that"]
    found = []
    if name in sweep.zip or isinstance(sweep.parameters.get(name), list):
        found.append(f"`{'zip' if name in sweep.zip else 'parameters'}.{name}`")
    if sweep.ablation:
        found += [f"`ablation.switches.{switch}`" for switch, changes in sweep.ablation.switches.items() if name in changes]
    found += ["`exclude`"] * any(name in pattern for pattern in sweep.exclude)
    if not found:
        return []
    return [f"-p {name}: the file itself varies '{name}', in {', '.join(found)}; one value for all would make runs the same"]


def _has(sweep: SweepFile, name: str, value: Any) -> bool:
    """Whether all runs have this value anyway."""
    places = [sweep.ablation.baseline if sweep.ablation else {}, *sweep.include]
    everywhere = all(same_value(place[name], value) for place in places if name in place)
    return everywhere and name in sweep.parameters and same_value(sweep.parameters[name], value)


def _with_values(sweep: SweepFile, values: Mapping[str, Any]) -> SweepFile:
    ablation = sweep.ablation
    if ablation:
        rest = {name: value for name, value in ablation.baseline.items() if name not in values}
        ablation = ablation.model_copy(update={"baseline": rest})
    include = [{name: values.get(name, value) for name, value in extra.items()} for extra in sweep.include]
    parameters = {**sweep.parameters, **values}
    return sweep.model_copy(update={"parameters": parameters, "ablation": ablation, "include": include})


def _numbers(key: str, text: str) -> list[int] | str:
    if key == "folds" and text.strip() == "all":
        return "all"
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,10}", part) for part in parts):
        raise ParameterError(f"--{key} {text}: expected numbers with commas, such as 0,1{', or all' if key == 'folds' else ''}")
    return sorted(int(part) for part in parts)


def _sorted(numbers: list[int] | int | str) -> list[int] | str:
    return numbers if isinstance(numbers, str) else sorted([numbers] if isinstance(numbers, int) else numbers)


def _without(sweep: SweepFile, path: Path, condition: str) -> SweepFile:
    switches = sweep.ablation.switches if sweep.ablation else {}
    named = [str(extra["condition"]) for extra in sweep.include if "condition" in extra]
    if condition not in {*switches, *named}:
        known = ", ".join(dict.fromkeys([*switches, *named])) or "none that has a name"
        raise ParameterError(f"--without {condition}: sweep file {path} has no such switch or condition; there are: {known}")
    include = [extra for extra in sweep.include if "condition" not in extra or str(extra["condition"]) != condition]
    ablation = sweep.ablation
    if ablation:
        rest = {name: changes for name, changes in switches.items() if name != condition}
        ablation = ablation.model_copy(update={"switches": rest})
    return sweep.model_copy(update={"include": include, "ablation": ablation})


def _tag(values: Mapping[str, Any]) -> str:
    """'size-demo-epochs-2': values as a part of a name; a digest where they are long or no plain words. Order does not count."""
    if not values:
        return ""
    words = [word for name in sorted(values) for word in (name, _word(values[name]))]
    text = "-".join(words)
    if len(text) <= _READABLE and all(_PLAIN.fullmatch(word) for word in words):
        return text
    return value_digest({name: repr(value) for name, value in values.items()}, 8)


def _as_options(values: Mapping[str, Any], fewer: Mapping[str, Any]) -> str:
    options = [("-p", f"{name}={_word(value)}") for name, value in values.items()]
    options += [(f"--{key}", _word(value, ",")) for key, value in fewer.items() if key != "without" and value]
    options += [("--without", name) for name in fewer.get("without", ())]
    return " ".join(f"{option} {shlex.quote(value)}" for option, value in options)


def _word(value: Any, between: str = ".") -> str:
    if isinstance(value, list):
        return between.join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
