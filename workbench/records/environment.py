"""What a run was computed with: code, interpreter, libraries, processor and graphics card. No torch: it is read in milliseconds.

Two runs of equal parameters and cohort are equal to the bit where these are equal too; where one of them differs, rounding may.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from workbench import __version__
from workbench.errors import WorkbenchError
from workbench.files import read_json, write_json
from workbench.records.status import now

ENVIRONMENT_FILE = "environment.json"
"""In a run folder: every environment that the run was computed in, in order; more than one where it was resumed elsewhere."""

PACKAGES = (
    "torch", "monai", "accelerate", "safetensors", "numpy", "scipy", "scikit-learn", "statsmodels", "pandas", "pyarrow",
    "nibabel", "nilearn", "blosc2", "SimpleITK", "scikit-image",
)  # fmt: skip
"""Packages that compute or store what a run results in."""

VARIABLES = (
    "OMP_NUM_THREADS", "OMP_DYNAMIC", "OMP_PROC_BIND", "MKL_NUM_THREADS", "MKL_CBWR", "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS", "BLOSC_NTHREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "PYTHONHASHSEED",
    "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
"""Environment variables on which thread counts, the choice of kernels or repeatability depend."""

_SOURCES = ("workbench", ":(glob)notebooks/*.ipynb")
"""What of a checkout decides a result; a change elsewhere (tests, documentation) leaves the code what it is."""


def environment() -> dict[str, Any]:
    """Python, system, processor, cards, versions of `PACKAGES`, and those of `VARIABLES` that are set; JSON-able.

    Versions, processor and cards are read once per process.
    """
    return {**_machine(), "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ}}


@lru_cache(maxsize=1)
def _machine() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "system": _system(),
        "cpu": cpu_model(),
        "cores": {"physical": psutil.cpu_count(logical=False), "logical": psutil.cpu_count(), "usable": usable},
        "gpus": gpus(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _system() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{platform.system()} {platform.release()}"


def cpu_model() -> str:
    """Name of the processor, with family, model and stepping where the system tells (virtual machines hide the name)."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, sign, value = line.partition(":")
            if not sign:
                break  # the first processor is enough
            found[name.strip()] = value.strip()
    if "model name" not in found:
        return platform.processor() or platform.machine()
    numbers = [f"{key} {found[name]}" for key, name in (("family", "cpu family"), ("model", "model")) if name in found]
    return f"{found['model name']} ({', '.join([platform.machine(), *numbers])})"


def gpus() -> list[dict[str, str]]:
    """Name and driver of every NVIDIA card, as its driver's own tool says; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[part.strip() for part in line.split(",")] for line in answer.splitlines()]
    return [{"name": row[0], "driver": row[1]} for row in rows if len(row) == 2]


# -- the code ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of the code, as this process first read it; see `read_code_version`."""
    return read_code_version()


def read_code_version(root: Path | None = None) -> str:
    """Version of the package; from a checkout also the commit, and a digest of what differs from it.

    '0.1.0 (1a2b3c4)' is a commit as it stands, '0.1.0 (1a2b3c4+changes.9f8e7d6c)' one whose code or notebooks were changed
    since: two states of changes have two digests. Changes elsewhere in the checkout do not count. The changes themselves are
    kept nowhere.

    Args:
        root: the checkout; None: the one this code runs from.
    """
    root = root or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return __version__
    try:
        commit = _git(root, "describe", "--always").decode().strip()
        changes = _changes(root)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__} ({commit}{'+changes.' + changes if changes else ''})"


def _changes(root: Path) -> str:
    """Digest (8 hex digits) of what the sources of a checkout differ in from their commit; empty where in nothing."""
    digest = hashlib.blake2b(digest_size=4)
    changed = _git(root, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "--", *_SOURCES)
    digest.update(changed)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *_SOURCES).split(b"\0")
    new = sorted(name for name in new if name)
    for name in new:
        digest.update(b"\0" + name + b"\0")
        with contextlib.suppress(OSError):  # gone since it was listed
            digest.update((root / os.fsdecode(name)).read_bytes())
    return digest.hexdigest() if changed or new else ""


def _git(root: Path, *arguments: str) -> bytes:
    # no optional locks: a run must not get in the way of somebody's commit
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, timeout=10, check=True).stdout


# -- in a run folder ---------------------------------------------------------------------------------------------------


def note_environment(folder: Path, **facts: Any) -> None:
    """Add the present environment to a run's `environment.json`, unless it is the last one there already.

    Args:
        folder: the run folder.
        facts: what only the computing process knows: device, threads, switches of its libraries.
    """
    entry = {**environment(), "code_version": code_version(), **facts}
    known = read_environments(folder)
    if not known or {key: value for key, value in known[-1].items() if key != "since"} != entry:
        write_json(folder / ENVIRONMENT_FILE, [*known, {"since": now(), **entry}])


def read_environments(folder: Path) -> list[dict[str, Any]]:
    """The environments that a run was computed in; empty for a run from before they were noted, or a damaged file."""
    try:
        document = read_json(folder / ENVIRONMENT_FILE)
    except WorkbenchError:
        return []
    return [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What two environments differ in: dotted name -> both values as text, '-' where one has none; when does not count."""
    left, right = _flat(first), _flat(second)
    names = [*left, *(name for name in right if name not in left)]
    return {
        name: (left.get(name, "-"), right.get(name, "-"))
        for name in names
        if name != "since" and left.get(name, "-") != right.get(name, "-")
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            flat |= _flat(entry, f"{prefix}{key}.")
        elif isinstance(entry, list):
            flat |= _flat({str(index): item for index, item in enumerate(entry)}, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(entry)
    return flat
