"""The Ablations page in a real browser: figures at their size, links to runs, and back to the other pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FIGURE = ".bk-Figure"


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], sweep_runs: Path) -> Any:
    return serve(sweep_runs)


INNER = """Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type === "Figure" && m.inner_width !== undefined).map(m => Math.min(m.inner_width, m.inner_height))"""


def smallest_frame(page: Any) -> float:
    """Pixels inside the axes of the smallest figure: a figure that collapsed keeps its outer size."""
    page.wait_for_timeout(2500)  # Bokeh lays out a moment after its element is there
    return min(page.evaluate(INNER))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_shows_cells_and_forest_plots(server: Any, visit: Any, tmp_path: Path, theme: str) -> None:
    page = visit.open(f"{server.url}?page=ablations&theme={theme}&judged=auc:idh:mutant", FIGURE)
    page.get_by_text("20 of 24 runs finished").wait_for()
    assert page.locator(FIGURE).count() == 2, "one per method"
    assert smallest_frame(page) > 90
    page.locator("select").nth(1).select_option(label="HD95 (mm), ET")
    page.wait_for_url("**judged=hd95:ET**")
    page.get_by_text("lower is better").wait_for()
    assert visit.strangers(server.url) == []
    assert visit.faults == []
    assert server.errors() == ""


def test_a_cell_leads_to_its_run_and_a_switch_to_its_curves(server: Any, visit: Any) -> None:
    page = visit.open(f"{server.url}?page=ablations", FIGURE)
    page.get_by_role("link", name="no_attention").first.click()
    page.wait_for_url("**page=curves**")
    assert len(parse_qs(urlparse(page.url).query)["runs"]) == 2
    page.get_by_text("Metrics at threshold").wait_for()
    assert page.locator(FIGURE).count() == 6, "three curves, the difference, two confusion matrices"
    assert smallest_frame(page) > 90, "no figure has collapsed"
    page.get_by_role("button", name="Ablations").click()
    page.wait_for_url("**page=ablations**")
    page.get_by_role("link", name="✕ failed").click()
    page.wait_for_url("**run=attention/**")
    page.get_by_text("the loss is not finite").first.wait_for()
    assert visit.faults == []
    assert server.errors() == ""
