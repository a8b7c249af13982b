"""report.html: every notebook's equations are drawn without another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat

from workbench.execution.html import POLICY, ReportExporter

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def html_of(*sources: str) -> str:
    cells = [nbformat.v4.new_markdown_cell(source) for source in sources]
    html, _ = ReportExporter(template_name="basic").from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    return html


def test_every_equation_of_every_notebook_is_drawn() -> None:
    cells = [
        cell.source for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
    ]
    drawn = html_of(*cells)
    assert drawn.count("<math") > 90
    assert drawn.count("<math") == sum(len(re.findall(r"\$\$.+?\$\$|\$[^$\n]+?\$", cell, re.DOTALL)) for cell in cells)
    assert "\\" not in drawn


def test_equations_in_and_between_lines() -> None:
    drawn = html_of("Weights $w_i < 1$ and\n\n$$\\sum_i w_i = 1$$\n\nand `$cost`")
    assert drawn.count("<math") == 2
    assert 'display="block"' in drawn
    assert "<code>$cost</code>" in drawn


def test_an_equation_that_cannot_be_read_stands_as_it_was_written() -> None:
    assert r"$x^a^b$" in html_of(r"what is $x^a^b$?")


class Page(HTMLParser):
    """The tags of a page with their attributes, and the policy at the time each of them is met."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def page_of(*outputs: dict[str, str]) -> str:
    made = [nbformat.v4.new_output("display_data", data=data) for data in outputs]
    cells = [nbformat.v4.new_markdown_cell("# Title, $x^2$"), nbformat.v4.new_code_cell("x", outputs=made)]
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": widgets, "title": "</title><script>run()</script>"})
    return ReportExporter().from_notebook_node(notebook)[0]


def test_a_report_names_no_host_and_has_no_script_of_its_own() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><circle r="3"/></svg>'
    page = page_of({"text/plain": "text <script>run()</script>"}, {"image/svg+xml": svg}, {"image/png": "iVBORw0KGgo="})
    tags = Page(page).tags
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "object", "embed", "base")]
    asked = [value or "" for _, given in tags for name, value in given.items() if name in ("src", "href", "srcset", "data")]
    assert [value for value in asked if value.startswith("data:image")], "the pictures are in it"
    assert not [value for value in asked if not value.startswith(("data:", "#"))]
    assert not re.search(r"cdn|mathjax|requirejs|mermaid[\w.-]*\.m?js|unpkg|jsdelivr", page, re.IGNORECASE)
    assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", page)


def test_what_an_output_holds_stands_below_a_policy_that_lets_nothing_run_or_leave() -> None:
    hostile = '<img src=x onerror="run()"><script>fetch("https://example.org")</script>'
    tags = Page(page_of({"text/html": hostile}, {"application/javascript": "run()"}, {"text/markdown": hostile})).tags
    policies = [index for index, (tag, given) in enumerate(tags) if given.get("http-equiv") == "Content-Security-Policy"]
    assert tags[policies[0]][1]["content"] == POLICY
    assert {"default-src 'none'", "form-action 'none'", "base-uri 'none'"} <= set(POLICY.split("; "))
    assert not re.search(r"script-src|connect-src|frame-src|https?:|\*", POLICY), "nothing widens what default-src forbids"
    first = next(index for index, (tag, _) in enumerate(tags) if tag in ("script", "style", "img", "body"))
    assert policies[0] < first, "before anything that it governs"
