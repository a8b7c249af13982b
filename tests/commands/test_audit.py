"""`workbench doctor --audit`: known vulnerabilities where a source can be asked; never "none" where it was not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.commands import audit as module
from workbench.commands.audit import audit, installed
from workbench.errors import ParameterError

HOLE = {"id": "GHSA-1", "summary": "a\x1b[2Jhole", "fixed_in": ["2.0"], "withdrawn": None}
ANSWERS: dict[str, tuple[int, bytes]] = {
    "/pypi/safe/1.0/json": (200, json.dumps({"vulnerabilities": []}).encode()),
    "/pypi/holed/1.0/json": (200, json.dumps({"vulnerabilities": [HOLE, HOLE | {"withdrawn": "2020"}]}).encode()),
    "/pypi/page/1.0/json": (200, b"<html>please log in</html>"),
    "/pypi/mirror/1.0/json": (200, b'{"info": {}}'),
    "/pypi/broken/1.0/json": (503, b""),
}


class _Source(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, content = ANSWERS.get(self.path, (404, b""))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def source() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Source)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/pypi"
    server.shutdown()
    server.server_close()


def _command(monkeypatch: pytest.MonkeyPatch, source: str, *names: str) -> tuple[int, str]:
    monkeypatch.setattr(module, "installed", lambda: [(name, "1.0") for name in names])
    done = CliRunner().invoke(app, ["doctor", "--audit", "--advisories", source])
    return done.exit_code, done.stdout


def test_a_known_vulnerability_is_named_and_a_withdrawn_one_is_not(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = _command(monkeypatch, source, "holed", "safe")
    assert code == 1
    assert "\x1b" not in text
    assert "holed==1.0: GHSA-1 a" in text
    assert "hole -> fixed in 2.0" in text
    assert "2 of 2 packages checked" in text
    assert ": 1 known vulnerabilities" in text


def test_none_is_said_only_where_all_was_checked(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _command(monkeypatch, source, "safe")[0] == 0
    code, text = _command(monkeypatch, source, "safe", "unheard-of")
    assert code == 3
    assert "not checked: unheard-of==1.0" in text
    code, text = _command(monkeypatch, source, "unheard-of")
    assert code == 3
    assert "knows none of the 1 packages: nothing was checked" in text


def test_a_source_that_cannot_be_reached_checked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound but not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        code, text = _command(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}", "safe", "holed")
    assert code == 3
    assert "no advisory source could be reached: nothing was checked" in text
    assert "vulnerabilities" not in text


@pytest.mark.parametrize("name", ["page", "mirror", "broken"])
def test_an_answer_without_advisories_checks_nothing_from_there_on(name: str, source: str) -> None:
    found = audit(source, [("safe", "1.0"), (name, "1.0"), ("holed", "1.0")])
    assert found.checked == ["safe==1.0"]
    assert found.unchecked == [f"{name}==1.0", "holed==1.0"]
    assert found.problem
    assert found.exit_code == 3


def test_a_source_that_is_no_web_address_is_refused() -> None:
    with pytest.raises(ParameterError, match="no http or https address"):
        audit("file:///etc", [])


def test_installed_packages_have_public_versions_and_leave_this_one_out() -> None:
    found = dict(installed())
    assert "pytest" in found
    assert not [version for version in found.values() if "+" in version]
    assert "brain-mri-workbench" not in found
