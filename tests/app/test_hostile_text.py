"""Nothing that comes from a link, a run folder, a cohort or a sweep is ever HTML: all pages walked over hostile text.

The walk reads what would be sent to the browser. A kind of model that is not listed here fails as soon as it carries foreign
text, so whoever adds one has to find out how it shows text. `tests/browser/test_hostile_text.py` opens the same in a browser.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import panel as pn
import pytest
from bokeh.models import HoverTool
from hostile import DANGEROUS, EVERYTHING, FILE_NAME, hostile_elements, texts
from panel.models.markup import HTML

from app.shell import Shell
from app.state import PAGES, AppState
from app.store import Store
from workbench.views.panes import HTML_CELLS, Notice, TextMultiChoice, TextPane, TextTable

AS_TEXT = {
    "CustomSelect", "Select", "RadioButtonGroup",  # native elements: a label or an option is a text node
    "Title", "LegendItem", "FactorRange", "Label", "LinearAxis", "CategoricalAxis",  # drawn on a canvas
    "GlyphRenderer",  # a name that is not shown
    "ColumnDataSource", "CDSView", "GroupFilter",  # values: `cells` looks at those of tables, `tooltips` at those of figures
    "TableColumn", "DataTabulator",  # looked at by `cells`
}  # fmt: skip
"""Models that show what they are given as text, or are looked at closely below."""


def queries() -> Iterator[dict[str, Any]]:
    """Links with hostile text in every field, one after the other and all together."""
    for name in AppState.param:
        if name in ("name", "message"):
            continue
        yield {name: [EVERYTHING] if name == "runs" else EVERYTHING}
    yield {"runs": [EVERYTHING], "run": EVERYTHING, "case": EVERYTHING, "marker": EVERYTHING, "sweep": EVERYTHING}


def faults(viewable: Any) -> list[str]:
    """What would become an element in the browser that a payload asked for, and models that nobody has looked at."""
    found: list[str] = []
    pane = pn.panel(viewable)
    root = pane.get_root()
    for model in root.references():
        name = type(model).__name__
        carried = [text for text in texts(model.properties_with_values(include_defaults=False)) if _raw(text)]
        if isinstance(model, HTML):
            shown = html.unescape(model.text)  # Panel's HTML arrives escaped, and the browser takes that back once
            found += [f"{name}: {element}" for element in hostile_elements(shown)]
            found += [f"{name}: {shown[:200]}"] * _raw(shown)
        elif name == "DataTabulator":
            found += cells(model)
        elif isinstance(model, HoverTool):
            found += [f"{name}: {text}" for text in texts(model.tooltips) if _raw(text) or "{safe}" in text]
        elif carried and name not in AS_TEXT:
            found.append(f"{name} carries foreign text: does it show it as text? {carried[0][:120]}")
    pane._cleanup(root)  # else every later change of the state is carried to the models of all earlier looks
    return found


def cells(table: Any) -> list[str]:
    """The same of a Tabulator: its titles are HTML, and so are the cells of columns that say so."""
    columns = table.configuration["columns"]
    found = [
        f"title {text[:120]}" for column in table.columns for text in (column.title,) if _raw(text) or hostile_elements(text)
    ]
    for column in columns:
        if column.get("formatter") == HTML_CELLS["type"]:
            values = map(str, table.source.data[column["field"]])
            found += [f"cell {text[:200]}" for text in values if _raw(text) or hostile_elements(text)]
    return found


def _raw(text: str) -> bool:
    return any(payload in text for payload in (*DANGEROUS, FILE_NAME))


@pytest.fixture(scope="module")
def shell(hostile_folder: Path) -> Iterator[Shell]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_COHORTS", str(hostile_folder / "cohorts"))
        yield Shell(AppState(), Store(hostile_folder / "runs"))


@pytest.mark.parametrize("page", PAGES)
def test_hostile_run_folders_and_cohorts(shell: Shell, page: str) -> None:
    """Every page over runs whose words are all hostile, for each run as the one that is looked at."""
    rows = shell.store.runs()
    assert {row.state for row in rows} >= {"completed", "failed", "unreadable"}
    assert any(FILE_NAME in row.run for row in rows)
    shell.state.param.update(page=page, runs=[], run="", cohort="")
    assert faults(shell.page(page)) == []
    for row in rows if page in ("overview", "cases") else []:
        shell.state.param.update(run=row.run, case="", split="test")
        assert faults(shell.page(page)) == [], row.state
    if page == "cases":
        shell.state.param.update(run="", cohort=FILE_NAME, case="")
        assert shell.page(page).panel.shown_modality, "a case with images is shown"
        assert faults(shell.page(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_hostile_links(shell: Shell, page: str) -> None:
    shown = shell.page(page)
    for query in queries():
        shell.state.read_query("?" + urlencode({"page": page, **query}, doseq=True))
        shell.state.page = page
        assert bool(shell.state.message) == bool({"page", "split", "theme", "threshold", "position"} & {*query})
        assert faults(pn.Column(shown, shell.message)) == [], query
    shell.state.read_query("")


def test_a_hostile_sweep(hostile_folder: Path) -> None:
    shell = Shell(AppState(), Store(hostile_folder / "sweep" / "runs"))
    shell.state.param.update(page="ablations", against=EVERYTHING)
    page = shell.page("ablations")
    assert EVERYTHING[:20] in html.unescape(html.unescape(str(page.matrix.object)))
    assert faults(page) == []


@pytest.mark.parametrize(
    "pane",
    [
        pn.pane.HTML(EVERYTHING), pn.pane.Markdown(EVERYTHING), pn.pane.Alert(EVERYTHING), pn.pane.Str(EVERYTHING),
        pn.widgets.MultiChoice(options=[EVERYTHING]), pn.widgets.StaticText(value=EVERYTHING),
        pn.widgets.TooltipIcon(value=EVERYTHING),
        pn.Card(title=EVERYTHING), pn.Accordion((EVERYTHING, "")),
    ],
    ids=lambda pane: type(pane).__name__,
)  # fmt: skip
def test_the_walk_finds_what_is_not_escaped(pane: Any) -> None:
    assert faults(pn.Column(pane))


def test_the_walk_finds_tables_that_are_not_escaped() -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [EVERYTHING], EVERYTHING: [1]})
    assert faults(pn.widgets.Tabulator(frame[["a"]], formatters={"a": HTML_CELLS}))
    assert faults(pn.widgets.Tabulator(frame))
    assert faults(TextTable(frame, formatters={"a": HTML_CELLS})) == []


def test_the_panes_of_the_workbench_pass() -> None:
    for pane in (TextPane(EVERYTHING), Notice(EVERYTHING), TextMultiChoice(options=[EVERYTHING], value=[EVERYTHING])):
        assert faults(pn.Column(pane)) == []
