"""The frame around the pages."""

from __future__ import annotations

import pytest

from app.shell import Shell
from app.state import PAGES, AppState, Page
from app.store import Store


def test_shell_builds_pages_once_and_survives_a_broken_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    state = AppState()
    shell = Shell(state, store)
    first = shell.page("overview")
    state.page = "curves"
    assert shell.body[0] is shell.page("curves").layout
    assert shell.nav.value == "curves"
    state.page = "overview"
    assert shell.page("overview") is first
    assert shell.body[0] is first.layout
    monkeypatch.setitem(PAGES, "cases", Page("Cases", "app.nowhere:Page"))
    state.page = "cases"
    assert "cannot be shown" in shell.body[0].object
    state.message = "stale"
    assert shell.message.visible
