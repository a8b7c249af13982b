"""A notebook through Papermill, strictly: checked parameters, a private kernel connection, an outside timeout, a clean end.

The driver (this module's process) writes status, notebook and log of the run folder; the kernel writes the rest and a
heartbeat. The kernel has its own process group, whose id is on file, so that a cancelled or killed run leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import papermill
from jupyter_client import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from workbench.errors import ParameterError, RunError
from workbench.experiments.opening import RUN_VARIABLE, open_run
from workbench.experiments.parameters import ExperimentParameters, cell_fields
from workbench.experiments.progress import follow
from workbench.models.catalogue import card
from workbench.records.run_folder import RunFolder
from workbench.records.status import is_alive, slurm_job

CANCEL_GRACE = 8.0
"""Seconds a cancelled kernel has to save its checkpoint before its process group is killed."""


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
) -> RunFolder:
    """Execute a method's notebook into its run folder; a completed run is not repeated.

    Args:
        method: name of the method.
        values: parameters, text or typed.
        timeout: minutes of wall time after which the kernel is killed and the run fails; 0 = none.
        progress: show progress on standard error.
        report: also write `report.html`.

    Raises:
        ParameterError: unknown or ill-typed parameters, before a kernel starts.
        RunError: the run failed, was cancelled or is being executed by another process; its folder says why.
    """
    parameters = ExperimentParameters.build(method, values)
    path = notebook_path(method)
    check_notebook(path, method)
    _, run = open_run(parameters, progress=progress)
    if run.status["state"] == "completed":
        return run
    _end_orphan(run)
    run.claim()  # one writer: raises where another process executes this run
    with follow(run, progress=progress):
        _execute(path, run, parameters, timeout)
    if report:
        with suppress(Exception):  # the report is a convenience: the run stands without it, and the log says what went wrong
            write_report(run)
    return run


def _end_orphan(run: RunFolder) -> None:
    """End a kernel whose driver was killed: it would go on writing for a moment beside the one that now resumes the run."""
    status = run.status
    here = status.get("host") == socket.gethostname()
    kernel = status.get("kernel_pid")
    if kernel and here and run.effective_state() == "interrupted" and is_alive(kernel, status.get("kernel_pid_created")):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(os.getpgid(kernel), signal.SIGKILL)


def _execute(path: Path, run: RunFolder, parameters: ExperimentParameters, timeout: float) -> None:
    partial = run.path(".notebook.partial.ipynb")
    listed = cell_fields(parameters.method)  # `method` itself only where several share the notebook
    given = {name: getattr(parameters, name) for name in parameters.model_fields_set if name in listed}
    given["runs"] = str(Path(parameters.runs))
    kernel = _Kernel(run, timeout)
    failure: str | None = None
    state = "completed"
    try:
        with kernel.environment(), kernel.guard():
            papermill.execute_notebook(
                str(path),
                str(partial),
                parameters=given,
                kernel_name="python3",
                progress_bar=False,
                cwd=str(Path.cwd()),
                start_timeout=120,
                kernel_manager_class=kernel.manager_class(),
            )
    except PapermillExecutionError as error:
        state, failure = "failed", f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    except DeadKernelError:
        state, failure = "failed", "the kernel died (out of memory, or killed from outside)"
    except KeyboardInterrupt:
        state, failure = "interrupted", "interrupted: run the same command again to resume"
    finally:
        kernel.kill()
        if partial.exists():
            partial.replace(run.path("notebook.ipynb"))
    if run.is_paused():
        if state != "completed":
            state, failure = "interrupted", "stopped by the queue, which resumes it; or run the same command again"
    elif run.should_stop():
        state, failure = "cancelled", "cancelled on request: run the same command again to resume"
    elif kernel.timed_out:
        state, failure = "failed", f"stopped after the time limit of {timeout:g} minutes"
    run.set_status(state, error=failure)
    if state != "completed":
        raise RunError(f"run {run.folder}: {failure}")


class _Kernel:
    """What the driver knows of its kernel: a private connection, its process group, its deadline."""

    def __init__(self, run: RunFolder, timeout: float) -> None:
        self.run = run
        self.timeout = timeout
        self.timed_out = False
        self.process_group: int | None = None
        # Sockets live in a short private folder: TCP ports race when many kernels start, and ipc paths are limited to ~100 bytes
        self.sockets = Path(tempfile.mkdtemp(prefix="wb-"))
        self.finished = threading.Event()

    def manager_class(self) -> type[AsyncKernelManager]:
        """A kernel manager with an ipc connection that reports the kernel's process group."""
        owner = self

        class PrivateKernelManager(AsyncKernelManager):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                self.transport = "ipc"
                self.ip = str(owner.sockets / "k")

            async def _async_post_start_kernel(self, **options: Any) -> None:
                await super()._async_post_start_kernel(**options)
                pid = getattr(self.provisioner, "pid", None)
                if pid:
                    owner.process_group = os.getpgid(pid)
                    owner.run.set_status("running", kernel_pid=pid)

            post_start_kernel = _async_post_start_kernel

        return PrivateKernelManager

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Environment of the kernel: the run it belongs to, and settings that keep parallel kernels apart."""
        ours = {
            RUN_VARIABLE: str(self.run.folder.resolve()),
            "IPYTHONDIR": str(self.sockets / "ipython"),  # a shared history database locks
            "JUPYTER_RUNTIME_DIR": str(self.sockets / "runtime"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Watch over deadline and cancel request from a thread.

        SIGTERM to the driver counts as a cancel request; in a job of SLURM, which says so before it takes the node away, as a
        pause: such a run is interrupted and waits for its requeue.
        """
        watcher = threading.Thread(target=self._watch, name="kernel-watch", daemon=True)
        main = threading.current_thread() is threading.main_thread()
        stop = self.run.request_pause if slurm_job() else self.run.request_cancel
        before = signal.signal(signal.SIGTERM, lambda *_: stop()) if main else None
        watcher.start()
        try:
            yield
        finally:
            self.finished.set()
            watcher.join(timeout=5)
            if main:
                signal.signal(signal.SIGTERM, before)

    def _watch(self) -> None:
        end = time.monotonic() + 60 * self.timeout if self.timeout > 0 else float("inf")
        asked: float | None = None
        while not self.finished.wait(0.5):
            if self.run.should_stop():
                asked = asked or time.monotonic()
            if time.monotonic() > end:
                self.timed_out = True
            if self.timed_out or (asked is not None and time.monotonic() - asked > CANCEL_GRACE):
                self._kill_group()

    def _kill_group(self) -> None:
        if self.process_group is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process_group, signal.SIGKILL)

    def kill(self) -> None:
        """Leave nothing behind: neither processes nor sockets."""
        self._kill_group()
        shutil.rmtree(self.sockets, ignore_errors=True)


def write_report(run: RunFolder) -> Path:
    """Write `report.html` from the executed notebook: one file, no code cells, nothing loaded from another host."""
    import nbformat
    from nbconvert import HTMLExporter

    from workbench.files import write_text

    exporter = HTMLExporter(exclude_input=True, require_js_url="", mathjax_url="", jquery_url="", mermaid_js_url="")
    notebook = nbformat.read(run.path("notebook.ipynb"), as_version=4)
    notebook.metadata["title"] = f"{run.spec['method']} · {run.spec['cohort']['name']} · {run.spec['run']}"
    body, _ = exporter.from_notebook_node(notebook)
    write_text(run.path("report.html"), body)
    return run.path("report.html")


if sys.platform == "win32":  # pragma: no cover
    raise RunError("runs need a POSIX system (Linux or macOS); on Windows use WSL")
