"""Who may log in to the dashboard: a file of names and hashed passwords that only its owner can read."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.files import atomic_path, read_json

USERS_VARIABLE = "WORKBENCH_USERS"
"""Environment variable: the file of users."""
SHORTEST = 10
"""Characters that a password must have at least."""
_COST = {"n": 2**15, "r": 8, "p": 3}
"""OWASP's parameters for scrypt at 32 MiB (Password Storage Cheat Sheet)."""
_MEMORY = 64 * 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


def users_file() -> Path:
    """The file of users: the environment variable WORKBENCH_USERS, else `~/.config/workbench/users.json`."""
    return Path(os.environ.get(USERS_VARIABLE) or Path.home() / ".config" / "workbench" / "users.json")


def read_users(path: Path) -> dict[str, str]:
    """Name -> hash, empty where there is no file.

    Raises:
        WorkbenchError: the file is no table of users, or others may read or write it.
    """
    if not path.exists():
        return {}
    if path.stat().st_mode & 0o077:
        raise WorkbenchError(f"{path} can be read or written by others: `chmod 600 {path}`")
    users = read_json(path)
    if not isinstance(users, dict) or not all(isinstance(value, str) for value in users.values()):
        raise WorkbenchError(f"{path} is no file of users: it must hold names and hashes")
    return users


def add_user(path: Path, name: str, password: str) -> None:
    """Add a user, or give one a new password. Whoever was logged in with the old one is logged out.

    Raises:
        WorkbenchError: the name or the password will not do, or the file is not to be trusted.
    """
    if not _NAME.fullmatch(name):
        raise WorkbenchError(f"'{name}' is no user's name: letters, digits, '_', '.', '@' and '-', 64 at most")
    if len(password) < SHORTEST:
        raise WorkbenchError(f"the password must have {SHORTEST} characters at least")
    users = read_users(path) | {name: hash_password(password)}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_private(path, users)


def hash_password(password: str) -> str:
    """`scrypt$n$r$p$salt$hash`, with a salt of its own."""
    salt = secrets.token_bytes(16)
    found = hashlib.scrypt(password.encode(), salt=salt, maxmem=_MEMORY, dklen=32, **_COST)
    return "$".join(["scrypt", *(str(value) for value in _COST.values()), salt.hex(), found.hex()])


_NOBODY = f"scrypt${_COST['n']}${_COST['r']}${_COST['p']}${'00' * 16}${'00' * 32}"


def password_fits(users: dict[str, str], name: str, password: str) -> bool:
    """Whether a user's password is right; an unknown name takes as long as a known one."""
    try:
        kind, n, r, p, salt, expected = users.get(name, _NOBODY).split("$")
        found = hashlib.scrypt(
            password.encode("utf-8", "surrogatepass"),
            salt=bytes.fromhex(salt),
            n=int(n),
            r=int(r),
            p=int(p),
            maxmem=_MEMORY,
            dklen=32,
        )
        return hmac.compare_digest(found.hex(), expected) and kind == "scrypt" and name in users
    except ValueError:
        return False


def cookie_secret(path: Path) -> str:
    """The secret that signs who is logged in: made once beside the users, readable for the owner only.

    Raises:
        WorkbenchError: others may read it.
    """
    secret = path.with_name("cookie_secret")
    if not secret.exists():
        secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(secret, secrets.token_hex(32))
    if secret.stat().st_mode & 0o077:
        raise WorkbenchError(f"{secret} can be read or written by others: `chmod 600 {secret}`")
    return str(read_json(secret))


def _write_private(path: Path, value: object) -> None:
    with atomic_path(path) as unfinished:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # private before anything stands in it
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
