"""The linked pictures of features in a real browser: a box drawn in one selects the same points in the other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import pytest
from bokeh.embed import file_html
from bokeh.resources import INLINE

from workbench.records.run_folder import FEATURES_FILE
from workbench.views.figures.features import feature_figure

pytestmark = pytest.mark.browser

# the canvases of the figures, wherever their shadow roots are
FRAMES = """() => {
  const found = [];
  const walk = (node) => {
    if (node.shadowRoot) walk(node.shadowRoot);
    for (const child of node.children ?? []) {
      if (child.classList.contains('bk-Canvas')) {
        const b = child.getBoundingClientRect();
        found.push([b.x, b.y, b.width, b.height]);
      }
      walk(child);
    }
  };
  walk(document.body);
  return found;
}"""
SOURCES = "() => [...Bokeh.documents[0]._all_models.values()].filter((m) => m.type == 'ColumnDataSource')"
SELECTED = f"() => ({SOURCES})().map((m) => [m.get_length(), [...m.selected.indices]])"


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    """A page with the plot of twenty cases of two sequences, far apart."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "case": f"c{i}",
            "subject": f"s{i}",
            "site": "a",
            "split": "test",
            "lesion": "ms" if i % 2 else "stroke",
            "present": name,
        }
        for i in range(20)
        for name in ("t1", "flair")
    ]
    values = np.stack([rng.normal(size=6) + 12 * np.eye(6)[int(row["present"] == "t1")] for row in rows])
    table = pd.DataFrame(rows).join(pd.DataFrame(values, columns=[f"f{k}" for k in range(6)]))
    table.to_parquet(tmp_path / FEATURES_FILE)
    (tmp_path / "spec.json").write_text(json.dumps({"method": "masm", "cohort": {"name": "demo", "phantom": True}}))
    page = file_html(hv.render(feature_figure(tmp_path), backend="bokeh"), INLINE)
    # Panel, once imported, adds to Bokeh's page the scripts and styles of whatever other tests have loaded, by an address that a
    # server has beside it: this page has none of them
    elsewhere = re.compile(
        r'^\s*<(?:script[^>\n]*\ssrc="[^"\n]*"[^>\n]*></script|link[^>\n]*\shref="[^"\n]*"[^>\n]*)>\s*$', re.MULTILINE
    )
    (tmp_path / "plot.html").write_text(elsewhere.sub("", page))
    return tmp_path / "plot.html"


def test_a_box_in_one_picture_selects_in_both(visit: Any, page_file: Path) -> None:
    page = visit.page
    page.goto(page_file.as_uri())
    page.wait_for_function("() => window.Bokeh?.documents[0]?.is_idle")
    (left, right) = page.evaluate(FRAMES)
    assert left[0] + left[2] <= right[0] + 1, "side by side"
    ((count, before),) = page.evaluate(SELECTED)
    assert (count, before) == (40, []), "one source for both"

    def shown(box: list[float]) -> bytes:
        return page.screenshot(clip={"x": box[0], "y": box[1], "width": box[2], "height": box[3]})

    pictures = shown(left), shown(right)
    x, y, width, height = left
    page.mouse.move(x + 0.16 * width, y + 0.18 * height)
    page.mouse.down()
    page.mouse.move(x + 0.96 * width, y + 0.45 * height, steps=8)
    page.mouse.up()
    page.wait_for_timeout(400)
    ((_, chosen),) = page.evaluate(SELECTED)
    assert 0 < len(chosen) < 40
    page.mouse.move(5, 5)
    page.wait_for_timeout(200)
    assert shown(left) != pictures[0]
    assert shown(right) != pictures[1], "the other picture fades what is not selected"
    assert visit.faults == []
    assert all(request.startswith("file:") for request in visit.requests)
