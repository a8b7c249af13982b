"""Serve the dashboard: `panel serve app` with the settings a lab wants, on this machine only unless told otherwise."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from workbench.errors import WorkbenchError


def app_folder() -> Path:
    """Where the dashboard's package lies.

    Raises:
        WorkbenchError: it is not installed.
    """
    found = importlib.util.find_spec("app")
    if found is None or not found.submodule_search_locations:
        raise WorkbenchError("the package 'app' is not installed: `pip install -e .` in the repository")
    return Path(next(iter(found.submodule_search_locations)))


def serve_app(*, port: int = 5006, address: str = "127.0.0.1", runs: str | Path = "runs") -> None:
    """Serve until interrupted.

    Args:
        port: TCP port; 0 = any free one.
        address: address to bind.
        runs: folder of all runs.

    Raises:
        WorkbenchError: the port is in use, or the server could not start.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise WorkbenchError(
                f"port {port} on {address} cannot be used: {error.strerror}; choose another one, e.g. "
                f"`workbench app --port {port + 1}` or `make app PORT={port + 1}`"
            ) from error
        port = probe.getsockname()[1]
    folder = app_folder()
    command = [  # -P: a file of the user's in the working folder, called app.py for instance, is not taken for ours
        sys.executable, "-P", "-m", "panel", "serve", str(folder), "--address", address, "--port", str(port),
        "--allow-websocket-origin", f"{address}:{port}", "--allow-websocket-origin", f"localhost:{port}",
        "--num-threads", "4", "--warm", "--log-level", "warning",
    ]  # fmt: skip
    sys.stderr.write(f"The dashboard is at http://{address}:{port}/app (stop with Ctrl-C)\n")
    sys.stderr.flush()
    environment = os.environ | {"WORKBENCH_RUNS": str(Path(runs).resolve()), "BOKEH_RESOURCES": "server"}
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # who ends this process means the server too
    process = subprocess.Popen(command, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return
    if code:
        raise WorkbenchError(f"the dashboard's server ended with status {code}; its messages stand above")
