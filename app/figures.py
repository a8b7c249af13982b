"""How the pages lay figures out: panes that are emptied rather than hidden, and boxes that scroll where a screen is narrow."""

from __future__ import annotations

from typing import Any

import panel as pn

from workbench.views.markup import Html

HEADING = Html('<span style="font-size:17px;font-weight:650">{}</span>')
"""The line above a part of a page."""


def figure_pane(figure: Any = None, **options: Any) -> Any:
    """A pane for a HoloViews figure. Take a figure away with `pane.object = None`, never with `visible`: Panel can fail to
    hide one that is already drawn."""
    return pn.pane.HoloViews(figure, linked_axes=False, **{"margin": 0, **options})


def figure_box(*panes: Any) -> Any:
    """Figures beside each other, below each other where there is no room; what is wider than the screen scrolls in itself."""
    return pn.FlexBox(*panes, sizing_mode="stretch_width", margin=0, styles={"overflow-x": "auto"})
