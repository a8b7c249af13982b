"""What every answer says to the browser."""

from __future__ import annotations

from app.headers import security_headers


def policy(**options: bool) -> dict[str, list[str]]:
    headers = security_headers("lab.example:5006", "NONCE", **options)
    return {name: rest for name, *rest in (part.split() for part in headers["Content-Security-Policy"].split("; "))}


def test_nothing_but_this_host() -> None:
    found = policy()
    assert found["default-src"] == ["'none'"]
    hosts = {
        source for sources in found.values() for source in sources if "." in source or "*" in source or source.startswith("http")
    }
    assert hosts == {"ws://lab.example:5006", "wss://lab.example:5006"}


def test_a_smuggled_script_does_not_run() -> None:
    assert "'unsafe-inline'" not in policy()["script-src"]
    assert "data:" not in policy()["script-src"]
    assert "'nonce-NONCE'" in policy()["script-src"]


def test_no_framing_no_base_no_foreign_form() -> None:
    found = policy()
    assert [found[name] for name in ("frame-ancestors", "base-uri", "object-src", "frame-src", "form-action")] == [
        *[["'none'"]] * 4, ["'self'"],
    ]  # fmt: skip


def test_a_refused_host_stands_nowhere() -> None:
    assert "ws:" not in security_headers("", "NONCE")["Content-Security-Policy"]


def test_https_stays_https() -> None:
    assert "Strict-Transport-Security" not in security_headers("h", "n")
    assert "Strict-Transport-Security" in security_headers("h", "n", encrypted=True)
