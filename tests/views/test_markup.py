"""HTML of ours and text of others are told apart by their type."""

from __future__ import annotations

import pytest

from workbench.views.markup import Html, html_table, lines

TAG = "<img src=x onerror=alert(1)>"
SHOWN = "&lt;img src=x onerror=alert(1)&gt;"


@pytest.mark.parametrize(
    "made",
    [
        Html("<b>{}</b>").format(TAG), Html("<b>{name}</b>").format(name=TAG), Html("<b>%s</b>") % TAG,
        Html("<b>") + TAG + Html("</b>"),
        Html("<b>{}</b>").format(Html("").join([TAG])), Html("<b>{0[0]}</b>").format([TAG]),
    ],
)  # fmt: skip
def test_what_is_put_in_is_escaped_once(made: Html) -> None:
    assert isinstance(made, Html)
    assert made == f"<b>{SHOWN}</b>"


def test_quotes_are_escaped_for_attributes() -> None:
    assert Html('<a title="{}">').format("\"'") == '<a title="&#34;&#39;">'


def test_numbers_keep_their_format() -> None:
    assert Html("{:.2f} {}").format(0.125, None) == "0.12 None"


def test_what_cannot_be_seen_and_folders_of_the_machine() -> None:
    assert Html.escape("a\u202eb \ud800") == "a\\u202eb \\ud800"
    assert Html.escape("cannot read /srv/patients/case-1.nii.gz") == "cannot read case-1.nii.gz"


def test_lines_and_tables() -> None:
    assert lines([TAG, Html("<i>x</i>")], Html("<p>{}</p>")) == f"<p>{SHOWN}</p><p><i>x</i></p>"
    table = html_table(["a", TAG], [[1, TAG], [Html("<i>x</i>"), ""]])
    assert table.count(SHOWN) == 2
    assert table.count("<tr>") == 3
    assert "<td><i>x</i></td>" in table
