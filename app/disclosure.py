"""What a page may say of where things lie: the names that a user knows, and no folder of the server."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

_QUOTED = re.compile(r"""(['"`])(/+[^'"`\n/]+(?:/+[^'"`\n/]+)+)/*\1""")
"""An absolute path of two names or more in quotes: there it may hold spaces."""
_BARE = re.compile(r"""(?<![\w.~/-])(?:/+[^\s/'"`<>()\[\]{}|,;]+)+/+(?=[^\s/'"`<>()\[\]{}|,;])""")
"""The folders of an absolute path of two names or more, up to its last name; a date, `and/or` and `./here` are none."""
_ADDRESS = re.compile(r"(?:https?|wss?)://\S+")


def without_folders(text: str, *, runs: str | Path | None = None, cohorts: str | Path | None = None) -> str:
    """A text without the server's folders.

    What lies in the folder of runs is shown as `runs/...`, of cohorts as `cohorts/...`, of the working folder as `./...`, of the
    home folder as `~/...`; of any other absolute path the last name stays. Addresses (`https://...`) stay as they are. A path
    with spaces that lies elsewhere and stands without quotes is taken for a path up to the first space.

    Args:
        text: any text, e.g. an error's.
        runs: folder of all runs; default: the environment variable WORKBENCH_RUNS, else `./runs`.
        cohorts: folder of cohorts; default: the environment variable WORKBENCH_COHORTS, else `./cohorts`.
    """
    if "/" not in text:
        return text
    runs = str(runs or os.environ.get("WORKBENCH_RUNS") or "runs")
    cohorts = str(cohorts or os.environ.get("WORKBENCH_COHORTS") or "cohorts")
    known, names = _known(runs, cohorts, os.environ.get("HOME", ""), os.environ.get("PWD", ""), _working_folder())
    shown, start = [], 0
    for address in _ADDRESS.finditer(text):
        shown += [_shorten(text[start : address.start()], known, names), address.group()]
        start = address.end()
    return "".join([*shown, _shorten(text[start:], known, names)])


def _shorten(text: str, known: re.Pattern[str], names: dict[str, str]) -> str:
    text = text.replace("file://", "")
    text = known.sub(lambda found: names[found.group()], text)
    text = _QUOTED.sub(lambda found: found[1] + found[2].rsplit("/", 1)[1] + found[1], text)
    return _BARE.sub("", text)


@functools.lru_cache(maxsize=16)
def _known(runs: str, cohorts: str, home: str, shell_folder: str, working_folder: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern of the folders that have a name, in every spelling, and the names; a folder within another goes first."""
    names: dict[str, str] = {}
    starts = [working_folder]
    if shell_folder and os.path.realpath(shell_folder) == os.path.realpath(working_folder):
        starts.append(shell_folder)  # the working folder as the user came to it, through a link
    for folder, name in ((runs, "runs"), (cohorts, "cohorts"), (".", "."), (home, "~")):
        for start in starts:
            spelled = os.path.normpath(Path(start, folder)) if folder else ""
            for path in {spelled, os.path.realpath(spelled)} if spelled else ():
                if path.strip("/"):  # never the root of all paths
                    names.setdefault(path, name)
    ordered = sorted(names, key=len, reverse=True)
    alternatives = "|".join(re.escape(path) for path in ordered) or r"(?!)"
    return re.compile(rf"(?<![\w.~/-])(?:{alternatives})(?![\w-]|\.\w)"), names


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed under the server
        return "/"
