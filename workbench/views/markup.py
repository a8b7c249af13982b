"""HTML that this project wrote, kept apart from text that came from outside.

Names of cases, runs, cohorts and sweeps, messages of errors, links: all of it is somebody else's text. `Html` is a type, so that
what shows it (`workbench.views.panes`) can tell one from the other and escapes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from workbench.text import visible
from workbench.views.disclosure import without_folders


class Html(Markup):
    """HTML written in this source: the argument is a literal, and what is put into it is escaped.

    `Html("<b>{}</b>").format(name)`, `Html(", ").join(names)` and `Html("<br>") + name` escape `name` unless it is `Html` itself.
    A test refuses an argument that is no literal (`tests/test_house.py`).
    """

    @classmethod
    def escape(cls, s: Any, /) -> Html:
        """Text as HTML that shows it, without the folders of the machine it is shown by; `Html` as it is."""
        return super().escape(s if hasattr(s, "__html__") else without_folders(visible(str(s))))


LINE = Html('<div style="margin:2px 0">{}</div>')


def lines(texts: Iterable[Any], each: Html = LINE) -> Html:
    """Remarks below each other, each put into `each`."""
    return Html("").join(each.format(text) for text in texts)


def html_table(head: Iterable[Any], rows: Iterable[Sequence[Any]]) -> Html:
    """A plain table; titles and cells are text, or `Html`."""
    top = Html("").join(Html("<th>{}</th>").format(title) for title in head)
    line, cell = Html("<tr>{}</tr>"), Html("<td>{}</td>")
    body = Html("").join(line.format(Html("").join(cell.format(value) for value in row)) for row in rows)
    return Html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(top, body)
