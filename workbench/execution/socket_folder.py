"""A private folder for the sockets of a kernel: the path of a unix socket has about 107 bytes, whatever TMPDIR says."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from contextlib import closing
from pathlib import Path

from workbench.errors import RunError

SHORT = ("/tmp", "/var/tmp", "/dev/shm")
"""Where the folder lies when the temporary folder has no room for the name of a socket."""
LONGEST = "pymp-xxxxxxxx/listener-xxxxxxxx"
"""The longest name that a kernel needs: what multiprocessing calls the socket of a data worker, below the temporary folder."""


def make_socket_folder() -> Path:
    """A new folder that only this user can enter and in which sockets can be made; who asks for it removes it.

    Raises:
        RunError: there is no such place; the message names TMPDIR.
    """
    reasons = []
    try:
        places = [tempfile.gettempdir(), *SHORT]
    except OSError as error:  # not even the working folder can be written
        places = list(SHORT)
        reasons.append(str(error))
    for place in dict.fromkeys(places):
        try:
            folder = Path(tempfile.mkdtemp(prefix="wb-", dir=place))
        except OSError as error:
            reasons.append(f"{place}: {error.strerror or error}")
            continue
        try:
            _try_socket(folder)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            reasons.append(f"{place} ({len(os.fsencode(place))} bytes): {error.strerror or error}")
        else:
            return folder
    raise RunError(
        "no folder was found for the kernel's sockets, whose paths have at most about 107 bytes: set TMPDIR to a short folder "
        f"that can be written, e.g. TMPDIR=/tmp ({'; '.join(reasons)})"
    )


def is_short(folder: str | Path) -> bool:
    """Whether a kernel whose temporary folder this is can make all its sockets."""
    return len(os.fsencode(folder)) + 1 + len(LONGEST) <= 100  # macOS ends at 103 bytes, Linux at 107


def _try_socket(folder: Path) -> None:
    """Make a socket at the longest path and remove it: the limit and the kind of disk are then no guess."""
    if not is_short(folder):
        raise OSError("its path is too long")
    place = folder / "try"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as tried:
        tried.bind(str(place))
    place.unlink()
