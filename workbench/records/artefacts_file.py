"""`artefacts.json`: what every file of a finished run was when the run was done. Read here, written by `provenance`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from workbench.errors import RunError, WorkbenchError
from workbench.files import file_digest, read_json

ARTEFACTS_FILE = "artefacts.json"


class _Entry(TypedDict):
    """One file."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    bytes: Annotated[int, Field(ge=0)]
    digest: str


class _Document(TypedDict):
    """The file; anything else in it stays as it is."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    run: str
    inputs: dict[str, Any]
    files: dict[str, _Entry]


_SCHEMA = TypeAdapter(_Document)


def read_artefacts(folder: str | Path) -> dict[str, Any]:
    """The document `artefacts.json` of a run.

    Raises:
        RunError: there is none, or it is damaged.
    """
    path = Path(folder) / ARTEFACTS_FILE
    if not path.exists():
        raise RunError(
            f"run {folder} has no {ARTEFACTS_FILE}: it is not completed, or of before there was one; "
            f"`workbench provenance {folder} --record` writes it now"
        )
    try:
        return dict(_SCHEMA.validate_python(read_json(path)))
    except WorkbenchError as error:
        raise RunError(str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise RunError(
            f"{path} is damaged: it does not say what the run's files are ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        ) from error


def check_unchanged(path: Path) -> None:
    """Refuse a file of a finished run that is not what it was when the run was done: pages of Parquet carry no checksum, so one
    flipped bit gives other numbers without a word. Nothing where the run keeps no record of it (not finished, or older).

    The bytes are read once: as long as times and sizes stay, the verdict does.

    Raises:
        RunError: size or digest are others.
    """
    record = path.parent / ARTEFACTS_FILE
    try:
        noted, now = record.stat(), path.stat()
    except OSError:
        return
    wrong = _difference(path, (now.st_mtime_ns, now.st_size, now.st_ino), (noted.st_mtime_ns, noted.st_size, noted.st_ino))
    if wrong:
        raise RunError(
            f"{path} is not what it was when the run was done ({ARTEFACTS_FILE}): {wrong}; copy it from its origin again"
        )


@functools.lru_cache(maxsize=8192)
def _difference(path: Path, now: tuple[int, ...], noted: tuple[int, ...]) -> str:
    entry = read_artefacts(path.parent)["files"].get(path.name)
    if entry is None:
        return ""
    if entry["bytes"] != now[1]:
        return f"it had {entry['bytes']:,} bytes and has {now[1]:,}"
    return "" if entry["digest"] == file_digest(path) else "it has other bytes"
