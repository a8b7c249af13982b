"""The Cases page in a real browser with software WebGL: what is on the canvas, which way round, and what comes back."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from workbench.cohort.table import Cohort
from workbench.prepare.images import native_labels
from workbench.views.cases.viewer_bundle import VIEWER_FILE, viewer_problem

pytestmark = pytest.mark.browser

RUN = "tiny/0123456789ab"
STATIC = Path(__file__).parents[2] / "app" / "static" / VIEWER_FILE


@pytest.fixture(scope="module")
def server(
    serve: Callable[..., Any], tiny_cohort: Cohort, make_case_run: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory, chromium: Any,
) -> Any:  # fmt: skip
    runs = tmp_path_factory.mktemp("runs")
    make_case_run(tiny_cohort, runs)
    started = serve(runs)
    urlopen(started.url, timeout=120).read()
    return started


@pytest.fixture
def viewer(visit: Any) -> Any:
    if viewer_problem(STATIC):
        pytest.skip(f"the volume viewer cannot be tested: {viewer_problem(STATIC)}")
    visit.page.set_viewport_size({"width": 1300, "height": 860})
    visit.frames = []
    visit.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: visit.frames.append(len(frame))))
    return visit


def query(page: Any) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def wait_query(page: Any, name: str, pattern: str) -> str:
    page.wait_for_function(
        "([name, pattern]) => new RegExp(pattern).test(new URLSearchParams(location.search).get(name) ?? '')", arg=[name, pattern]
    )
    return query(page)[name]


def readout(page: Any) -> tuple[float, float, float]:
    text = page.locator(".workbench-viewer .readout").inner_text().replace("−", "-")
    x, y, z = re.match(r"R (\S+)\s+A (\S+)\s+S (\S+) mm", text).groups()
    return float(x), float(y), float(z)


def axial(page: Any) -> None:
    page.get_by_label("Layout").select_option("Axial")
    page.locator("canvas[data-layout=axial]").wait_for()


def drawn(page: Any) -> int:
    return int(page.locator(".workbench-viewer canvas").get_attribute("data-drawn") or 0)


def wait_drawn(page: Any, before: int) -> None:
    """Until other volumes are shown than when `drawn` said `before`."""
    page.locator(f".workbench-viewer canvas:not([data-drawn='{before}'])").wait_for()


def canvas(page: Any) -> np.ndarray:
    page.wait_for_timeout(300)
    return np.asarray(
        Image.open(io.BytesIO(page.locator(".workbench-viewer canvas").screenshot(timeout=120_000))).convert("RGB")
    ).astype(int)


def most_lateral_case(cohort: Cohort) -> tuple[str, bool]:
    """A case of the test split with a full mask whose tumour lies far to one side, and whether that is the patient's left."""
    found = {}
    for index, case in enumerate(cohort.cases["case"]):
        if index % 3 != 2 and index != 3:  # in the test split, with a mask
            where = np.argwhere(native_labels(cohort, case) > 0)
            found[case] = where[:, 0].mean() - 18  # the brain's middle; the first axis of the files runs from right to left
    case = max(found, key=lambda name: abs(found[name]))
    assert abs(found[case]) > 2
    return case, found[case] > 0


def amber(picture: np.ndarray) -> np.ndarray:
    """Pixels of the letters' colour."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return (red > 150) & (green > 0.7 * red) & (green < 0.95 * red) & (blue < 0.6 * red)


def glyph(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.where(mask)
    return mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def test_the_picture_is_the_right_way_round(viewer, server, tiny_cohort):
    case, on_the_left = most_lateral_case(tiny_cohort)
    url = f"{server.url}?page=cases&run={RUN}&case={case}&modality=t1&overlay=none"
    page = viewer.open(url, ".workbench-viewer .readout:has-text('mm')")
    axial(page)
    plain = canvas(page)
    assert plain.std() > 20, "nothing is drawn"
    before = drawn(page)
    page.get_by_label("Overlay").select_option("Truth")
    wait_query(page, "overlay", "truth")
    wait_drawn(page, before)
    coloured = canvas(page)
    height, width = coloured.shape[:2]
    tumour = np.abs(coloured - plain).sum(axis=2) > 40
    brain = (plain.min(axis=2) > 60) & (np.ptp(plain, axis=2) < 12)
    assert tumour.sum() > 200
    side = np.where(tumour)[1].mean() - np.where(brain)[1].mean()
    assert (side > 5) if on_the_left else (side < -5), "radiological: the patient's left is on the right"
    letters = amber(plain)
    middle = slice(height // 2 - 30, height // 2 + 30)
    columns = np.where(letters[middle].any(axis=0))[0]
    left = glyph(letters[middle, : columns.min() + 20])
    right = glyph(letters[middle, columns.max() - 20 :])
    assert columns.min() < width / 2 < columns.max()
    upper_right = (slice(0, right.shape[0] // 2), slice(right.shape[1] // 2 + 1, None))
    assert right[upper_right].mean() < 0.1, "an L is empty there"
    upper_right = (slice(0, left.shape[0] // 2), slice(left.shape[1] // 2 + 1, None))
    assert left[upper_right].mean() > 0.2, "an R is not"
    assert viewer.strangers(server.url) == []
    assert viewer.complaints == []
    assert server.errors() == ""


def test_crosshair_and_keys_go_both_ways(viewer, server):
    url = f"{server.url}?page=cases&run={RUN}&case=TINY-00000-000&position=-10,12,7"
    page = viewer.open(url, ".workbench-viewer .readout:has-text('mm')")
    assert readout(page) == pytest.approx((-10, 12, 7), abs=0.1)
    axial(page)
    box = page.locator(".workbench-viewer canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.56, box["y"] + box["height"] * 0.45)
    moved = wait_query(page, "position", "^(?!-10,12,7$).+")
    assert [float(v) for v in moved.split(",")] == pytest.approx(list(readout(page)), abs=0.06)
    assert float(moved.split(",")[2]) == pytest.approx(7, abs=2.6)  # a click moves in the plane

    first, count = query(page)["case"], drawn(page)
    page.locator(".wb-brand").click()
    page.keyboard.press("PageUp")
    wait_query(page, "case", f"^(?!{first}$).+")
    assert "position" not in query(page)
    wait_drawn(page, count)
    count = drawn(page)
    page.keyboard.press("1")
    wait_query(page, "modality", "^t1$")
    wait_drawn(page, count)
    before = canvas(page)
    viewer.frames.clear()
    for _ in range(4):
        page.keyboard.press("]")
    page.locator("canvas[data-opacity='0.9']").wait_for()
    assert np.abs(canvas(page) - before).max() > 20, "the overlay looks as before"
    assert max(viewer.frames, default=0) < 5_000, "a change of opacity sent a volume"

    page.get_by_label("Layout").focus()
    page.keyboard.press("2")  # typed into a list: not ours
    page.wait_for_timeout(1000)
    assert query(page)["modality"] == "t1"
    assert viewer.complaints == []
    assert server.errors() == ""


def test_without_webgl_three_planes_stand_in(visit, server):
    visit.page.add_init_script("""
        const original = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind.startsWith("webgl") ? null : original.call(this, kind, ...rest);
        };
    """)
    page = visit.open(f"{server.url}?page=cases&run={RUN}&case=TINY-00000-000", ".bk-Figure")
    page.get_by_text("Three planes instead of the volume viewer").wait_for()
    page.wait_for_function("() => document.body.innerText.length > 0")
    assert page.locator(".bk-Figure").count() == 3
    box = page.locator(".bk-Figure").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.45)
    assert len(wait_query(page, "position", ".+").split(",")) == 3
    assert visit.strangers(server.url) == []
    assert server.errors() == ""
