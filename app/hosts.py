"""Which names and addresses mean this machine, and which host and origin a request may come by."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")


def is_this_machine(address: str) -> bool:
    """Whether an IP address or host name can only be reached from this machine: `localhost`, 127.0.0.0/8, `::1`."""
    name = address.strip("[]").split("%")[0].lower()
    if name == "localhost":
        return True
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def host_allowed(host: str | None, origins: Collection[str]) -> bool:
    """Whether a request may have this Host header: a name of this machine at any port (a tunnel changes it), an allowed origin.

    A page elsewhere whose own name was made to point here (DNS rebinding) sends its name, and is refused.

    Args:
        host: the header, None where there is none.
        origins: allowed origins, `name:port`; `name` alone means the ports that a browser leaves out.
    """
    found = _HOST.fullmatch((host or "").lower())
    return found is not None and (is_this_machine(found["name"]) or _listed(found[0], origins))


def origin_allowed(origin: str | None, host: str, origins: Collection[str]) -> bool:
    """Whether a request that opens a session or sends something may have this Origin: its own host, or an allowed one.

    Args:
        origin: the header; None, as programs send it that are no browser, is never allowed.
        host: the request's Host header, already allowed.
        origins: allowed origins, see `host_allowed`.
    """
    try:
        parts = urlsplit((origin or "").lower())
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query or parts.fragment:
        return False
    return parts.netloc == host.lower() or _listed(parts.netloc, origins)


def _listed(host: str, origins: Collection[str]) -> bool:
    known = {origin.lower() for origin in origins}
    return host in known or (":" not in host and bool({f"{host}:80", f"{host}:443"} & known))
