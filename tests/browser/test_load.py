"""Many sessions, long sessions and lost connections: nothing is said in the log, nothing is kept, the view comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
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
