"""Hostile text in a real browser: every page over hostile runs, cohorts, sweeps and links. Nothing becomes an element, nothing
runs, nothing leaves. The elements are looked for whatever the headers would have stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hostile import EVERYTHING, FILE_NAME

from app.state import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WALK = """() => {
  const found = [];
  const walk = (root) => {
    for (const element of root.querySelectorAll("*")) {
      const names = [...element.attributes].map((attribute) => attribute.name);
      const asked = names.includes("data-hostile") || names.some((name) => name.startsWith("on"));
      if (asked || (element.getAttribute("href") || "").includes("hostile=")) found.push(element.outerHTML.slice(0, 200));
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  };
  walk(document);
  return {found, ran: window.hostile || 0};
}"""


def check(visit: Any, url: str) -> None:
    """Nothing on the page was made by a payload."""
    seen = visit.page.evaluate(WALK)
    assert seen == {"found": [], "ran": 0}
    assert visit.strangers(url) == []
    assert [text for text in visit.faults if "Content Security" in text or "hostile" in text] == []


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any], hostile_folder: Path) -> Any:
    return serve(hostile_folder / "runs", WORKBENCH_COHORTS=str(hostile_folder / "cohorts"))


def test_pages_over_hostile_folders(served: Any, visit: Any, hostile_folder: Path) -> None:
    run = next((hostile_folder / "runs").glob("*/*/metrics.parquet"))
    name = f"{run.parent.parent.name}/{run.parent.name}"
    for page in PAGES:
        visit.open(f"{served.url}?{urlencode({'page': page, 'run': name, 'runs': name}, doseq=True)}", ".wb-nav .bk-active")
        visit.page.wait_for_function("() => Bokeh.documents.length && Bokeh.documents[0].is_idle", timeout=120_000)
        visit.page.wait_for_timeout(500)
        check(visit, served.url)
        choices = visit.page.locator(".choices").first
        if choices.count() and choices.is_visible():
            choices.click()  # its list is built now
            check(visit, served.url)
        for plot in visit.page.locator(".bk-Figure").all()[:4]:
            if plot.is_visible():
                box = plot.bounding_box()
                for step in range(5):  # tooltips
                    visit.page.mouse.move(box["x"] + box["width"] * (0.2 + 0.15 * step), box["y"] + box["height"] * 0.5)
        check(visit, served.url)


def test_hostile_links(served: Any, visit: Any) -> None:
    for fields in (
        dict.fromkeys(("page", "split", "theme", "threshold", "position"), EVERYTHING),
        {"page": "overview", "run": EVERYTHING, "runs": [EVERYTHING, FILE_NAME], "metric": EVERYTHING, "region": EVERYTHING},
        {"page": "cases", "cohort": EVERYTHING, "case": EVERYTHING, "modality": EVERYTHING, "overlay": EVERYTHING},
        {"page": "cases", "cohort": FILE_NAME, "case": EVERYTHING},
        {"page": "cases", "run": EVERYTHING, "case": EVERYTHING},
        {"page": "curves", "marker": EVERYTHING, "runs": [EVERYTHING]},
        {"page": "robustness", "judged": EVERYTHING, "runs": [EVERYTHING]},
        {"page": "ablations", "sweep": EVERYTHING, "against": EVERYTHING, "order": EVERYTHING},
    ):
        url = f"{served.url}?{urlencode(fields, doseq=True)}"
        if len(url) > 8000:  # what the door lets in
            url = f"{served.url}?{urlencode({name: value if name == 'page' else FILE_NAME for name, value in fields.items()})}"
        visit.open(url, ".wb-nav .bk-active")
        visit.page.wait_for_function("() => Bokeh.documents.length && Bokeh.documents[0].is_idle", timeout=120_000)
        check(visit, served.url)


def test_a_hostile_sweep(serve: Callable[..., Any], hostile_folder: Path, visit: Any) -> None:
    server = serve(hostile_folder / "sweep" / "runs")
    page = visit.open(f"{server.url}?page=ablations", "h2")
    page.wait_for_selector(".bk-Figure", timeout=120_000)
    check(visit, server.url)
