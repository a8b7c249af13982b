"""Many sessions, long sessions and lost connections: nothing is said in the log, nothing is kept, the view comes back."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from app.state import PAGES

pytestmark = pytest.mark.browser
WATCHED = (
    "--log-level", "debug", "--stats-log-frequency", "500", "--mem-log-frequency", "500",
    "--unused-session-lifetime", "500", "--check-unused-sessions", "500",
)  # fmt: skip
"""Bokeh counts its sessions in the log; closed ones go at once."""
VIEW = "?page=curves&split=validation&threshold=0.3"


@pytest.mark.slow
def test_a_server_that_was_started_again_shows_the_same_view(serve: Callable[..., Any], visit: Any, runs_folder: Path) -> None:
    first = serve(runs_folder)
    port = int(first.url.split(":")[2].split("/")[0])
    page = visit.open(first.url + VIEW, ".bk-Figure")
    assert not page.locator("#wb-lost").is_visible()
    page.evaluate("window.before = true")
    address = page.evaluate("location.search")
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait()
    page.wait_for_selector("#wb-lost", state="visible")
    second = serve(runs_folder, port=port)
    page.wait_for_function("window.before === undefined")
    page.wait_for_selector(".bk-Figure")
    assert page.evaluate("location.search") == address
    assert not page.locator("#wb-lost").is_visible()
    assert page.locator("select").nth(1).input_value() == "validation"
    assert second.errors() == ""


async def open_session(url: str, page: str) -> WebSocketClientConnection:
    """A session as a browser opens one, without the browser."""
    answer = await AsyncHTTPClient().fetch(f"{url}?page={page}", request_timeout=60)
    found = re.search(r'"token":"([^"]+)"', answer.body.decode())
    assert found, "the page carries no session"
    host = url.split("/")[2]
    request = HTTPRequest(f"ws://{host}/app/ws", headers={"Origin": f"http://{host}"})
    connection = await websocket_connect(request, subprotocols=["bokeh", found[1]])
    assert await connection.read_message() is not None
    return connection


async def open_and_close(url: str, count: int) -> None:
    for page in (list(PAGES) * count)[:count]:
        (await open_session(url, page)).close()


async def hold(url: str, count: int, seconds: float) -> None:
    """Sessions at the same time, all there for `seconds`."""
    connections = [await open_session(url, page) for page in (list(PAGES) * count)[:count]]
    await asyncio.sleep(seconds)
    for connection in connections:
        connection.close()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """In a thread of its own: where a browser was opened before, this one has a running loop."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, coroutine).result()


def wait_for_last(server: Any, pattern: str, wanted: str, seconds: float = 30) -> None:
    """Until the newest of the figures that the server logs is the one that is wanted."""
    start = len(server.log.read_text())
    deadline = time.monotonic() + seconds
    while (found := re.findall(pattern, server.log.read_text()[start:])[-1:]) != [wanted]:
        assert time.monotonic() < deadline, f"{pattern}: {found}, not {wanted}"
        time.sleep(0.2)


@pytest.mark.slow
def test_sessions_that_are_closed_are_freed(serve: Callable[..., Any], runs_folder: Path) -> None:
    """Held at the same time and one after the other: none is left; of 20 documents, only the last may await the collector."""
    server = serve(runs_folder, *WATCHED)
    kept = []
    for _ in range(2):
        run(hold(server.url, 5, 6))  # longer than the pages' timers
        run(open_and_close(server.url, 5))
        wait_for_last(server, r"/app has (\d+) sessions", "0")
        time.sleep(1.5)
        kept.append(int(re.findall(r"uncollected Documents: (\d+)", server.log.read_text())[-1]))
    server.process.kill()  # counting twice a second costs nearly half a core, until the last test
    assert kept[1] < 16, f"{kept} documents after 10 and 20 sessions"
    assert "Traceback" not in server.log.read_text()
    assert not re.findall(r"\bERROR\b", server.log.read_text())
