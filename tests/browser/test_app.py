"""The dashboard in a real browser: Overview and Curves, links, themes, and not one request to another host."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlparse

import panel.models.tabulator  # noqa: F401 - registers the models that the session is made of
import pytest
from bokeh.client import pull_session
from bokeh.models import ImportedStyleSheet
from tornado.httpclient import HTTPRequest

from app.overview import PAGE_SIZE
from workbench.records.index import list_runs

pytestmark = pytest.mark.browser

TABLE = ".tabulator-row"
TICKED = ".tabulator-row:has(input:checked)"
FIGURE = ".bk-Figure"


def keep(page: Any, tmp_path: Path, name: str) -> None:
    """Screenshot for whoever looks: WORKBENCH_SCREENSHOTS names the folder."""
    folder = Path(os.environ.get("WORKBENCH_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(800)  # Bokeh draws a moment after its element is there
    path = folder / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 20_000  # not a blank page


def seeds(runs: Path) -> dict[int, str]:
    return {row.parameters["seed"]: row.run for row in list_runs(runs) if row.state == "completed"}


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_overview(app: Any, visit: Any, tmp_path: Path, theme: str) -> None:
    page = visit.open(f"{app.url}?theme={theme}", FIGURE)
    page.wait_for_selector(TABLE)
    assert page.locator(TABLE).count() == 8
    assert page.get_by_text("unreadable", exact=False).count() >= 1
    assert page.title() == "Brain MRI Workbench"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (theme == "light")
    keep(page, tmp_path, f"overview-{theme}")
    assert visit.strangers(app.url) == []
    assert visit.faults == []
    assert app.errors() == ""


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_robustness(app: Any, visit: Any, runs_folder: Path, tmp_path: Path, theme: str) -> None:
    first, second = seeds(runs_folder)[1], seeds(runs_folder)[2]
    page = visit.open(f"{app.url}?page=robustness&theme={theme}&runs={first}&runs={second}", FIGURE)
    assert page.locator(FIGURE).count() == 3, "heat map, means by number, where one more hurts"
    page.locator("select").first.select_option(label="AUC, IDH mutation")
    page.wait_for_url("**judged=auc:idh:mutant**")
    keep(page, tmp_path, f"robustness-{theme}")
    assert visit.strangers(app.url) == []
    assert visit.faults == []
    assert app.errors() == ""


def test_ticking_runs_goes_into_the_link_and_the_link_brings_them_back(app: Any, visit: Any, runs_folder: Path) -> None:
    run = seeds(runs_folder)[2]
    page = visit.open(app.url, TABLE)
    row = page.locator(TABLE).filter(has_text=run)
    row.locator("input[type=checkbox]").click()
    page.wait_for_url("**runs=**")
    assert parse_qs(urlparse(page.url).query) == {"runs": [run]}
    page.goto(page.url)
    page.wait_for_selector(TICKED)
    assert run in page.locator(TICKED).inner_text()


@pytest.mark.slow
def test_ticks_of_a_table_of_several_pages_stay_as_the_user_left_them(
    serve: Callable[..., Any], visit: Any, sweep_runs: Path
) -> None:
    """The browser reports a selection as emptied when a table is rebuilt: ticks, address and figures once took turns."""
    shown = [row.run for row in list_runs(sweep_runs)]
    linked = [row.run for row in list_runs(sweep_runs) if row.state == "completed"][::6]
    assert len(shown) > 2 * PAGE_SIZE
    assert len(linked) == 4
    server = serve(sweep_runs)
    page = visit.open(f"{server.url}?{urlencode({'runs': linked}, doseq=True)}", FIGURE)
    own, latest = page.get_by_text("Comparison of the ticked runs"), page.get_by_text("Latest completed run of each method")

    from playwright.sync_api import expect  # here: without Playwright these tests are skipped, not broken

    def addressed() -> list[str]:
        return parse_qs(urlparse(page.url).query).get("runs", [])

    def box(run: str) -> Any:
        return page.get_by_label(f"compare {run}")

    for _ in range(40):  # 10 s: two looks at the runs folder and all headline numbers
        assert addressed() == linked
        assert latest.count() == 0
        page.wait_for_timeout(250)
    own.wait_for()
    assert page.locator(TICKED).count() == len(set(linked) & set(shown[:PAGE_SIZE]))

    first, last = next(run for run in shown[:PAGE_SIZE] if run not in linked), linked[-1]
    box(first).click()
    page.wait_for_url(f"**{first}**")
    page.get_by_role("button", name=f"Show Page {1 + shown.index(last) // PAGE_SIZE}").click()
    box(last).wait_for()
    expect(box(last)).to_be_checked()
    box(last).click()
    page.wait_for_url(lambda url: last not in url)
    expect(box(last)).not_to_be_checked(timeout=20_000)  # the address is there a moment before the table
    page.wait_for_timeout(1000)
    assert box(last).count() == 1, "a tick leaves the user on the page"
    page.locator(".tabulator-col", has_text="Run").locator(".tabulator-col-sorter").click()
    page.wait_for_timeout(5500)  # a look at the folder
    chosen = [*linked[:-1], first]
    assert addressed() == chosen
    for number in (1, 2, 3):
        page.get_by_role("button", name=f"Show Page {number}").click()
        page.wait_for_timeout(300)
        for text, ticked in [(row.inner_text(), row.locator("input:checked").count()) for row in page.locator(TABLE).all()]:
            assert bool(ticked) == any(run in text for run in chosen)
            for run in [run for run in chosen if run in text]:
                box(run).click()
                page.wait_for_url(lambda url, run=run: run not in url)
                expect(box(run)).not_to_be_checked(timeout=20_000)  # still on this page: the order is kept
    latest.wait_for()
    assert visit.faults == []
    assert server.errors() == ""


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_curves(app: Any, visit: Any, tmp_path: Path, runs_folder: Path, theme: str) -> None:
    runs = seeds(runs_folder)
    page = visit.open(f"{app.url}?page=curves&marker=idh&threshold=0.3&theme={theme}&runs={runs[1]}&runs={runs[2]}", FIGURE)
    page.get_by_text("Metrics at threshold 0.30").wait_for()
    page.get_by_text("chosen on 40 validation cases").first.wait_for()
    assert page.locator(FIGURE).count() == 6  # ROC, precision-recall, calibration, two confusion matrices, their difference
    keep(page, tmp_path, f"curves-{theme}")
    page.get_by_text("Use the Youden threshold").click()
    page.wait_for_url(lambda url: "threshold=0.3&" not in url and "threshold=" in url)
    assert visit.strangers(app.url) == []
    assert visit.faults == []
    assert app.errors() == ""


def test_navigation_and_theme_keep_the_rest_of_the_link(app: Any, visit: Any, runs_folder: Path) -> None:
    page = visit.open(f"{app.url}?runs={seeds(runs_folder)[1]}", TABLE)
    page.get_by_role("button", name="Curves").click()
    page.wait_for_url("**page=curves**")
    page.get_by_text("Metrics at threshold").wait_for()
    page.get_by_role("button", name="Dark theme").click()
    page.wait_for_url("**theme=dark**")
    page.get_by_role("button", name="Light theme").wait_for()
    query = parse_qs(urlparse(page.url).query)
    assert query == {"page": ["curves"], "runs": [seeds(runs_folder)[1]], "theme": ["dark"]}


def test_a_stale_link_says_so(app: Any, visit: Any) -> None:
    page = visit.open(f"{app.url}?page=nowhere&threshold=high&runs=demo/gone&run=demo/gone", TABLE)
    page.get_by_text("could not be followed in full").wait_for()
    page.get_by_text("Not in the runs folder (any more): demo/gone").wait_for()
    assert app.errors() == ""


def test_no_runs_says_what_to_do(serve: Callable[..., Any], visit: Any, tmp_path: Path) -> None:
    server = serve(tmp_path / "none")
    page = visit.open(server.url, "h3")
    assert "workbench run unet" in page.locator("pre").first.inner_text()
    keep(page, tmp_path, "overview-empty")
    assert visit.strangers(server.url) == []
    assert server.errors() == ""


def style_sheets(url: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    origin = url.removesuffix("/app")  # Bokeh's client is no browser: it sends none, and is refused
    request = functools.partial(HTTPRequest, headers={"Origin": origin})
    monkeypatch.setattr("bokeh.client.connection.HTTPRequest", request)
    session = pull_session(url=url)
    try:
        return {sheet.url for sheet in session.document.select({"type": ImportedStyleSheet})}
    finally:
        session.close()


def test_a_session_of_another_process_takes_its_style_sheets_from_here(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --num-procs the websocket may reach a process that never rendered the page; here it is opened without any page."""
    with ThreadPoolExecutor(1) as thread:  # Playwright's own event loop runs in this one
        sheets = thread.submit(style_sheets, app.url, monkeypatch).result()
    assert len(sheets) > 3
    assert [url for url in sheets if "//" in url] == []


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--dev",), ("--num-procs", "2")], ids=["dev", "two processes"])
def test_other_ways_to_serve(serve: Callable[..., Any], visit: Any, runs_folder: Path, options: tuple[str, ...]) -> None:
    server = serve(runs_folder, *options)
    visit.open(server.url, TABLE)
    assert visit.strangers(server.url) == []
    assert server.errors() == ""
