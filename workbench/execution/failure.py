"""What to say of a run that failed: one sentence, and what a person looks at next: the cell, the traceback, the log's end."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from papermill.exceptions import PapermillExecutionError, strip_color

from workbench.execution.kernel import Kernel, first_line
from workbench.jobs.processes import LINES, OUT_OF_MEMORY, how_it_ended, last_lines
from workbench.records.run_folder import LOG_FILE, RunFolder

SENTENCE = 600
"""Longest sentence, in characters."""

_CONTEXT = re.compile(r"\s*(\d+|\(\.\.\.\)\s+\d+)(\s|$)")
"""The source around the line of each frame, numbered, as IPython shows it: the notebook has it."""
_EXCEPTION = re.compile(r"(?:\w+\.)*(\w+(?:Error|Exception|Interrupt)): (.*)")
_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process (\d+)\.\n(.*)", re.DOTALL)
_KILLED = re.compile(
    r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (?:is killed by signal: (.*?)\.|exited unexpectedly)(.*)", re.DOTALL
)


def failure_of(run: RunFolder, error: BaseException, kernel: Kernel, notebook: Path) -> tuple[str, dict[str, Any]]:
    """The sentence and the details of a failure.

    Args:
        run: the run.
        error: what ended the execution of its notebook.
        kernel: the kernel, already closed.
        notebook: the notebook as far as it was executed.

    Returns:
        (sentence, details): `status.json` holds them as `error` and `failure`, the latter with cell (its number in the executed
        notebook, as in 'In [5]'; None before the first one), source, heading, exception, message, lines, log.
    """
    number, source, heading = _place(kernel, notebook)
    lines: list[str] = []
    if isinstance(error, PapermillExecutionError):
        name, text = str(error.ename), str(error.evalue)
        if name == "CellExecutionError" and not text:  # the kernel failed once more while it was telling: the log has it
            name, text = _last_exception(run) or (name, "the kernel could not say why; see the log")
        message = _message(name, text, run)
        lines = [line for part in error.traceback for line in strip_color(str(part)).splitlines() if not _CONTEXT.match(line)]
    elif kernel.exit_code is not None and "Kernel died" in str(error):  # nbclient's words; for other errors it ends the kernel
        name, message = "DeadKernelError", f"the kernel {how_it_ended(kernel.exit_code)}"
    else:
        name = type(error).__name__
        message = _message(name, str(error) or "no message", run, error.errno if isinstance(error, OSError) else None)
    place = "before the first cell" if number is None else f"cell {number} ({first_line(source)})"
    plain = name in ("RunError", "DeadKernelError", "ParameterError", "InputError") or message.startswith("data loading process")
    shown = message if plain else f"{name}: {message}"
    details = {
        "cell": number,
        "source": first_line(source) if source else "",
        "heading": heading,
        "exception": name,
        "message": message,
        "lines": lines[-LINES:],
        "log": last_lines(run.folder / LOG_FILE),
    }
    return _shortened(f"{place}: {shown}"), details


def disk_full(folder: Path) -> str:
    """The sentence for a disk without room, with what is left on it."""
    free = shutil.disk_usage(folder).free / 1e6
    return (
        f"the disk that holds {folder} is full ({free:.0f} MB free): make room, e.g. with `workbench runs prune`, and run the "
        "same command again to resume"
    )


def _place(kernel: Kernel, notebook: Path) -> tuple[int | None, str, str]:
    """Number, source and heading of the cell that the kernel was at."""
    if kernel.cell is None:
        return None, "", ""
    number, index, source = kernel.cell
    try:
        cells: Sequence[Any] = nbformat.read(notebook, as_version=4).cells[: index + 1]
    except Exception:  # half a notebook, or none: the cell's source says enough
        return number, source, ""
    titles = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines() if line.startswith("#")]
    return number, source, titles[-1].lstrip("# ") if titles else ""


def _last_exception(run: RunFolder) -> tuple[str, str] | None:
    """Name and message of the last exception in the log."""
    found = [_EXCEPTION.match(line) for line in last_lines(run.folder / LOG_FILE)]
    return next(((match[1], match[2]) for match in reversed(found) if match), None)


def _message(name: str, text: str, run: RunFolder, number: int | None = None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in text or os.strerror(errno.EDQUOT) in text:
        return disk_full(run.folder)
    if found := _WORKER.match(text):
        tail = found[3].rstrip().splitlines()
        frames = [index for index, line in enumerate(tail) if line.startswith("  ")]
        last = " ".join(line.strip() for line in tail[frames[-1] + 1 :]) if frames else tail[-1]
        return f"{last.removeprefix(f'{name}: ')} (in data loading process {found[2]})"
    if found := _KILLED.search(text):
        how = f"was killed by the signal '{found[2]}'" if found[2] else "ended unexpectedly"
        memory = " (/dev/shm, the shared memory, is full: workers=0 needs none)" if "shared memory" in found[3] else ""
        return (
            f"data loading process {found[1].strip()} {how}{memory or f': {OUT_OF_MEMORY}'}; run the same command again to resume"
        )
    return text


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SENTENCE else f"{text[:SENTENCE].rstrip()} ..."
