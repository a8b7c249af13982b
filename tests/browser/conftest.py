"""A Chromium, the app served for real, and a page that notes every request it makes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
START_SECONDS = 90


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, or a skip that says why."""
    if CHROMIUM is None:
        pytest.skip("no Chromium found on the PATH: the browser tests need one")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Server:
    """`panel serve app`, running."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def errors(self) -> str:
        """What went wrong in our code: a crash still answers HTTP 200. What Bokeh says of a page closed half-way is left out."""
        ours = (f"{ROOT}/app/", f"{ROOT}/workbench/", "Error running application handler", "cannot be built")
        return "\n".join(line for line in self.log.read_text().splitlines() if any(word in line for word in ours))


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Function that serves the app: `serve(runs, *options, port=0, **environment) -> Server`. All end with the session."""
    started: list[subprocess.Popen[bytes]] = []

    def start(runs: Path, *options: str, port: int = 0, **environment: str) -> Server:
        if not port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
        log = tmp_path_factory.mktemp("serve") / "log"
        command = [sys.executable, "-m", "panel", "serve", "app", "--address", "127.0.0.1", "--port", str(port), *options]
        command += ["--allow-websocket-origin", f"127.0.0.1:{port}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"WORKBENCH_RUNS": str(runs), "OMP_NUM_THREADS": "1"} | environment,
            )  # fmt: skip
        started.append(process)
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the server did not start in {START_SECONDS} s:\n{log.read_text()}"
            time.sleep(0.2)
        return Server(f"http://127.0.0.1:{port}/app", process, log)

    yield start
    for process in started:
        with suppress(ProcessLookupError):  # a test has ended it
            os.killpg(process.pid, signal.SIGKILL)  # the workers of --num-procs outlive their parent otherwise
        process.wait()


def answers(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Visit:
    """A browser page, everything it asked for and everything it complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, url: str, ready: str) -> Any:
        """Go to `url` and wait for the element `ready`."""
        self.page.goto(url, timeout=120_000)
        self.page.wait_for_selector(ready, timeout=120_000)
        return self.page

    @property
    def faults(self) -> list[str]:
        """What the page complained about, without Tabulator's late resize callback (Panel 1.9.4 drops a table it rebuilds while
        the old one's observer is still due; the table that is shown is the new one, and whole)."""
        return [text for text in self.complaints if "verticalFillMode" not in text]

    def strangers(self, url: str) -> list[str]:
        """Requests that went anywhere else than to the host of `url`."""
        home = urlparse(url).netloc
        return [r for r in self.requests if urlparse(r).scheme not in ("data", "blob") and urlparse(r).netloc != home]


@pytest.fixture
def visit(chromium: Any) -> Iterator[Visit]:
    """A fresh page of 1440 x 900; outside requests are noted, not blocked."""
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(60_000)
    result = Visit(page)
    page.on("request", lambda request: result.requests.append(request.url))
    page.on("websocket", lambda websocket: result.requests.append(websocket.url))
    page.on("pageerror", lambda error: result.complaints.append(error.stack or str(error)))
    page.on("console", lambda message: result.complaints.append(message.text) if message.type == "error" else None)
    yield result
    page.close()


@pytest.fixture(scope="session")
def app(serve: Callable[..., Server], runs_folder: Path, chromium: Any) -> Server:
    """The app over the fabricated runs, its modules already imported."""
    server = serve(runs_folder)
    urlopen(server.url, timeout=120).read()
    return server
