"""Panes and widgets that could show HTML, made to show text: foreign text goes through these and no others.

Panel's own HTML, Markdown and Alert panes run what they are given, Tabulator reads titles of columns as HTML, and so does the
library behind MultiChoice with its labels (Bokeh leaves its `allowHTML` on and offers no switch). `tests/test_house.py` refuses
those elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import panel as pn
from bokeh.models.widgets.tables import TableColumn

from workbench.text import visible
from workbench.views.markup import Html

_KINDS = {"warning": "#E69F00", "danger": "#D55E00"}


class TextPane(pn.pane.HTML):
    """Shows text as it is; only `Html` is markup."""

    def _transform_object(self, obj: Any) -> dict[str, Any]:
        return super()._transform_object("" if obj is None else str(Html.escape(obj)))


class Notice(TextPane):
    """A box with a remark or a fault; hidden while it has nothing to say.

    Args:
        text: what it says.
        kind: 'warning' or 'danger'.
    """

    def __init__(self, text: str = "", kind: str = "warning", **params: Any) -> None:
        super().__init__(**{"sizing_mode": "stretch_width", "margin": (0, 0, 8, 0), **params})
        self.say(text, kind)

    def say(self, text: str, kind: str = "warning") -> None:
        """Say this instead; nothing hides the box."""
        colour = _KINDS[kind]
        box = {"border-left": f"4px solid {colour}", "background": f"{colour}24", "padding": "8px 12px", "font-size": "14px"}
        self.param.update(object=text, visible=bool(text), styles=box | {"color": "var(--wb-text)", "overflow-wrap": "anywhere"})


class TextTable(pn.widgets.Tabulator):
    """A table of text, numbers and `Html`; titles of columns are text. Set it with `put`."""

    def __init__(self, frame: pd.DataFrame, **params: Any) -> None:
        super().__init__(frame, **{"formatters": html_formatters(frame), **params})

    def put(self, frame: pd.DataFrame, **changes: Any) -> None:
        """Show another frame; columns of `Html` are shown as such.

        Args:
            frame: `Html` cells stand in columns of dtype object, or pandas makes plain text of them.
            changes: other parameters to change with it.
        """
        formatters = {**changes.pop("formatters", {}), **html_formatters(frame)}
        self.param.update(value=frame, formatters=formatters, **changes)

    def _get_column_definitions(self, col_names: list[str], df: pd.DataFrame) -> list[TableColumn]:
        columns = super()._get_column_definitions(col_names, df)
        for column in columns:
            column.title = str(Html.escape(column.title))
        return columns

    def _get_data(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        frame, data = super()._get_data()
        for name, values in data.items():
            if self.formatters.get(name) == HTML_CELLS:
                data[name] = np.array([str(Html.escape(value)) for value in values], dtype=object)
            elif np.asarray(values).dtype.kind == "O":
                data[name] = np.array([visible(v) if isinstance(v, str) else v for v in values], dtype=object)
        return frame, data


HTML_CELLS = {"type": "html"}
"""Tabulator's name for cells that are markup."""


def html_formatters(frame: pd.DataFrame) -> dict[str, Any]:
    """The columns of a frame that hold `Html`, for Tabulator."""
    return {name: HTML_CELLS for name in frame.columns if len(frame) and isinstance(frame[name].iloc[0], Html)}


class TextMultiChoice(pn.widgets.MultiChoice):
    """A choice of several whose labels are text."""

    @property
    def labels(self) -> list[str]:
        """The labels as they are sent: escaped, since the browser reads them as HTML."""
        return [str(Html.escape(label)) for label in super().labels]
