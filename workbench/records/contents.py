"""What lies in a run folder: files and folders of its own. A folder that somebody mailed may hold other things."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.errors import RunError


def check_contents(folder: str | Path) -> None:
    """Refuse a run folder that holds a link leading out of it, a pipe, a socket or a device, at any depth.

    A link would put somebody else's file into tables, exports and figures, and reading a pipe would never end. The run folder
    itself, or its experiment, may be a link (to a larger disk): it is listed and read where it leads.

    Raises:
        RunError: it holds one; the message names it.
    """
    root = os.path.realpath(folder)
    waiting = [root]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:  # gone, or not ours to read: whoever wants a file in it says so
            continue
        for entry in entries:
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                if target != root and not target.startswith(root + os.sep):
                    raise RunError(_refusal(folder, root, entry, "a link that leads out of it and is not followed"))
            elif entry.is_dir():
                waiting.append(entry.path)
            elif not entry.is_file():
                raise RunError(_refusal(folder, root, entry, "no file but a pipe, a socket or a device"))


def _refusal(folder: str | Path, root: str, entry: os.DirEntry[str], what: str) -> str:
    name = os.path.relpath(entry.path, root)
    return f"run folder {folder} cannot be used: {name} is {what}; remove it, or put the file itself there"
