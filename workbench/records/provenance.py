"""Where every file of a finished run comes from: `artefacts.json`, written when the run is done, added to by what adds files.

Each entry holds the file's kind, size and BLAKE2b digest, the step that made it and what it was made from: other files of the
run, or one of its roots (`cohort`, `split`, `prepared`, `pretrained`, ...), whose account stands beside them. A finished run is
immutable; what is made from its weights afterwards (a table of robustness, features, a picture) is registered when it is made,
so that a file changed by anybody else shows.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.cohort.folds import read_folds
from workbench.cohort.table import Cohort
from workbench.errors import RunError, WorkbenchError
from workbench.files import file_digest, read_json, value_digest, write_json
from workbench.records.artefact_kinds import kind_of
from workbench.records.artefacts_file import ARTEFACTS_FILE, read_artefacts
from workbench.records.environment import code_version, read_environments
from workbench.records.run_folder import LOG_FILE, TRAINING_FILE, RunFolder
from workbench.records.status import HEARTBEAT_FILE, STATUS_FILE, now

SCHEMA_VERSION = 1

_VOLATILE = {ARTEFACTS_FILE, STATUS_FILE, HEARTBEAT_FILE, LOG_FILE, "progress.json", "cancel"}
"""Files about the process, not the result; they may change after the run is done. Hidden files are left out too."""
_UNDER_WAY = {"subsets", "features", "experts"}
"""Folders in which a step keeps its cases until its table is whole."""


# -- writing -----------------------------------------------------------------------------------------------------------


def write_artefacts(run: RunFolder, *, step: str = "") -> dict[str, Any]:
    """Write `artefacts.json` of a finished run: every file is read once. Repeating it does nothing.

    Args:
        run: the run; it must be completed.
        step: what made all of them, e.g. 'import'; empty: as their kinds say.

    Returns:
        The document.

    Raises:
        RunError: the run is not completed.
    """
    if run.status["state"] != "completed":
        raise RunError(f"run {run.folder} is {run.status['state']}: its files are recorded once it is completed")
    with _lock(run.folder):
        path = run.folder / ARTEFACTS_FILE
        if path.is_file():
            return read_artefacts(run.folder)
        document = {
            "schema_version": SCHEMA_VERSION,
            "run": run.spec["run"],
            "method": run.spec["method"],
            "written": now(),
            "code_versions": _code_versions(run),
            "inputs": _inputs(run),
            "files": {name: _entry(run.folder, name, step) for name in list_files(run.folder)},
        }
        write_json(path, document)
    return document


def register(folder: str | Path, *paths: str | Path, step: str = "") -> None:
    """Note files that were added to a finished run, or made anew by what makes them; nothing where the run is not finished.

    Args:
        folder: the run folder.
        paths: files or folders in it.
        step: what made them; empty: as their kind says.
    """
    folder = Path(folder)
    if not (folder / ARTEFACTS_FILE).is_file():
        return
    with _lock(folder):
        document = read_artefacts(folder)
        for name in _expand(folder, paths):
            document["files"][name] = {**_entry(folder, name, step), "added": now(), "code_version": code_version()}
        write_json(folder / ARTEFACTS_FILE, document)


def forget(folder: str | Path, *paths: str | Path, reason: str) -> None:
    """Note that files of a finished run are removed on purpose (to save space): they are not missed afterwards.

    Args:
        folder: the run folder.
        paths: files or folders in it, gone already or not.
        reason: who removed them, e.g. 'runs prune'.
    """
    folder = Path(folder)
    if not (folder / ARTEFACTS_FILE).is_file():
        return
    with _lock(folder):
        document = read_artefacts(folder)
        for path in paths:
            name = _relative(folder, path)
            for known, entry in document["files"].items():
                if known == name or known.startswith(name + "/"):
                    entry |= {"removed": now(), "reason": reason}
        write_json(folder / ARTEFACTS_FILE, document)


def _expand(folder: Path, paths: Iterable[str | Path]) -> Iterator[str]:
    for path in paths:
        name = _relative(folder, path)
        if (folder / name).is_dir():
            yield from (found for found in list_files(folder) if found.startswith(name + "/"))
        elif (folder / name).is_file() and not _passing(name):
            yield name


def _relative(folder: Path, path: str | Path) -> str:
    path = Path(path)
    return (path.relative_to(folder) if path.is_absolute() or path.is_relative_to(folder) else path).as_posix()


def _entry(folder: Path, name: str, step: str) -> dict[str, Any]:
    kind, path = kind_of(name), folder / name
    return {"kind": kind.title, "step": step or kind.step, "bytes": path.stat().st_size, "digest": file_digest(path)}


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / ".artefacts.lock").open("a") as handle:
        with suppress(OSError):  # some network file systems know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def list_files(folder: Path) -> list[str]:
    """Paths, relative to a run folder, of the files that are results: no hidden, passing or unfinished ones."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not _passing(name))


def _passing(name: str) -> bool:
    parts = name.split("/")
    return name in _VOLATILE or parts[0] in _UNDER_WAY or any(part.startswith(".") for part in parts)


# -- what a run was made from ------------------------------------------------------------------------------------------


def split_digest(split: pd.Series) -> str:
    """Digest (16 hex digits) of who trains, validates and tests (index = case)."""
    return value_digest({str(case): str(name) for case, name in split.items()}, 16)


def case_digests(cohort: Cohort) -> dict[str, str]:
    """Case -> digest (16 hex digits) of its row of the table and of its images: tells which cases of a cohort changed."""
    digests = cohort.digests()
    table = cohort.cases.astype(object).where(cohort.cases.notna(), None)
    columns = [*cohort.modalities, "brain_mask", "segmentation"]
    found = {}
    for row in table.to_dict("records"):
        images = {column: digests[str(row[column])] for column in columns if row[column] is not None}
        plain = {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items() if value is not None}
        found[str(row["case"])] = value_digest([plain, images], 16)
    return found


def _inputs(run: RunFolder) -> dict[str, Any]:
    """The roots of a run: cohort, split, prepared arrays, the checkpoint used, weights and runs it started from."""
    spec, parameters = run.spec, run.spec["parameters"]
    cohort = {key: spec["cohort"].get(key) for key in ("name", "fingerprint", "phantom")}
    split: dict[str, Any] = {"fold": parameters.get("fold"), "seed": parameters.get("seed")}
    inputs: dict[str, Any] = {"cohort": cohort, "split": split}
    try:
        opened = Cohort.open(run.cohort_path)
        if opened.fingerprint() == cohort["fingerprint"]:
            cohort["cases"] = case_digests(opened)
            if isinstance(parameters.get("fold"), int):  # pooled runs have all folds, imported ones none
                found = read_folds(opened).split(opened, parameters["fold"])
                split |= {"digest": split_digest(found), "cases": {str(case): str(name) for case, name in found.items()}}
                if spec["split"] and spec["split"] != split["digest"]:
                    split["note"] = "when the run was done the folds were no longer what they were when it began"
        else:
            cohort["note"] = "when the run was done the cohort was no longer what it was when it began"
    except (WorkbenchError, OSError, KeyError, TypeError, ValueError):
        cohort["note"] = "when the run was done the cohort could not be read"
    if "spacing" in parameters:
        inputs["prepared"] = {"spacing": parameters["spacing"], "modalities": parameters.get("modalities", "")}
    with suppress(WorkbenchError, KeyError, TypeError):
        training = read_json(run.folder / TRAINING_FILE)
        inputs["checkpoint"] = {"path": f"checkpoints/{training['checkpoint']}.safetensors", "step": training["best_step"]}
    for root, parameter in (("pretrained", "pretrained"), ("embeddings", "embeddings"), ("masks", "mask_run")):
        if parameters.get(parameter):
            key = "run" if root == "masks" else "digest"
            inputs[root] = {key: str(parameters[parameter]).removeprefix("blake2b:")}
    if "pretrained" in inputs and spec.get("pretrained"):
        inputs["pretrained"]["file"] = spec["pretrained"]
    if spec.get("derived"):
        derived = {key: spec["derived"][key] for key in ("kind", "digest") if spec["derived"].get(key)}
        inputs["parents"] = derived | {"runs": [f"{spec['experiment']}/{name}" for name in spec["derived"].get("parents", ())]}
    return inputs


def _code_versions(run: RunFolder) -> list[str]:
    found = [run.spec["code_version"], *(entry.get("code_version", "") for entry in read_environments(run.folder))]
    return [version for version in dict.fromkeys(found) if version]


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileCheck:
    """What became of the files of a run since it was done."""

    checked: int
    changed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    """Removed on purpose, with the reason on record: no defect."""

    @property
    def unchanged(self) -> bool:
        """Whether every file is what it was and none came."""
        return not (self.changed or self.added or self.missing)


def check_files(folder: str | Path) -> FileCheck:
    """Read every file of a finished run again and hold it against `artefacts.json`.

    Raises:
        RunError: the run has no record of its files.
    """
    folder = Path(folder)
    known: dict[str, dict[str, Any]] = read_artefacts(folder)["files"]
    there = set(list_files(folder))
    removed = sorted(name for name, entry in known.items() if "removed" in entry and name not in there)
    kept = {name: entry for name, entry in known.items() if name not in removed}
    changed = [
        name
        for name, entry in kept.items()
        if name in there and ((folder / name).stat().st_size != entry["bytes"] or file_digest(folder / name) != entry["digest"])
    ]
    return FileCheck(
        checked=len(kept),
        changed=sorted(changed),
        added=sorted(there - set(known)),
        missing=sorted(set(kept) - there),
        removed=removed,
    )
