"""The server's door: where it listens, who may ask, what every answer carries, what the log keeps.

`app/server_lifecycle.py` puts it in before Bokeh makes its server, however that is started (`panel serve app`, `bokeh serve app`,
`workbench app`); `app/main.py` shows nothing without it.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
from collections.abc import Sequence
from socket import socket
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import bokeh.server.server
import bokeh.server.util
from bokeh.protocol.exceptions import ProtocolError
from bokeh.protocol.message import Message
from bokeh.server.auth_provider import AuthProvider, NullAuth
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.doc_handler import DocHandler
from bokeh.server.views.root_handler import RootHandler
from bokeh.settings import settings
from bokeh.util.token import get_session_id, get_token_payload
from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError, RequestHandler

from app.headers import PLACE_OF_NONCE, security_headers
from app.hosts import host_allowed, is_this_machine, origin_allowed

PLAIN_VARIABLE = "WORKBENCH_PLAIN_HTTP"
"""Set to 1: beyond this machine without a certificate, because what stands in front encrypts."""
HOW_TO = """The dashboard shows patient data and is served to this machine only, unless it knows who asks:
    workbench app --add-user NAME
    workbench app --address ADDRESS --origin NAME:PORT --ssl-certfile FILE --ssl-keyfile FILE
(a passphrase is asked for; NAME:PORT is what people write into the browser). With a proxy on this machine that encrypts:
    workbench app --origin NAME:PORT
Or from another machine through ssh, with nothing to set up: ssh -L 5006:localhost:5006 THIS_MACHINE"""
_LOG = logging.getLogger("app.door")
_LONGEST_ADDRESS = 8192


def install() -> None:
    """Make Bokeh's next server in this process one with this door. Calling it again changes nothing."""
    bokeh.server.server.bind_sockets = bind_here
    setattr(bokeh.server.server, "BokehTornado", Door)  # noqa: B010 (a class: mypy refuses a plain assignment)
    for name in ("bokeh.server.protocol_handler", "bokeh.server.views.ws"):
        logging.getLogger(name).addFilter(_without_contents)  # a function is added once only
    logging.getLogger("panel.util").addFilter(_without_values)


def installed() -> bool:
    """Whether servers of this process have this door."""
    return bokeh.server.server.BokehTornado is Door


def bind_here(address: str | None, port: int) -> tuple[list[socket], int]:
    """As Bokeh's own, except that no address means this machine instead of all its networks."""
    sockets, port = bokeh.server.util.bind_sockets(address or "127.0.0.1", port)
    Door.addresses = tuple(str(each.getsockname()[0]) for each in sockets)  # what a host name or 0 stands for
    return sockets, port


def reason_to_refuse(
    addresses: Sequence[str], origins: Sequence[str], provider: AuthProvider, *, encrypted: bool, plain: bool
) -> str:
    """Why a server may not start; empty where it may.

    Args:
        addresses: IP addresses that it listens on.
        origins: allowed origins beside this machine's own.
        provider: who says who asks.
        encrypted: it speaks https.
        plain: the user says that something in front of it encrypts.
    """
    if any("*" in origin for origin in origins):
        return "an allowed origin must be a host's name, without '*'"
    wide = [address for address in addresses if not is_this_machine(address)]
    outside = [origin for origin in origins if not is_this_machine(_name(origin))]
    if not wide and not outside:
        return ""
    where = f"address {', '.join(wide)}" if wide else f"origin {', '.join(outside)}"
    if not asks_who(provider):
        return f"it would be open to others ({where}) without a login by name and hashed password, or OAuth"
    if wide and not outside:
        return f"it would be open to others ({where}) without an allowed origin (--origin NAME:PORT)"
    if wide and not encrypted and not plain:
        return (
            f"passwords would cross the network in the clear ({where}): give a certificate, "
            f"or set {PLAIN_VARIABLE}=1 (`workbench app --plain-http`) where a proxy in front encrypts"
        )
    return ""


def asks_who(provider: AuthProvider) -> bool:
    """Whether nobody comes in without having said who they are. Panel's `--basic-auth` compares passwords in plain text, and its
    optional or guest access lets strangers in: they do not count."""
    from panel.auth import BasicAuthProvider, OAuthProvider
    from panel.config import config

    if isinstance(provider, OAuthProvider):
        return not config.oauth_optional and not config.oauth_guest_endpoints
    if isinstance(provider, BasicAuthProvider | NullAuth):
        return False
    return bool(provider.get_user or provider.get_user_async)


class Door(BokehTornado):
    """Bokeh's web application, refusing before any handler sees a request.

    Raises:
        SystemExit: it would be open to others without login, origin or encryption.
    """

    addresses: ClassVar[tuple[str, ...]] = ()
    """Where this process's server listens; none for a Unix socket, which only this machine reaches."""

    def __init__(self, applications: Any, **options: Any) -> None:
        given = [origin for origin in options.get("extra_websocket_origins") or [] if origin]
        self.origins = [*given, *(settings.allowed_ws_origin() or [])]
        provider = options.get("auth_provider") or NullAuth()
        self.login = asks_who(provider)
        self.encrypted = str(options.get("absolute_url") or "").startswith("https")
        refused = reason_to_refuse(
            self.addresses, self.origins, provider, encrypted=self.encrypted, plain=os.environ.get(PLAIN_VARIABLE) == "1"
        )
        if refused:
            raise SystemExit(f"The dashboard was not started: {refused}.\n{HOW_TO}")
        if not any(options.get(f"{kind}clude_{what}") for kind in ("in", "ex") for what in ("cookies", "headers")):
            options |= {
                "exclude_cookies": ["workbench_user"],
                "exclude_headers": ["Cookie", "Authorization"],
            }  # not into the page
        super().__init__(applications, **options)

    def find_handler(self, request: HTTPServerRequest, **options: Any) -> Any:
        """The handler of a request, or one that refuses it."""
        status = self.refusal(request)
        if status:
            return self.get_handler_delegate(request, Refused, {"status": status})
        _as_panel_reads(request)
        return super().find_handler(request, **options)

    def refusal(self, request: HTTPServerRequest) -> int:
        """The HTTP status with which a request is refused; 0 where it is not."""
        address = unquote_to_bytes(request.uri or "")
        if len(request.uri or "") > _LONGEST_ADDRESS:
            return 414
        if b"\0" in address or any(byte < 32 or byte == 127 for byte in unquote_to_bytes(request.path)) or not _utf8(address):
            return 400
        host = request.headers.get("Host")
        if not host_allowed(host, self.origins):
            return 421
        if "bokeh-" in request.query.lower() or "Bokeh-Session-Id" in request.headers:
            return 400  # a session is begun by its page, never taken over or handed on by a link
        upgrade = "websocket" in request.headers.get("Upgrade", "").lower() or request.path.rstrip("/").endswith("/ws")
        if upgrade or request.method not in ("GET", "HEAD"):
            if not origin_allowed(request.headers.get("Origin"), str(host), self.origins):
                return 403
            return 400 if upgrade and not _token_whole(request) else 0
        return 404 if request.path.endswith("/autoload.js") else 0  # the dashboard is not put into other pages

    def get_handler_delegate(self, request: HTTPServerRequest, target_class: Any, *rest: Any, **named: Any) -> Any:
        """As Tornado's, with every handler guarded."""
        return super().get_handler_delegate(request, guarded(target_class), *rest, **named)


class Guarded(RequestHandler):
    """What every handler of the server has: headers, nonce, login before anything else, a log without a query."""

    application: Door

    def set_default_headers(self) -> None:
        """Headers of every answer, errors included."""
        super().set_default_headers()
        self.nonce = secrets.token_urlsafe(16)
        host = self.request.headers.get("Host", "")
        allowed = host_allowed(host, self.application.origins)
        encrypted = self.request.protocol == "https"
        for name, value in security_headers(host if allowed else "", self.nonce, encrypted=encrypted).items():
            self.set_header(name, value)

    async def prepare(self) -> None:
        """Refuse whoever is not logged in, except for pages, which lead to the login, and the login itself."""
        prepared = super().prepare()
        if prepared is not None:
            await prepared
        if self._finished or not self.application.login:
            return
        provider: Any = self.application.auth_provider
        entries = [DocHandler, RootHandler, Refused, provider.login_handler, provider.logout_handler]
        if isinstance(self, tuple(entry for entry in entries if entry is not None)):
            return
        user = provider.get_user(self) if provider.get_user else await provider.get_user_async(self)
        if user is None:
            raise HTTPError(403)

    def check_origin(self, origin: str) -> bool:
        """In place of Bokeh's list, which knows one port of this machine only."""
        return origin_allowed(origin, self.request.headers.get("Host", ""), self.application.origins)

    def write(self, chunk: Any) -> None:
        """Write a piece of the answer; scripts of our own template get this answer's nonce."""
        if isinstance(chunk, str) and PLACE_OF_NONCE in chunk:
            chunk = chunk.replace(PLACE_OF_NONCE, self.nonce)
        super().write(chunk)

    def write_error(self, status_code: int, **_: Any) -> None:
        """A plain line: an error never shows what was asked for, nor where it went wrong."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")

    def _request_summary(self) -> str:
        return f"{self.request.method} {_without_query(self.request)} ({self.request.remote_ip})"

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """As Tornado's, without the query and the headers, in which names of cases and a session's secret stand."""
        if isinstance(value, HTTPError):
            _LOG.warning("%d %s", value.status_code, self._request_summary())
        elif isinstance(value, ProtocolError):  # e.g. a page that was asleep for longer than its token lives
            _LOG.warning("%s: %s", self._request_summary(), value)
        else:
            _LOG.error("uncaught exception at %s", self._request_summary(), exc_info=(typ, value, tb))


class Refused(RequestHandler):
    """An answer to what is not let in, with any method."""

    def initialize(self, status: int) -> None:
        """Take the HTTP status to answer with."""
        self._refused_with = status

    def prepare(self) -> None:
        """Answer."""
        self.send_error(self._refused_with)

    def check_xsrf_cookie(self) -> None:
        """Nothing is done, so nothing needs a token."""


@functools.cache
def guarded(handler: Any) -> type[RequestHandler]:
    """A handler class with `Guarded` in front."""
    return type(handler.__name__, (Guarded, handler), {})


def _without_contents(record: logging.LogRecord) -> bool:
    """What a browser sent is not logged: the address, with names of cases in it, is among it."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            type(value).__name__ if isinstance(value, Message | bytes) or (isinstance(value, str) and "{" in value) else value
            for value in record.args
        )
    return True


def _without_values(record: logging.LogRecord) -> bool:
    """Panel's warning about a part of the address that it cannot parse repeats that part."""
    return "of query parameter" not in record.getMessage()


def _without_query(request: HTTPServerRequest) -> str:
    return (request.uri or "").partition("?")[0][:200]


def _as_panel_reads(request: HTTPServerRequest) -> None:
    """Write host and address so that Panel's `Location` can take them apart: it splits at every ':' of an IPv6 host, and at every
    '?' and '#' of a query, and fails. The request's arguments are known by now, and the browser sends its own address later."""
    if request.host.startswith("["):
        request.host = "localhost" + request.host.partition("]")[2]
    path, mark, query = str(request.uri).partition("?")
    request.uri = path + mark + query.replace("?", "%3F").replace("#", "%23")


def _token_whole(request: HTTPServerRequest) -> bool:
    """Whether a websocket brings what Bokeh's own page brings: two protocols, the second of which can be read as a token."""
    _, _, token = request.headers.get("Sec-WebSocket-Protocol", "").partition(",")
    try:
        return bool(get_session_id(token.strip())) and isinstance(get_token_payload(token.strip()), dict)
    except Exception:  # base64, zlib, JSON, a missing key: whatever a stranger may send
        return False


def _name(origin: str) -> str:
    """The host of an origin `name:port` or `[address]:port`."""
    return origin.rpartition("]")[0].lstrip("[") if origin.startswith("[") else origin.partition(":")[0]


def _utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
