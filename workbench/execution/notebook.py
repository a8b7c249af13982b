"""A notebook through Papermill, strictly: checked parameters, a private kernel connection, an outside timeout, a clean end.

The driver (this module's process) writes status, notebook and log of the run folder; the kernel writes the rest and a
heartbeat. The kernel has its own process group, whose id is on file, so that a cancelled or killed run leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import papermill

from workbench.errors import ParameterError, RunError, WorkbenchError
from workbench.execution.failure import failure_of
from workbench.execution.kernel import Kernel
from workbench.execution.portable_notebook import write_portable
from workbench.execution.readiness import check_ready, check_writable
from workbench.files import remove_unfinished
from workbench.jobs.processes import QUEUED_VARIABLE, kill_processes
from workbench.models.catalogue import card
from workbench.records.provenance import write_artefacts
from workbench.records.run_folder import RunFolder
from workbench.setup.devices import check_devices
from workbench.setup.opening import open_run
from workbench.setup.parameters import ExperimentParameters, cell_fields
from workbench.setup.progress import follow

FULL = (errno.ENOSPC, errno.EDQUOT)


class RunFailedError(RunError):
    """A run did not reach its end; `details` is what `status.json` holds as `failure`, None where it was stopped on request."""

    def __init__(self, message: str, details: Mapping[str, Any] | None) -> None:
        super().__init__(message)
        self.details = details


def notebook_path(method: str) -> Path:
    """The parameterised notebook of a method.

    Raises:
        RunError: there is none.
    """
    path = Path(__file__).resolve().parents[2] / "notebooks" / f"{card(method).notebook_name}.ipynb"
    if not path.is_file():
        raise RunError(f"method '{method}' has no notebook: {path.name} is missing from the notebooks folder")
    return path


def check_notebook(path: Path, method: str) -> None:
    """Hold a notebook's parameters cell against the parameter model, before any kernel starts.

    Raises:
        ParameterError: the cell lists a name that the model does not have.
    """
    listed = set(papermill.inspect_notebook(str(path)))
    unknown = listed - set(cell_fields(method))
    if unknown:
        raise ParameterError(f"{path.name}: its parameters cell lists {', '.join(sorted(unknown))}, unknown to {method}")


def run_notebook(
    method: str,
    values: Mapping[str, Any],
    *,
    timeout: float = 0.0,
    progress: bool = True,
    report: bool = True,
    derived: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Execute a method's notebook into its run folder; a completed run is not repeated.

    Args:
        method: name of the method.
        values: parameters, text or typed.
        timeout: minutes of wall time after which the kernel is killed and the run fails; 0 = none.
        progress: show progress on standard error.
        report: also write `report.html`.
        derived: as for `open_run`.

    Raises:
        ParameterError: unknown or ill-typed parameters, before a kernel starts.
        RunError: the run failed, was cancelled or is being executed by another process; its folder says why.
    """
    parameters = ExperimentParameters.build(method, values)
    path = notebook_path(method)
    check_notebook(path, method)
    cohort, run = open_run(parameters, progress=progress, derived=derived)
    if run.status["state"] == "completed":
        return run
    check_devices(parameters)
    check_writable(run)
    run.claim(as_queued=bool(os.environ.get(QUEUED_VARIABLE)))  # one writer: raises where another process executes this run
    kill_processes(run, driver=False)  # a kernel whose driver was killed would go on writing beside the one that resumes
    try:
        with run.locked():  # nobody writes a status meanwhile
            remove_unfinished(run.folder)
        check_ready(parameters, cohort, run)
        # the kernel may be silent for longer than another host would wait before it took the run over
        with follow(run, progress=progress), run.beating():
            _execute(path, run, parameters, timeout)
    except RunFailedError:  # its status says so already
        raise
    except Exception as error:  # whatever it was: without a status the run would count as interrupted, and do so again for ever
        sentence = str(error) if isinstance(error, WorkbenchError) else f"before the first cell: {type(error).__name__}: {error}"
        with suppress(OSError):
            run.set_status("failed", error=sentence)
        if isinstance(error, WorkbenchError):
            raise
        raise RunError(f"run {run.folder}: {sentence}") from error
    if report:
        from workbench.execution.html import write_report

        try:
            write_report(run)
        except Exception as error:  # the report is a convenience: the run stands without it
            warnings.warn(f"{run.folder}: report.html was not written: {type(error).__name__}: {error}", stacklevel=2)
    with suppress(WorkbenchError, OSError):  # on a full disk, say: `workbench provenance RUN --record` does it later
        write_artefacts(run)
    return run


def _execute(path: Path, run: RunFolder, parameters: ExperimentParameters, timeout: float) -> None:
    """Execute the notebook and write down how it ended.

    A kernel that ends before the first cell has done nothing yet: it is started once more. Nothing else is retried.
    """
    partial = run.path(".notebook.partial.ipynb")
    for again in (True, False):
        kernel = Kernel(run, timeout)
        error = _run_cells(path, partial, parameters, kernel)
        if error is None or kernel.cell is not None or kernel.timed_out or run.should_stop() or not again:
            break
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, OSError) and error.errno in FULL):
            break
    state, sentence, details = "completed", None, None
    if error is not None:
        state = "failed"
        sentence, details = failure_of(run, error, kernel, partial)
        if run.is_paused() or isinstance(error, KeyboardInterrupt):
            state, sentence, details = "interrupted", "interrupted on request: run the same command again to resume", None
        elif run.should_stop():
            state, sentence, details = "cancelled", "cancelled on request: run the same command again to resume", None
        elif kernel.timed_out:
            sentence, details = f"stopped after the time limit of {timeout:g} minutes", {**details, "exception": "Timeout"}
    if partial.exists():
        try:
            write_portable(partial, run, vars(parameters), kernel.sockets)
        except (OSError, ValueError):  # a full disk has no room for it, and a notebook that was cut off is kept as it is
            with suppress(OSError):
                partial.replace(run.path("notebook.ipynb"))
    try:
        run.set_status(state, error=sentence, failure=details)
    except OSError as full:  # not even the reserve was enough: the run counts as interrupted, since its process is gone
        raise RunFailedError(
            f"run {run.folder} ended ({sentence or state}), but that cannot be written: {full}", details
        ) from error
    if state != "completed":
        raise RunFailedError(f"run {run.folder}: {sentence}", details) from error


def _run_cells(path: Path, partial: Path, parameters: ExperimentParameters, kernel: Kernel) -> BaseException | None:
    """Execute the notebook in one start of a kernel; returns what ended it early, None where it reached its end."""
    listed = cell_fields(parameters.method)  # `method` itself only where several share the notebook
    given = {name: getattr(parameters, name) for name in listed if name in parameters.model_fields_set}
    given["runs"] = str(Path(parameters.runs))
    try:
        with kernel.environment(), kernel.guard():
            kernel.say(f"{path.name} begins")
            papermill.execute_notebook(
                str(path),
                str(partial),
                parameters=given,
                kernel_name="python3",
                progress_bar=False,
                cwd=str(Path.cwd()),
                start_timeout=120,
                kernel_manager_class=kernel.manager_class(),
                on_cell_execute=kernel.enter_cell,
                stdout_file=kernel.log,
                stderr_file=kernel.log,
            )
        kernel.say("all cells done")
    except (Exception, KeyboardInterrupt) as error:  # any: an error of zmq or jupyter_client while a kernel starts is no OSError
        kernel.say(f"ended early: {type(error).__name__}")
        return error
    finally:
        kernel.close()
    return None


if sys.platform == "win32":  # pragma: no cover
    raise RunError("runs need a POSIX system (Linux or macOS); on Windows use WSL")
