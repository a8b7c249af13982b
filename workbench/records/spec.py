"""What was asked of a run: `spec.json`, and the name that follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.errors import RunError, WorkbenchError
from workbench.files import read_json, value_digest

SPEC_FILE = "spec.json"
SCHEMA_VERSION = 1
EXTERNAL = "external"
"""Method of a run whose predictions were made elsewhere and imported; it is in no catalogue."""
POOLED, IMPORTED = "pooled", "imported"
"""Kinds of derived runs, `spec["derived"]["kind"]`: the folds of a cross-validation together; other people's predictions."""


class CohortReference(BaseModel):
    """Which cohort a run used, in `spec.json`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    path: str = Field("", description="folder of the cohort, relative to the run folder")
    fingerprint: str = ""
    phantom: bool = False
    external_sites: tuple[str, ...] = ()


class RunSpec(BaseModel):
    """What was asked of a run: the content of `spec.json`. Unknown keys are kept, so that older code reads newer runs."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: int = SCHEMA_VERSION
    run: str = Field(min_length=1, pattern=r"^[^./\\][^/\\]*$")
    method: str
    experiment: str
    parameters: dict[str, Any]
    cohort: CohortReference
    code_version: str = ""
    environment: dict[str, Any] = Field({}, description="what the run folder was made with; empty in older runs")
    split: str = Field("", description="digest of who trains, validates and tests; empty in older runs")
    threads: int = 0


def run_id(parameters: dict[str, Any], fingerprint: str) -> str:
    """Name of a run: 12 hex digits of its parameters and its cohort's fingerprint (the code version is recorded, not hashed)."""
    return value_digest([parameters, fingerprint], 12)


def run_name(spec: dict[str, Any]) -> str:
    """What a run is called beside its id: its title (imported predictions), else its method; pooled folds say so."""
    name = str(spec.get("title") or spec["method"])
    derived = spec.get("derived") or {}
    return f"{name} ({len(derived.get('parents', []))} folds)" if derived.get("kind") == POOLED else name


def read_spec(folder: Path) -> dict[str, Any]:
    """Read and check `spec.json`.

    Raises:
        RunError: it is missing or damaged, or of a newer schema.
    """
    if not (folder / SPEC_FILE).exists():
        state = "is not there" if not folder.exists() else f"has no {SPEC_FILE} (half-copied?)"
        raise RunError(f"run folder {folder} {state}")
    try:
        document = read_json(folder / SPEC_FILE)
        spec = RunSpec(**document)
    except (WorkbenchError, ValidationError, TypeError) as error:
        reason = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()) if isinstance(
            error, ValidationError) else str(error)  # fmt: skip
        raise RunError(f"{folder / SPEC_FILE} does not describe a run: {reason}") from error
    if spec.schema_version > SCHEMA_VERSION:
        raise RunError(
            f"{folder / SPEC_FILE} is of schema {spec.schema_version}, newer than this workbench reads ({SCHEMA_VERSION})"
        )
    return spec.model_dump(mode="json")
