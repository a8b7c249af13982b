"""What this machine offers, and what to do about what it lacks. Imports heavy libraries: it is the one command meant to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import psutil


def examine() -> list[dict[str, str]]:
    """Findings: state (ok, warning, error), what, found, remedy."""
    return [_python(), *_libraries(), _memory(), _disk(), _shared_memory(), _accelerator(), _viewer(), _browser()]


def _finding(state: str, what: str, found: str, remedy: str = "") -> dict[str, str]:
    return {"state": state, "what": what, "found": found, "remedy": remedy}


def _python() -> dict[str, str]:
    return _finding("ok", "Python", platform.python_version())


def _libraries() -> list[dict[str, str]]:
    findings = []
    for name in ("torch", "monai", "panel", "bokeh", "holoviews", "papermill", "blosc2"):
        try:
            findings.append(_finding("ok", name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(_finding("error", name, "not installed", "`make venv` installs everything"))
    return findings


def _memory() -> dict[str, str]:
    gib = psutil.virtual_memory().total / 2**30
    if gib < 8:
        return _finding("warning", "memory", f"{gib:.0f} GiB", "use size=demo, or a machine with 16 GiB or more")
    return _finding("ok", "memory", f"{gib:.0f} GiB, {os.cpu_count()} cores")


def _disk() -> dict[str, str]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < 5:
        return _finding("warning", "disk", f"{free:.1f} GiB free here", "free some space: runs keep checkpoints and maps")
    return _finding("ok", "disk", f"{free:.0f} GiB free here")


def _shared_memory() -> dict[str, str]:
    path = Path("/dev/shm")
    if not path.is_dir():
        return _finding("ok", "shared memory", "no /dev/shm on this system")
    free = shutil.disk_usage(path).free / 2**30
    if free < 1:
        return _finding(
            "warning", "shared memory", f"{free:.2f} GiB in /dev/shm", "run with workers=0, or `--ipc=host` in a container"
        )
    return _finding("ok", "shared memory", f"{free:.0f} GiB in /dev/shm")


def _accelerator() -> dict[str, str]:
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
        together = f"{count} devices (a run may take several: processes={count}): " if count > 1 else ""
        return _finding("ok", "CUDA", f"{together}{names}, built for CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi"):
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU-only build"
        return _finding(
            "warning", "CUDA", f"an NVIDIA driver is installed, but torch ({built}) cannot use it and computes on the CPU",
            "update the driver, or install a torch build that fits it (see pytorch.org), keeping constraints.txt otherwise",
        )  # fmt: skip
    return _finding("ok", "CUDA", "none: computing on the CPU")


def _viewer() -> dict[str, str]:
    from workbench.commands.serving import app_folder
    from workbench.views.viewer_bundle import VIEWER_FILE, viewer_problem, viewer_version

    folder = app_folder()
    if viewer_problem(folder / "static" / VIEWER_FILE):
        return _finding(
            "warning", "volume viewer", "NiiVue's file is missing: plain three-plane views are used", "`workbench viewer`"
        )
    return _finding("ok", "volume viewer", f"NiiVue {viewer_version(folder)} is in place")


def _browser() -> dict[str, str]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found:
        return _finding("ok", "browser for tests", Path(found).name)
    return _finding("ok", "browser for tests", "no Chromium: the browser tests are skipped")
