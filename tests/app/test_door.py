"""Where the server listens, who may ask, what every answer carries, what the log keeps."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import bokeh.server.server
import pytest
from bokeh.server.auth_provider import AuthModule, NullAuth
from panel.auth import BasicAuthProvider
from panel.io.location import Location
from panel.io.state import set_curdoc
from panel.util import parse_query
from served import Served, serving

from app import door
from app.headers import PLACE_OF_NONCE
from app.login import __file__ as login_module

HEADERS = [
    "Content-Security-Policy",
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
    "Referrer-Policy",
    "Cross-Origin-Opener-Policy: same-origin",
    "Cross-Origin-Resource-Policy: same-origin",
    "Permissions-Policy",
]


@pytest.fixture(autouse=True)
def put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door, for one test."""
    for name in ("bind_sockets", "BokehTornado"):
        monkeypatch.setattr(bokeh.server.server, name, getattr(bokeh.server.server, name))
    monkeypatch.setattr(door.Door, "addresses", ())
    door.install()


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


def token(served: Served) -> str:
    """The token of a page, as its browser would send it."""
    return re.search(r'"token":"([^"]+)"', served.ask("/app")[1]).group(1)  # type: ignore[union-attr]


@pytest.mark.parametrize("address", [None, ""])
def test_without_an_address_only_this_machine_is_answered(address: str | None) -> None:
    sockets, _ = door.bind_here(address, 0)
    try:
        assert {each.getsockname()[0] for each in sockets} == {"127.0.0.1"}
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_open_to_all_without_a_login_does_not_start(address: str) -> None:
    with pytest.raises(SystemExit) as refused, serving(address=address):
        pass
    assert "without a login" in str(refused.value)
    assert "workbench app --add-user NAME" in str(refused.value)


@pytest.mark.parametrize("origin", ["lab.example:5006", "*", "10.0.0.1:5006", "*:5006"])
def test_an_origin_elsewhere_without_a_login_does_not_start(origin: str) -> None:
    with pytest.raises(SystemExit, match=r"login|\*"), serving(allow_websocket_origin=[origin]):
        pass


def test_an_origin_in_the_environment_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOKEH_ALLOW_WS_ORIGIN", "lab.example:5006")
    with pytest.raises(SystemExit, match="login"), serving():
        pass


def test_what_counts_as_a_login() -> None:
    assert not door.asks_who(NullAuth())
    assert not door.asks_who(BasicAuthProvider()), "plain text passwords"
    assert door.asks_who(AuthModule(login_module))


WIDE, LOGIN = ["0.0.0.0"], AuthModule(login_module)


@pytest.mark.parametrize(
    ("addresses", "origins", "encrypted", "plain", "reason"),
    [
        (WIDE, [], True, False, "allowed origin"),
        (WIDE, ["localhost:5006"], True, False, "allowed origin"),
        (WIDE, ["lab.example:5006"], False, False, "in the clear"),
        (WIDE, ["lab.example:5006"], True, False, ""),
        (WIDE, ["lab.example:5006"], False, True, ""),
        (["127.0.0.1", "::"], ["lab.example:5006"], False, False, "in the clear"),
        (["127.0.0.1"], ["lab.example"], False, False, ""),
        (["127.0.0.1", "::1"], ["127.0.0.1:5006", "localhost:1", "[::1]:7"], False, False, ""),
        ([], ["*.example"], True, False, "'*'"),
    ],
)
def test_reason_to_refuse(addresses: list[str], origins: list[str], encrypted: bool, plain: bool, reason: str) -> None:
    found = door.reason_to_refuse(addresses, origins, LOGIN, encrypted=encrypted, plain=plain)
    assert reason in found
    assert bool(found) == bool(reason)


def test_every_answer_carries_the_headers(served: Served) -> None:
    origin = f"http://{served.host}"
    answers = [
        served.ask(target) for target in ("/", "/app", "/app/metadata", "/static/js/bokeh.min.js", "/nothing", "/%00", "/app/ws")
    ]
    answers += [
        served.ask("/app", host="evil.example"),
        served.ask("/app", method="POST", Origin=origin),
        served.ask("/app", method="PUT"),
    ]
    assert [status for status, _ in answers] == [302, 200, 200, 200, 404, 400, 403, 421, 405, 403]
    for _, answer in answers:
        assert not [header for header in HEADERS if header not in answer.partition("\r\n\r\n")[0]]


def test_a_host_that_is_not_ours_is_refused_for_pages_too(served: Served) -> None:
    """DNS rebinding: a foreign page makes its own name point here."""
    for host in ("evil.example", f"evil.example:{served.port}", "127.0.0.1.evil.example", ""):
        for target in ("/app", "/", "/static/js/bokeh.min.js", "/app/metadata", "/nothing"):
            assert served.ask(target, host=host)[0] == 421, (host, target)
    assert served.raw(b"GET /app HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 421")
    for host in (f"localhost:{served.port}", f"[::1]:{served.port}", "127.0.0.1:8000"):
        assert served.ask("/app", host=host)[0] == 200, host


def test_a_websocket_without_the_origin_of_its_host_gets_no_session(served: Served) -> None:
    good = token(served)
    assert served.socket(good) == 403
    for origin in ("null", "http://evil.example", f"http://127.0.0.1:{served.port + 1}"):
        assert served.socket(good, Origin=origin) == 403, origin
    assert served.socket(good, Origin="http://evil.example", Host="evil.example") == 421
    assert served.socket(good, Origin=f"http://{served.host}") == 101
    for local in (f"localhost:{served.port}", "localhost:8000", f"[::1]:{served.port}"):  # 8000: the other end of an ssh tunnel
        assert served.socket(good, Origin=f"http://{local}", Host=local) == 101


@pytest.mark.parametrize("bad", ["", "x", "e30", "e30.e30", "....", "eyJhIjoxfQ", "\x7f"])
def test_a_websocket_with_a_token_that_is_none(served: Served, bad: str) -> None:
    assert served.socket(bad, Origin=f"http://{served.host}") == 400


def test_a_session_is_not_taken_over_by_a_link(served: Served) -> None:
    for query in (
        "bokeh-session-id=x",
        "bokeh-token=x",
        f"bokeh-token={token(served)}",
        "a=1&bokeh-absolute-url=http://evil.example",
    ):
        assert served.ask(f"/app?{query}")[0] == 400, query
    assert served.ask("/app", Bokeh_Session_Id="x")[0] == 400
    assert served.ask("/app/autoload.js?x=1")[0] == 404


def test_what_is_sent_needs_an_origin(served: Served) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert served.ask("/app", method=method)[0] == 403
        assert served.ask("/app", method=method, Origin="http://evil.example")[0] == 403


ODD = [
    "/%00", "/app%00", "/app?page=%00", "/app/static/%00", "/static/%00", "/static/js/%00.js",
    "/static/extensions/panel/%00", "/app/static/../main.py", "/app/static/..%2fmain.py", "/app/static/%2e%2e/main.py",
    "/app/static/..\\main.py", "/app/static/..%5cx", "//app", "//evil.example/app", "/app//", "/app/../../etc/passwd",
    "/static/../../../etc/passwd", "/static//etc/passwd", "/static/%2fetc/passwd", "/%", "/%zz", "/app?%",
    "/app?page=%zz", "/app?page=%ff%fe", "/app/%ff", "/static/%ff", "/app?t=%C3%28", "/app?page=a&page=b", "/app?=&&==",
    "/static/", "/static/js", "/static/js/", "/app/static", "/favicon.ico", "/login", "/admin", "/?next=//evil.example",
    "/static/js/%0d%0aX-Evil:%201", "/app%0a", "/app%7f", "/app;x", "/app#x", "/APP", "/ap%70", "*",
    "http://evil.example/app", "evil.example:80", "/static/%E2%80%AE", "/static/js/" + "%2e%2e/" * 300 + "etc/passwd",
    "/" + "a" * 5000, "/static/" + "a/" * 2000, "/static/" + "a" * 300, "/app?x=" + "a" * 9000, "/app?x=" + "a" * 70000,
]  # fmt: skip


@pytest.mark.parametrize("target", ODD, ids=lambda target: target[:40])
def test_an_odd_address_is_answered(served: Served, target: str, caplog: pytest.LogCaptureFixture) -> None:
    status, answer = served.ask(target)
    assert status < 500
    assert status == 400 or "%00" not in target
    assert status or len(target) > 65536, "closed without an answer"
    assert "root:" not in answer
    assert "Traceback" not in answer + caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_panel_can_take_every_address_apart(caplog: pytest.LogCaptureFixture) -> None:
    found: list[tuple[str, str, str]] = []

    def page(document: Any) -> None:
        with set_curdoc(document):
            location = Location.from_request(document.session_context.request)
        found.append((location.hostname, location.port, location.search))

    with serving(page=page) as served:
        for host in ("[::1]:5006", "[::1]", "[::ffff:127.0.0.1]:7", "localhost", "127.0.0.1:5006"):
            assert served.ask("/app?case=a", host=host)[0] == 200
        assert found == [("localhost", "5006", "?case=a"), ("localhost", "", "?case=a"), ("localhost", "7", "?case=a"),
                         ("localhost", "", "?case=a"), ("127.0.0.1", "5006", "?case=a")]  # fmt: skip
        for query in ("a=b?c=d", "??", "a=b#c", "a=?#?#", "?#"):
            assert served.ask(f"/app?{query}")[0] == 200
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


def test_an_odd_head_is_answered(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    heads = [
        "Host: [::1]:1", "Host: [::1", "Host: a b", "Host: \xff", "Host: x\r\nHost: y",
        "Host: 127.0.0.1\r\nCookie: =; \xff; a=b; ;",
        "Host: localhost\r\nRange: bytes=9-1", "Host: localhost\r\nCookie: " + "x" * 9000,
        "Host: localhost\r\nAccept: \x01",
    ]  # fmt: skip
    for head in heads:
        answer = served.raw(f"GET /app HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n".encode("latin1"))
        assert answer[9:12] in (b"200", b"400", b"421"), head
    for raw in (b"\r\n\r\n", b"GET\r\n\r\n", b"GET /app\r\n\r\n", b"GET /app HTTP/9.9\r\nHost: localhost\r\n\r\n"):
        assert served.raw(raw)[9:12] in (b"400", b""), raw
    assert not [record for record in caplog.records if record.exc_info]


def test_the_log_keeps_no_query(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Any) -> None:
        raise ValueError("broken")

    caplog.set_level(logging.INFO)
    with serving(page=broken) as served:
        for target in (
            "/app?case=Smith-1980",
            "/nothing?case=Smith-1980",
            "/app?bokeh-token=Smith-1980",
            "/static/x?case=Smith-1980",
        ):
            served.ask(target, Referer="http://localhost/app?case=Smith-1980", Cookie="case=Smith-1980")
        served.ask("/app?case=Smith-1980", host="evil.example")
    assert "/nothing" in caplog.text, "nothing was logged at all"
    assert "Smith" not in caplog.text


def test_what_a_browser_sent_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("bokeh.server.protocol_handler", "bokeh.server.views.ws"):
        logging.getLogger(name).error("error handling message %r: %r", b'{"search": "?case=Smith"}', ValueError("why"))
        logging.getLogger(name).error("error in %r", '{"search": "?case=Smith"}')
    assert "why" in caplog.text
    assert "Smith" not in caplog.text


def test_panel_repeats_no_part_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("panel"), "handlers", [handler := logging.Handler()])
    monkeypatch.setattr(handler, "emit", lambda record: said.append(record.getMessage()))
    parse_query("?case=[Smith")
    logging.getLogger("panel.util").warning("another warning")
    assert said == ["another warning"]


def test_an_error_shows_neither_traceback_nor_folder(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("/secret/folder")

    monkeypatch.setattr("bokeh.server.views.metadata_handler.json.dumps", fail)
    status, answer = served.ask("/app/metadata")
    assert status == 500
    assert "secret" not in answer
    assert "text/plain" in answer


def test_our_scripts_get_a_nonce_of_their_answer(served: Served) -> None:
    first, second = (re.search("'nonce-([^']+)'", served.ask("/app")[1]).group(1) for _ in range(2))  # type: ignore[union-attr]
    assert first != second


def test_the_place_of_the_nonce_never_leaves() -> None:
    with serving(page=lambda document: setattr(document, "title", f"[{PLACE_OF_NONCE}]")) as served:
        answer = served.ask("/app")[1]
    nonce = re.search("'nonce-([^']+)'", answer).group(1)  # type: ignore[union-attr]
    assert f"[{nonce}]" in answer
    assert PLACE_OF_NONCE not in answer


def test_strangers_come_to_the_login_and_nowhere_else() -> None:
    with serving(auth_provider=AuthModule(login_module), cookie_secret="s") as served:
        status, answer = served.ask("/app?case=x")
        assert (status, "Location: /login?next=" in answer or "Location: ./login?next=" in answer) == (302, True)
        for target in ("/app/metadata", "/static/js/bokeh.min.js", "/nothing"):
            assert served.ask(target)[0] in (403, 404), target
        assert "inside" not in answer
        assert served.socket("x", Origin=f"http://{served.host}") in (400, 403)
        assert served.ask("/login")[0] == 200


def test_a_unix_socket_is_this_machine() -> None:
    assert door.reason_to_refuse((), [], NullAuth(), encrypted=False, plain=False) == ""
