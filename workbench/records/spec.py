"""What was asked of a run: `spec.json`, and the name that follows from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from workbench.errors import RunError, WorkbenchError
from workbench.files import read_json, value_digest
from workbench.text import visible

SPEC_FILE = "spec.json"
SCHEMA_VERSION = 1
EXTERNAL = "external"
"""Method of a run whose predictions were made elsewhere and imported; it is in no catalogue."""
POOLED, IMPORTED, EXTENDED = "pooled", "imported", "extended"
"""Kinds of derived runs, `spec["derived"]["kind"]`: the folds of a cross-validation together; other people's predictions; a
training taken further."""


_RUN_NAME = re.compile(r"[^./\\\n][^/\\\n]*")
_NEEDED: Any = object()
_COHORT: dict[str, tuple[type, Any]] = {
    "name": (str, _NEEDED),
    "path": (str, ""),
    "fingerprint": (str, ""),
    "phantom": (bool, False),
    "external_sites": (list, []),
}
_SPEC: dict[str, tuple[type, Any]] = {
    "schema_version": (int, SCHEMA_VERSION),
    "run": (str, _NEEDED),
    "method": (str, _NEEDED),
    "experiment": (str, _NEEDED),
    "parameters": (dict, _NEEDED),
    "cohort": (dict, _NEEDED),
    "code_version": (str, ""),
    "environment": (dict, {}),
    "split": (str, ""),
    "threads": (int, 0),
    "title": (str, ""),
    "derived": (dict, {}),
}
_LEFT_OUT = ("title", "derived")
"""Keys that only some runs have: they get no default."""
_KINDS = {str: "text", bool: "true or false", list: "a list", int: "a whole number", dict: "an object"}


def check_spec(document: Any) -> dict[str, Any]:
    """What was asked of a run, checked, and with defaults for what older runs do not say. Unknown keys are kept, so that older
    code reads newer runs.

    Keys: schema_version; run (its id), method, experiment, parameters; cohort (name, path: its folder relative to the run folder,
    fingerprint, phantom, external_sites); code_version; environment: what the run folder was made with; split: digest of who
    trains, validates and tests; threads; and, for some, derived, title, pretrained.

    Plain checks, no model class: a thousand of these are read to list a thousand runs.

    Raises:
        RunError: a key is missing or of the wrong kind; the message lists them all.
    """
    if not isinstance(document, dict):
        raise RunError(f"expected an object, found {_KINDS.get(type(document), type(document).__name__)}")
    problems: list[str] = []
    spec = _checked(document, _SPEC, "", problems)
    if isinstance(spec.get("cohort"), dict):
        spec["cohort"] = _checked(spec["cohort"], _COHORT, "cohort.", problems)
    if isinstance(spec.get("run"), str) and not _RUN_NAME.fullmatch(spec["run"]):
        problems.append(f"run: '{spec['run']}' cannot be the name of a folder")
    if isinstance(spec.get("cohort"), dict) and "\0" in str(spec["cohort"].get("path")):
        problems.append("cohort.path: no path")
    derived = spec.get("derived")
    if isinstance(derived, dict):
        parents = derived.get("parents", [])
        if (
            not isinstance(derived.get("kind", ""), str)
            or not isinstance(parents, list)
            or not all(isinstance(name, str) for name in parents)
        ):
            problems.append("derived: expected a kind as text, and parents as a list of texts")
    if problems:
        raise RunError("; ".join(problems))
    return {name: value for name, value in spec.items() if name in document or name not in _LEFT_OUT}


def _checked(document: dict[str, Any], fields: dict[str, tuple[type, Any]], prefix: str, problems: list[str]) -> dict[str, Any]:
    found = {name: default.copy() if isinstance(default, dict | list) else default for name, (_, default) in fields.items()}
    found |= document
    for name, (kind, _) in fields.items():
        if found[name] is _NEEDED:
            problems.append(f"{prefix}{name}: missing")
        elif not isinstance(found[name], kind) or (kind is int and isinstance(found[name], bool)):
            problems.append(f"{prefix}{name}: expected {_KINDS[kind]}")
    return found


def run_id(parameters: dict[str, Any], fingerprint: str) -> str:
    """Name of a run: 12 hex digits of its parameters and its cohort's fingerprint (the code version is recorded, not hashed)."""
    return value_digest([parameters, fingerprint], 12)


def run_name(spec: dict[str, Any]) -> str:
    """What a run is called beside its id: its title (imported predictions), else its method; pooled folds say so."""
    name = visible(str(spec.get("title") or spec["method"]))
    derived = spec.get("derived") or {}
    return f"{name} ({len(derived.get('parents', []))} folds)" if derived.get("kind") == POOLED else name


def read_spec(folder: Path) -> dict[str, Any]:
    """Read and check `spec.json`.

    Raises:
        RunError: it is missing or damaged, or of a newer schema.
    """
    if not (folder / SPEC_FILE).exists():
        state = "is not there" if not folder.exists() else f"has no {SPEC_FILE} (half-copied?)"
        listed = Path("runs") / folder  # as `workbench runs` names it: relative to the folder of all runs
        meant = f"; did you mean {listed}?" if not folder.exists() and (listed / SPEC_FILE).exists() else ""
        raise RunError(f"run folder {folder} {state}{meant}")
    try:
        spec = check_spec(read_json(folder / SPEC_FILE, most=4 * 2**20))
    except WorkbenchError as error:
        raise RunError(f"{folder / SPEC_FILE} does not describe a run: {error}") from error
    if spec["schema_version"] > SCHEMA_VERSION:
        raise RunError(
            f"{folder / SPEC_FILE} is of schema {spec['schema_version']}, newer than this workbench reads ({SCHEMA_VERSION})"
        )
    return spec
