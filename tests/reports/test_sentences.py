"""Names in the sentences of a notebook are text: no tag, no link and no picture comes out of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from workbench.reports.sentences import sentences

ROOM = Path(__file__).resolve().parents[2] / "workbench"


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=run()>", "<script>run()</script>", "</div><!-- ", "[here](javascript:run())",
        "![](https://example.org/a.png)", "[a][b]\n\n[b]: https://example.org", "<https://example.org>", "<a href=x>y</a>",
    ],
)  # fmt: skip
def test_what_looks_like_markup_in_a_name_is_shown(name: str) -> None:
    drawn = markdown2html_mistune(sentences(f"**Case** `r`: {name}\n\n- one < two").data)
    assert not re.search(r"<(?!/?(p|strong|code|ul|li)\b)[a-z!/]", drawn), drawn
    assert "<strong>Case</strong>" in drawn
    assert "<li>one &lt; two</li>" in drawn


def test_no_module_shows_markdown_any_other_way() -> None:
    elsewhere = [
        str(path.relative_to(ROOM))
        for path in ROOM.rglob("*.py")
        if "from IPython.display import" in (text := path.read_text(encoding="utf-8"))
        and re.search(r"(?<![\w.])Markdown\(|(?<![\w.])HTML\((?!Html|page\.format)", text)
    ]
    assert elsewhere == ["reports/sentences.py"]
