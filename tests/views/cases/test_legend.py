"""What the colours of an overlay mean."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.geometry import Grid
from workbench.views.cases.images import LabelColour, Volume
from workbench.views.cases.legend import legend_html
from workbench.views.cases.view import Overlay


@pytest.fixture
def volume() -> Volume:
    return Volume(np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4)))


def test_no_overlay_is_said() -> None:
    assert legend_html(None, {}, "none").count("No overlay") == 1


def test_each_label_has_its_colour_and_names_are_escaped(volume: Volume) -> None:
    colours = (LabelColour(1, "NCR <core>", "#112233"), LabelColour(2, "ED", "#445566"))
    html = legend_html(Overlay(volume, colours), {"Truth & more": "truth"}, "truth")
    assert "<b>Truth &amp; more</b>" in html
    assert "#112233" in html
    assert "NCR &lt;core&gt;" in html
    assert "linear-gradient" not in html
    assert "<b>gone</b>" in legend_html(Overlay(volume, colours), {}, "gone")


def test_a_map_has_a_scale_with_the_values_at_its_ends(volume: Volume) -> None:
    html = legend_html(Overlay(volume, low=0.0, step=2 / 255), {"Map": "map:x"}, "map:x")
    assert "linear-gradient" in html
    assert "0.2 <span" in html
    assert "</span> 2 (below: not drawn)" in html
