"""Files that are either whole or not there: atomic writes, and digests of content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import pandas as pd


LARGEST_DOCUMENT = 64 * 2**20
"""Bytes of the largest JSON document that is read."""
_UNFINISHED = re.compile(r"\.[0-9a-f]{12}\.tmp\.")
"""How the names begin that `atomic_path` writes under."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it replaces `path`, on any error it is removed.

    The temporary name keeps all suffixes of the target, since writers such as nibabel choose the format by suffix.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{uuid.uuid4().hex[:12]}.tmp.{target.name}"
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what killed processes left of `atomic_path` in a folder, at any depth; nobody else may be writing there.

    Returns:
        The files removed.
    """
    left = [path for path in Path(folder).rglob(".*.tmp.*") if _UNFINISHED.match(path.name) and path.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a JSON document atomically, keys in the order given. NaN is refused: unknown is null."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading, if it is one: reading a pipe would wait for ever, and a device might never end.

    Raises:
        OSError: it is missing, unreadable, or no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_json(path: str | os.PathLike[str], most: int = LARGEST_DOCUMENT) -> Any:
    """Read a JSON document that may come from anybody.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        WorkbenchError: the file is missing, unreadable, no regular file, too large, or not JSON in UTF-8 (neither NaN nor the
            same key twice, no half of a surrogate pair, no number or nesting beyond what Python reads); the message names it.
    """
    try:
        with open_regular(path) as handle:
            if os.fstat(handle.fileno()).st_size > most:
                raise ValueError(f"it is larger than {most:,} bytes")
            content = handle.read()
        text = content.decode("utf-8")
        document = json.loads(text, parse_constant=_no_number, object_pairs_hook=_each_key_once)
        if "\\ud" in text.lower():  # may be one half of a pair
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        return document
    except (OSError, ValueError, RecursionError) as error:
        raise WorkbenchError(f"{path} cannot be read as JSON: {error}") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = sorted({key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1})
        raise ValueError(f"the key '{twice[0]}' stands there twice")
    return found


def write_parquet(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table atomically as Parquet, without its index."""
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)


def file_digest(path: str | os.PathLike[str]) -> str:
    """BLAKE2b digest (32 hex digits) of a file's bytes."""
    digest = hashlib.blake2b(digest_size=16)
    with Path(path).open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def value_digest(value: Any, length: int = 12) -> str:
    """Digest of a JSON-able value, independent of the order of keys; `length` hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:length]
