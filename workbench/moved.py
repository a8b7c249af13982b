"""Where modules and names lie that were moved: importing an old place fails with the new one. For one release.

`hasattr` and `find_spec` of an old place fail the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any


@cache
def places() -> dict[str, str]:
    """Old place -> new one. Old: a module, `module:name`, or, of a package that was a module, `module:*` for all other names."""
    return json.loads(Path(__file__).with_name("moved.json").read_text(encoding="utf-8"))


class MovedModules(MetaPathFinder):
    """Answers for modules that nobody else finds."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Never finds a module.

        Raises:
            ModuleNotFoundError: the module was moved; the message names its new place, and that of names that went elsewhere.
        """
        if not fullname.startswith("workbench.") or fullname not in places():
            return None
        apart = [f"{old.partition(':')[2]}: {new}" for old, new in places().items() if old.startswith(f"{fullname}:")]
        also = f" ({'; '.join(apart)})" if apart else ""
        # without its `name` attribute: `from package import module` would swallow the error
        raise ModuleNotFoundError(f"{fullname} was moved: import it from {places()[fullname]}{also}")


def moved_from(module: str) -> Callable[[str], Any]:
    """`__getattr__` of a module that names were moved out of: it fails with their new place."""

    def missing(name: str) -> Any:
        if name.startswith("__"):  # asked for by every import
            raise AttributeError(name)
        new, package = places().get(f"{module}:{name}"), places().get(f"{module}:*")
        if new is None and package and find_spec(f"{module}.{name}") is None:
            new = package if hasattr(import_module(package), name) else None
        if new is None:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        raise ImportError(f"{name} was moved out of {module}: import it from {new}")

    return missing
