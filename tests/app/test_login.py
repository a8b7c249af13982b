"""The login: who gets in, for how long, and where it leads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import bokeh.server.server
import pytest
from bokeh.server.auth_provider import AuthModule
from bokeh.util.token import get_token_payload
from served import Served, serving

from app import door, login
from workbench.records.users import add_user


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "users.json"
    add_user(path, "ada", "correct horse")
    monkeypatch.setenv("WORKBENCH_USERS", str(path))
    return path


@pytest.fixture
def served(users: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in ("bind_sockets", "BokehTornado"):
        monkeypatch.setattr(bokeh.server.server, name, getattr(bokeh.server.server, name))
    monkeypatch.setattr(door.Door, "addresses", ())
    door.install()
    with serving(auth_provider=AuthModule(login.__file__), cookie_secret="secret of a test") as found:
        yield found


def enter(
    served: Served, body: str = "name=ada&password=correct+horse", target: str = "/login", **headers: str
) -> tuple[int, str]:
    return served.ask(target, method="POST", body=body, Origin=f"http://{served.host}", **headers)


def cookie(answer: str) -> str:
    return re.search(r"Set-Cookie: (workbench_user=[^;]+);", answer).group(1)  # type: ignore[union-attr]


def test_who_knows_the_password_gets_in(served: Served) -> None:
    assert served.ask("/app")[0] == 302
    status, answer = enter(served, target="/login?next=%2Fapp%3Fpage%3Dcases")
    assert status == 302
    assert "Location: /app?page=cases\r\n" in answer
    assert "HttpOnly" in answer
    assert "SameSite=Lax" in answer
    assert served.ask("/app", Cookie=cookie(answer))[0] == 200
    assert served.ask("/static/js/bokeh.min.js", Cookie=cookie(answer))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        "",
        "name=ada",
        "name=ada&password=wrong+horse",
        "name=eve&password=correct+horse",
        "name=&password=",
        "name=ada%00&password=x",
    ],
)
def test_who_does_not_stays_out(served: Served, body: str) -> None:
    status, answer = enter(served, body)
    assert status == 403
    assert "Set-Cookie" not in answer
    assert "do not fit" in answer


def test_a_password_without_end_is_not_even_hashed(served: Served) -> None:
    assert enter(served, f"name=ada&password={'x' * 5000}")[0] == 429


def test_a_form_of_another_site_is_refused(served: Served) -> None:
    assert served.ask("/login", method="POST", body="name=ada&password=correct+horse", Origin="http://evil.example")[0] == 403
    assert served.ask("/login", method="POST", body="name=ada&password=correct+horse")[0] == 403


def test_a_cookie_that_we_did_not_sign_is_none(served: Served) -> None:
    good = cookie(enter(served)[1])
    assert served.ask("/app", Cookie=good[:-2] + "00")[0] == 302
    assert served.ask("/app", Cookie="workbench_user=ada")[0] == 302


def test_a_new_password_and_a_removed_user_end_the_session(served: Served, users: Path) -> None:
    inside = cookie(enter(served)[1])
    add_user(users, "ada", "another horse")
    assert served.ask("/app", Cookie=inside)[0] == 302
    inside = cookie(enter(served, "name=ada&password=another+horse")[1])
    assert served.ask("/app", Cookie=inside)[0] == 200
    users.unlink()
    assert served.ask("/app", Cookie=inside)[0] == 302


def test_a_file_of_users_that_others_may_write_lets_nobody_in(served: Served, users: Path) -> None:
    inside = cookie(enter(served)[1])
    users.chmod(0o666)
    assert served.ask("/app", Cookie=inside)[0] == 302
    assert enter(served)[0] == 403


def test_the_session_s_secret_is_not_in_the_page(served: Served) -> None:
    inside = cookie(enter(served)[1])
    page = served.ask("/app", Cookie=inside)[1]
    token = re.search(r'"token":"([^"]+)"', page).group(1)  # type: ignore[union-attr]
    payload = get_token_payload(token)
    assert "Host" in payload["headers"]
    assert "workbench_user" not in str(payload)


def test_a_websocket_needs_the_login_too(served: Served) -> None:
    inside = cookie(enter(served)[1])
    page = served.ask("/app", Cookie=inside)[1]
    token = re.search(r'"token":"([^"]+)"', page).group(1)  # type: ignore[union-attr]
    assert served.socket(token, Origin=f"http://{served.host}") == 403
    assert served.socket(token, Origin=f"http://{served.host}", Cookie=inside) == 101


def test_leaving_clears_the_cookie(served: Served) -> None:
    status, answer = served.ask("/logout", Cookie=cookie(enter(served)[1]))
    assert status == 302
    assert 'workbench_user=""' in answer


def test_a_link_to_the_login_leads_to_no_other_site(served: Served) -> None:
    status, answer = enter(served, target="/login?next=//evil.example/app")
    assert status == 302
    assert "Location: ./\r\n" in answer


@pytest.mark.parametrize("wanted", ["/app", "/app?page=cases&case=a%20b"])
def test_back_to_the_page(wanted: str) -> None:
    assert login.own_page(wanted) == wanted


@pytest.mark.parametrize(
    "wanted",
    ["", "//evil.example", "http://evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
     "/a\r\nX: 1", "///evil", "/ a",
     "http://[::1", "/\t/evil.example"],
)  # fmt: skip
def test_never_to_another_site(wanted: str) -> None:
    assert login.own_page(wanted) == "./"
