"""Panes of text; that no page shows hostile text as HTML is tried in tests/app/test_hostile_text.py."""

from __future__ import annotations

import html

import pandas as pd
import panel as pn

from workbench.views.markup import Html
from workbench.views.panes import HTML_CELLS, Notice, TextMultiChoice, TextPane, TextTable

pn.extension("tabulator", design="bootstrap")
TAG = "<img src=x onerror=alert(1)>"


def sent(pane: object) -> str:
    """The HTML that the browser makes of a pane: it takes Panel's escaping back once."""
    return html.unescape(pane.get_root().text)  # type: ignore[attr-defined]


def test_text_is_text_and_html_is_html() -> None:
    assert sent(TextPane(TAG)) == html.escape(TAG)
    assert sent(TextPane(Html("<b>{}</b>").format(TAG))) == f"<b>{html.escape(TAG)}</b>"
    assert sent(TextPane("")) == sent(TextPane(None)) == ""


def test_a_notice_speaks_and_is_silent() -> None:
    notice = Notice()
    assert not notice.visible
    notice.say(f"no such case: {TAG}", "danger")
    assert notice.visible
    assert sent(notice) == f"no such case: {html.escape(TAG)}"
    notice.say("")
    assert not notice.visible


def test_titles_and_cells_of_a_table() -> None:
    frame = pd.DataFrame({TAG: [1.5, 2.5], "words": [TAG, "b"]})
    table = TextTable(frame, show_index=False)
    model = table.get_root()
    assert html.escape(TAG) in [column.title for column in model.columns]
    assert list(model.source.data["words"]) == [TAG, "b"], "shown as text by Tabulator"
    assert "formatter" not in next(c for c in model.configuration["columns"] if c["field"] == "words")


def test_cells_that_are_html() -> None:
    cells = pd.Series([Html("<b>{}</b>").format(TAG), TAG], dtype=object)
    table = TextTable(pd.DataFrame({"a": []}))
    table.put(pd.DataFrame({"a": cells}))
    assert table.formatters == {"a": HTML_CELLS}
    assert list(table.get_root().source.data["a"]) == [f"<b>{html.escape(TAG)}</b>", html.escape(TAG)]


def test_choices_are_escaped_and_still_chosen() -> None:
    choice = TextMultiChoice(options={TAG: "demo/a", "plain": "demo/b"}, value=["demo/a"])
    model = choice.get_root()
    assert model.value == [html.escape(TAG)]
    choice._process_events({"value": ["plain", html.escape(TAG)]})
    assert choice.value == ["demo/b", "demo/a"]
