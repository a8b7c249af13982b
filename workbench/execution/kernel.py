"""The kernel of a run as its driver sees it: a private connection, its log, the cell it is at, its deadline and its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from jupyter_client import AsyncKernelManager

from workbench.errors import RunError
from workbench.execution.socket_folder import is_short, make_socket_folder
from workbench.jobs.processes import RUN_VARIABLE, kill_processes
from workbench.records.run_folder import LOG_FILE, PAUSE_GRACE, RunFolder
from workbench.records.status import now

STOP_GRACE = 5.0
"""Seconds a kernel that was asked to stop has to save its checkpoint before all its processes are killed."""


class Kernel:
    """One start of a kernel, from the connection to the last of its processes.

    Args:
        run: the run that it works for.
        timeout: minutes of wall time after which it is killed; 0 = none.

    Attributes:
        timed_out: whether it was killed for that.
        cell: the cell it is at: its number as in 'In [5]', its index in the notebook, its source; None before the first one.
        exit_code: what its process returned, negative for a signal; None while it lives or was never there.
    """

    def __init__(self, run: RunFolder, timeout: float) -> None:
        self.run = run
        self.timeout = timeout
        self.timed_out = False
        self.cell: tuple[int, int, str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.log = (run.folder / LOG_FILE).open("a", encoding="utf-8", errors="replace")
        try:
            self.sockets = make_socket_folder()  # TCP ports race when many kernels start
        except RunError:
            self.log.close()
            raise
        self._finished = threading.Event()

    @property
    def exit_code(self) -> int | None:
        """See the class."""
        return None if self._process is None else self._process.poll()

    def say(self, text: str) -> None:
        """Write a line of the driver's own into the log."""
        with suppress(OSError):
            self.log.write(f"[{now()}] {text}\n")
            self.log.flush()

    def enter_cell(self, cell: Any, cell_index: int) -> None:
        """What nbclient calls when a cell is about to be executed."""
        number = 1 if self.cell is None else self.cell[0] + 1
        self.cell = (number, cell_index, cell.source)
        self.say(f"cell {number}: {first_line(cell.source)}")

    def manager_class(self) -> type[AsyncKernelManager]:
        """A kernel manager with an ipc connection whose kernel writes to the log and is known to this object."""
        owner = self

        class PrivateKernelManager(AsyncKernelManager):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                self.transport = "ipc"
                self.ip = f"{owner.sockets}/k"

            async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
                await super()._async_launch_kernel(kernel_cmd, **options, stdout=owner.log, stderr=owner.log)

            async def _async_post_start_kernel(self, **options: Any) -> None:
                await super()._async_post_start_kernel(**options)
                owner._process = getattr(self.provisioner, "process", None)
                if owner._process is not None:
                    owner.run.set_status("running", kernel_pid=owner._process.pid)

            _launch_kernel = _async_launch_kernel
            post_start_kernel = _async_post_start_kernel

        return PrivateKernelManager

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Environment of the kernel: the run it belongs to, and settings that keep parallel kernels apart."""
        ours = {
            RUN_VARIABLE: str(self.run.folder.resolve()),
            "IPYTHONDIR": f"{self.sockets}/ipython",  # a shared history database locks
            "JUPYTER_RUNTIME_DIR": f"{self.sockets}/runtime",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        if not is_short(tempfile.gettempdir()):  # data workers make sockets below it
            ours["TMPDIR"] = str(self.sockets)
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
        """Watch over deadline and requests to stop from a thread; see also `stops_on_signals`."""
        watcher = threading.Thread(target=self._watch, name="kernel-watch", daemon=True)
        with stops_on_signals(self.run):
            watcher.start()
            try:
                yield
            finally:
                self._finished.set()
                watcher.join(timeout=5)

    def _watch(self) -> None:
        end = time.monotonic() + 60 * self.timeout if self.timeout > 0 else float("inf")
        asked: float | None = None
        while not self._finished.wait(0.3):
            if self.run.should_stop():
                asked = asked or time.monotonic()
            if time.monotonic() > end:
                self.timed_out = True
            if self.timed_out or (asked is not None and time.monotonic() - asked > self._grace()):
                with suppress(Exception):  # a status that cannot be read now is tried again
                    kill_processes(self.run, driver=False)

    def _grace(self) -> float:
        """Seconds from a request to stop to the end of the kernel; a queue that pauses a run may leave it more time."""
        if not self.run.is_paused():
            return STOP_GRACE
        with suppress(ValueError):
            return max(STOP_GRACE, float(os.environ.get(PAUSE_GRACE, "")))
        return STOP_GRACE

    def close(self) -> None:
        """Leave nothing behind: neither processes nor sockets."""
        with suppress(Exception):
            kill_processes(self.run, driver=False)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=2)
        shutil.rmtree(self.sockets, ignore_errors=True)
        with suppress(OSError):
            self.log.close()


@contextmanager
def stops_on_signals(run: RunFolder) -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP ask the run to stop and save: it is then interrupted, unless somebody had cancelled it.

    A second SIGINT (Ctrl-C) does not wait for the checkpoint. Outside the main thread nothing is changed.
    """

    def ask(number: int, _frame: object) -> None:
        if number == signal.SIGINT and run.should_stop():
            raise KeyboardInterrupt
        with suppress(OSError):
            run.request_pause()

    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
                    stack.callback(signal.signal, number, signal.signal(number, ask))
        yield


def first_line(source: str) -> str:
    """The first line of a cell that is no comment, the line that people know it by."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("#")), lines[0] if lines else "(empty)")
