"""The login of the dashboard, as Bokeh's `--auth-module` takes it: names and hashed passwords of `workbench app --add-user`.

Panel's own `--basic-auth` compares passwords in plain text, so it is not used.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado.escape import xhtml_escape
from tornado.web import RequestHandler

from workbench.errors import WorkbenchError
from workbench.records.users import password_fits, read_users, users_file

login_url = "/login"
logout_url = "/logout"
COOKIE = "workbench_user"
DAYS = 1
_WAITING_AT_MOST = 16
_PAGE = (Path(__file__).parent / "login.html").read_text(encoding="utf-8")
_LOG = logging.getLogger("app.login")
_waiting: list[str] = []
_turn: dict[Any, asyncio.Lock] = {}


def get_user(handler: RequestHandler) -> str | None:
    """Who asks, by the signed cookie; None where nobody is logged in, or the user is gone or has a new password since."""
    value = handler.get_signed_cookie(COOKIE, max_age_days=DAYS)
    name, _, mark = (value or b"").decode("utf-8", "replace").partition("\n")
    return name if name and mark == _mark(_users().get(name, "")) else None


class LoginHandler(RequestHandler):
    """The page that asks for name and password."""

    def get(self) -> None:
        """Show the form."""
        self._show("")

    async def post(self) -> None:
        """Let in whoever knows the password; one is checked after the other, so that nobody tries many at once."""
        name, password = self.get_body_argument("name", ""), self.get_body_argument("password", "", strip=False)
        if len(_waiting) >= _WAITING_AT_MOST or len(password) > 1024:
            self.set_status(429)
            return self._show("Too many are trying to log in. Please try again in a minute.")
        loop = asyncio.get_running_loop()
        _waiting.append(name)
        try:
            async with _turn.setdefault(loop, asyncio.Lock()):
                users = _users()
                right = await loop.run_in_executor(None, password_fits, users, name, password)
        finally:
            _waiting.pop()
        if not right:
            _LOG.warning("a login from %s was refused", self.request.remote_ip)
            self.set_status(403)
            return self._show("This name and password do not fit.")
        secure = self.request.protocol == "https"
        value = f"{name}\n{_mark(users[name])}"
        self.set_signed_cookie(COOKIE, value, expires_days=DAYS, httponly=True, samesite="Lax", secure=secure)
        return self.redirect(own_page(self.get_query_argument("next", "")))

    def _show(self, said: str) -> None:
        self.set_header("Referrer-Policy", "same-origin")  # without it the browser hides the form's origin from us
        self.set_header("Cache-Control", "no-store")
        self.write(_PAGE.replace("{{ said }}", xhtml_escape(said)))


class LogoutHandler(RequestHandler):
    """Forget who was logged in."""

    def get(self) -> None:
        """Clear the cookie and lead back to the login."""
        self.clear_cookie(COOKIE)
        self.redirect("./login")


def own_page(wanted: str) -> str:
    """Where to go after the login: a page of this server, whatever the link said."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "./"
    bad = parts.scheme or parts.netloc or not wanted.startswith("/") or wanted.startswith("//") or "\\" in wanted
    return "./" if bad or any(ord(letter) < 33 for letter in wanted) else wanted


def _users() -> dict[str, str]:
    try:
        return read_users(users_file())
    except WorkbenchError as error:
        _LOG.error("nobody can log in: %s", error)
        return {}


def _mark(hashed: str) -> str:
    """Changes with the password; '' of nobody fits nothing, as a cookie's mark is never empty."""
    return hashlib.sha256(hashed.encode()).hexdigest()[:16] if hashed else "\0"
