"""The door in a real browser: what is smuggled in does not run, nothing leaves, and the login works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.records.users import add_user

pytestmark = pytest.mark.browser
SMUGGLED = """async () => {
  window.ran = [];
  const holder = document.createElement("div");
  document.body.append(holder);
  holder.innerHTML = `<img src="data:," onerror="window.ran.push('attribute')"><svg onload="window.ran.push('svg')"></svg>
    <iframe srcdoc="<script>parent.ran.push('frame')<\\/script>"></iframe>
    <a id="link" href="javascript:window.ran.push('link')">x</a>`;
  const script = document.createElement("script");
  script.textContent = "window.ran.push('script')";
  document.body.append(script);
  document.getElementById("link").click();
  const elsewhere = ["http://localhost:9/x", "https://evil.example/x"].map((url) => fetch(url).then(() => url, () => null));
  new Image().src = "http://localhost:9/pixel";
  const arrived = (await Promise.all(elsewhere)).filter((url) => url !== null);
  await new Promise((resolve) => setTimeout(resolve, 300));
  return [...window.ran, ...arrived];
}"""


def test_what_is_smuggled_into_the_page_does_not_run(app: Any, visit: Any) -> None:
    page = visit.open(app.url, ".wb-nav")
    assert page.evaluate(SMUGGLED) == []
    complained = " ".join(visit.complaints)
    assert [rule for rule in ("script-src", "connect-src", "img-src") if rule not in complained] == []


@pytest.mark.slow
def test_login_in_a_browser(serve: Callable[..., Any], visit: Any, runs_folder: Path, tmp_path: Path) -> None:
    add_user(tmp_path / "users.json", "ada", "correct horse")
    options = ("--auth-module", "app/login.py", "--cookie-secret", "secret of a test")
    server = serve(runs_folder, *options, WORKBENCH_USERS=str(tmp_path / "users.json"))
    page = visit.open(f"{server.url}?page=curves", "input[name=password]")
    page.fill("input[name=name]", "ada")
    page.fill("input[name=password]", "wrong horse")
    page.click("button")
    page.wait_for_selector("p[role=alert]:has-text('do not fit')")
    page.fill("input[name=name]", "ada")
    page.fill("input[name=password]", "correct horse")
    page.click("button")
    page.wait_for_selector(".wb-nav .bk-active:has-text('Curves')", timeout=120_000)
    assert "page=curves" in page.url
    assert visit.strangers(server.url) == []
    assert [text for text in visit.faults if "403" not in text] == []
