"""Serve the dashboard: `panel serve app` with the settings a lab wants, to this machine only unless it knows who asks.

The server itself (`app/door.py`) refuses to be open to others without a login, an allowed origin and encryption; here the same is
asked first, so that the answer names the options of `workbench app`.
"""

from __future__ import annotations

import getpass
import importlib.util
import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.records.users import USERS_VARIABLE, add_user, cookie_secret, read_users, users_file


def app_folder() -> Path:
    """Where the dashboard's package lies.

    Raises:
        WorkbenchError: it is not installed.
    """
    found = importlib.util.find_spec("app")
    if found is None or not found.submodule_search_locations:
        raise WorkbenchError("the package 'app' is not installed: `pip install -e .` in the repository")
    return Path(next(iter(found.submodule_search_locations)))


def ask_for_user(name: str) -> Path:
    """Ask for a password twice and add the user; returns the file of users.

    Raises:
        WorkbenchError: the two differ, or name or password will not do.
    """
    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Once more: ") != password:
        raise WorkbenchError("the two passwords differ; nothing was changed")
    add_user(users_file(), name, password)
    return users_file()


def serve_app(
    *,
    port: int = 5006,
    address: str = "127.0.0.1",
    runs: str | Path = "runs",
    origins: Sequence[str] = (),
    certificate: Path | None = None,
    key: Path | None = None,
    plain: bool = False,
) -> None:
    """Serve until interrupted. With a file of users everybody has to log in, on this machine too.

    Args:
        port: TCP port; 0 = any free one.
        address: address to bind.
        runs: folder of all runs.
        origins: NAME:PORT as people write it into the browser, beside this machine's own.
        certificate: file of the certificate, for https.
        key: file of its key.
        plain: a proxy in front encrypts, so that no certificate is needed.

    Raises:
        WorkbenchError: it would be open to others without login, origin or encryption; the port is in use; the server could
            not start.
    """
    users = users_file()
    for origin in origins:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+(:[0-9]{1,5})?", origin):
            raise WorkbenchError(
                f"'{origin}' is no origin: NAME or NAME:PORT, without http:// and without a path, e.g. lab.example:5006"
            )
    _check_door(address, origins, users, encrypted=certificate is not None or plain)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
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
        "--num-threads", "4", "--warm", "--log-level", "warning",
    ]  # fmt: skip
    environment = os.environ | {"WORKBENCH_RUNS": str(Path(runs).resolve()), "BOKEH_RESOURCES": "server"}
    for origin in origins:
        command += ["--allow-websocket-origin", origin]
    if certificate is not None:
        command += ["--ssl-certfile", str(certificate)] + (["--ssl-keyfile", str(key)] if key else [])
    if plain:
        environment["WORKBENCH_PLAIN_HTTP"] = "1"
    if read_users(users):  # the secret goes by the environment: other users of this machine see command lines
        command += ["--auth-module", str(folder / "login.py")]
        environment |= {USERS_VARIABLE: str(users.resolve()), "BOKEH_COOKIE_SECRET": cookie_secret(users)}
    host = origins[0] if origins else f"{f'[{address}]' if ':' in address else address}:{port}"
    sys.stderr.write(f"The dashboard is at http{'s' if certificate else ''}://{host}/app (stop with Ctrl-C)\n")
    sys.stderr.flush()
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


def _check_door(address: str, origins: Sequence[str], users: Path, *, encrypted: bool) -> None:
    """Say by which options it goes, before the server says why it does not.

    Raises:
        WorkbenchError: the options would open the dashboard to others without knowing who they are.
    """
    wide = address != "localhost" and not _loopback(address)
    if not wide and not origins:
        return
    start = f"workbench app{f' --address {address}' if wide else ''} --origin {origins[0] if origins else 'NAME:PORT'}"
    missing = []
    if not read_users(users):
        missing.append("nobody can log in yet: `workbench app --add-user NAME` asks for a password and keeps its hash")
    if wide and not origins:
        missing.append("no origin is allowed: NAME:PORT is what people write into the browser, e.g. lab.example:5006")
    if wide and not encrypted:
        start += " --ssl-certfile FILE --ssl-keyfile FILE"
        missing.append(
            "passwords would cross the network in the clear: give a certificate, or --plain-http where a proxy in front encrypts"
        )
    if missing:
        raise WorkbenchError(
            "the dashboard shows patient data and would be open to others:\n  "
            + "\n  ".join(missing)
            + f"\nThen: `{start}`.\nFor yourself from another machine, ssh is enough: `ssh -L 5006:localhost:5006 THIS_MACHINE`"
        )


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
