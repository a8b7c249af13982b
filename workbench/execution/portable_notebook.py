"""An executed notebook without the folders of the machine that ran it: it travels, and names of users and projects do not.

A run is made again from `spec.json`, never from its notebook: what its parameters cell says may be shortened like all the rest.
"""

from __future__ import annotations

import html
import os
import re
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from workbench.files import write_text
from workbench.records.run_folder import RunFolder
from workbench.views.disclosure import without_folders

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_PLAIN = ("text/plain", "text/markdown")


def write_portable(partial: Path, run: RunFolder, parameters: Mapping[str, Any], sockets: str | Path = "") -> None:
    """Write `notebook.ipynb` of a run from what was executed, without absolute paths, and remove the latter.

    Args:
        partial: the notebook as it was executed, in part or whole.
        run: the run it belongs to.
        parameters: its parameters; what is an absolute path among them is shown by its name.
        sockets: folder of the kernel's sockets.

    Raises:
        OSError: it cannot be written; the executed notebook is still there.
        ValueError: it is no notebook.
    """
    places = known_places(run, parameters, sockets)
    notebook = nbformat.read(partial, as_version=4)
    notebook.metadata = nbformat.from_dict(_portable(notebook.metadata, places))
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.source = _plain(cell.source, places)
        cell.outputs = [_output(output, places) for output in cell.outputs]
    write_text(run.path("notebook.ipynb"), nbformat.writes(notebook))
    partial.unlink()


def known_places(run: RunFolder, parameters: Mapping[str, Any], sockets: str | Path = "") -> dict[str, str]:
    """Absolute folder, in every spelling -> what is shown for it; a folder within another goes first."""
    where = run.folder.resolve()
    package = Path(__file__).resolve().parents[1]
    named: list[tuple[str | Path, str]] = [
        (where, f"runs/{where.parent.name}/{where.name}"), (where.parents[1], "runs"), (package, "workbench"),
        (package.parent / "notebooks", "notebooks"), (sockets, "sockets"),
        *((str(value), Path(str(value)).name) for value in parameters.values() if Path(str(value)).is_absolute()),
        (sysconfig.get_path("purelib"), "site-packages"), (sysconfig.get_path("platlib"), "site-packages"),
        (sysconfig.get_path("stdlib"), f"python{sys.version_info.major}.{sys.version_info.minor}"),
        (sys.prefix, "python"), (sys.base_prefix, "python"), (Path.cwd(), "."), (os.environ.get("PWD", ""), "."),
        (Path.home(), "~"), (tempfile.gettempdir(), "tmp"),
    ]  # fmt: skip
    places: dict[str, str] = {}
    for folder, name in named:
        for path in (str(folder), os.path.realpath(folder)) if str(folder) else ():
            for spelled in (path, html.escape(path)):
                if spelled.strip("/") and Path(spelled).is_absolute():
                    places.setdefault(spelled.rstrip("/"), name)
    return dict(sorted(places.items(), key=lambda place: -len(place[0])))


def _known(text: str, places: Mapping[str, str]) -> str:
    """Known folders by their names. Never within a word, so that no picture in base64 is changed."""
    pattern = re.compile(rf"(?:file://|(?<![\w.~/+-]))(?:{'|'.join(map(re.escape, places))})(?![\w-]|\.\w)")
    return pattern.sub(lambda found: places[found.group().removeprefix("file://")], text)


def _plain(text: str, places: Mapping[str, str]) -> str:
    """Plain text: of a path that lies elsewhere the last name stays. Colours stand between the words of a traceback."""
    return "".join(part if _COLOUR.fullmatch(part) else without_folders(_known(part, places)) for part in _COLOUR.split(text))


def _portable(value: Any, places: Mapping[str, str], plain: bool = True) -> Any:
    if isinstance(value, str):
        return _plain(value, places) if plain else _known(value, places)
    if isinstance(value, Mapping):
        return {key: _portable(one, places, plain) for key, one in value.items()}
    if isinstance(value, list):
        return [_portable(one, places, plain) for one in value]
    return value


def _output(output: Any, places: Mapping[str, str]) -> Any:
    """An output; in markup and data only known folders are replaced, since a slash there need not be a path."""
    rich = {mime: _portable(value, places, mime in _PLAIN) for mime, value in output.get("data", {}).items()}
    rest = {key: _portable(value, places) for key, value in output.items() if key != "data"}
    return nbformat.from_dict(rest | ({"data": rich} if "data" in output else {}))
