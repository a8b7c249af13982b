"""A Bokeh server behind the door, in a thread of the test, and requests that no well-behaved client sends."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bokeh.server.server
from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.models import Div


class Served:
    """Answers of a server, as bytes.

    Args:
        port: where it listens on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def raw(self, request: bytes, *, head_only: bool = False) -> bytes:
        """What comes back for these bytes, until the server closes; a server that hangs is an error."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            answer = b""
            while part := connection.recv(65536):
                answer += part
                if head_only and b"\r\n\r\n" in answer:
                    break
        return answer

    def ask(
        self, target: str, *, method: str = "GET", host: str | None = None, body: str = "", **headers: str
    ) -> tuple[int, str]:
        """Status (0: closed without an answer) and the whole answer."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host if host is None else host}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if method not in ("GET", "HEAD"):
            lines += [f"Content-Length: {len(body)}", "Content-Type: application/x-www-form-urlencoded"]
        answer = self.raw(("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin1")).decode("latin1")
        return int(answer.split(" ", 2)[1]) if answer else 0, answer

    def socket(self, token: str, **headers: str) -> int:
        """Status of an attempt to open a websocket."""
        lines = [
            "GET /app/ws HTTP/1.1", f"Host: {headers.pop('Host', self.host)}", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Sec-WebSocket-Protocol: bokeh, {token}",
        ]  # fmt: skip
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return int(self.raw(("\r\n".join(lines) + "\r\n\r\n").encode(), head_only=True).split(b" ", 2)[1])


def _page(document: Any) -> None:
    document.add_root(Div(text="inside"))


@contextmanager
def serving(page: Any = _page, **options: Any) -> Iterator[Served]:
    """Serve one page at /app as Bokeh does, until the block ends."""
    started, found = threading.Event(), {}

    def run() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        try:
            server = bokeh.server.server.Server({"/app": Application(FunctionHandler(page))}, port=0, **options)
            server.start()
            found["server"] = server
        except BaseException as error:
            found["error"] = error
        started.set()
        if "server" in found:
            found["server"].io_loop.start()
            found["server"].io_loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(30)
    if "error" in found:
        raise found["error"]
    server = found["server"]
    try:
        yield Served(server.port)
    finally:
        server.io_loop.add_callback(server.unlisten)
        server.io_loop.add_callback(server.io_loop.stop)
        thread.join(10)
