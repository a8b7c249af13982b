"""report.html: every notebook's equations are drawn without another host."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from workbench.execution.html import ReportExporter

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
