"""What every notebook must be, without executing it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest

from workbench.contracts import PRETRAINING
from workbench.execution.notebook import check_notebook
from workbench.models.catalogue import card, list_models
from workbench.setup.parameters import ExperimentParameters, applicable, cell_fields, cell_source

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
METHODS = [entry.name for entry in list_models()]
SHARED = {entry.name for entry in list_models() if sum(entry.notebook_name == other.notebook_name for other in list_models()) > 1}
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def notebook_of(method: str) -> nbformat.NotebookNode:
    return read(card(method).notebook_name)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_cell_is_the_model(method: str) -> None:
    code = [cell for cell in notebook_of(method).cells if cell.cell_type == "code"]
    assert code[0].metadata.get("tags") == ["parameters"]
    assert code[0].source == cell_source(method)


@pytest.mark.parametrize("method", METHODS)
def test_papermill_reads_every_parameter_with_type_and_default(method: str) -> None:
    """Its inspection is a regular expression that drops lines it does not understand, e.g. with '=' in the comment."""
    path = FOLDER / f"{card(method).notebook_name}.ipynb"
    seen = papermill.inspect_notebook(str(path))
    fields = cell_fields(method)
    own = applicable(method)
    if card(method).network:
        assert own == list(ExperimentParameters.for_method(method).model_fields)
    assert set(seen) == set(fields)
    assert ("method" in seen) == (method in SHARED)
    assert set(own) - {"method"} <= set(seen), "a parameter that the notebook does not list"
    if method not in SHARED:
        assert set(own) - {"method"} == set(seen)
    for name, entry in seen.items():
        assert entry["default"] == repr(fields[name].default)
        assert entry["inferred_type_name"] == type(fields[name].default).__name__
        assert entry["help"] == fields[name].description
    check_notebook(path, method)


@pytest.mark.parametrize("method", sorted(SHARED))
def test_a_shared_cell_gives_every_method_its_own_defaults(method: str) -> None:
    namespace: dict[str, object] = {}
    exec(cell_source(method), namespace)
    found = ExperimentParameters.from_namespace(method, namespace | {"method": method})
    assert found == ExperimentParameters.build(method, {})
    assert found.resolve().identity() == ExperimentParameters.build(method, {}).resolve().identity()


def test_method_notebooks_share_their_common_cells_word_for_word() -> None:
    """Same id, same source; only the parameters, the opening line and the method's own story differ."""
    own = {"title", "parameters", "open", "model-text", "limits-text"}
    first = {cell.id: cell.source for cell in read("unet").cells}
    for method in METHODS:
        cells = {cell.id: cell.source for cell in notebook_of(method).cells}
        if PRETRAINING in card(method).tasks:  # no masks, no markers, no maps: it has results of its own
            common = {"cohort-text", "cohort", "diagram", "size", "training-text", "train", "tables", "notes"}
            assert {key: cells[key] for key in common} == {key: first[key] for key in common}
            assert {"examination", "reconstruction", "encoder"} <= set(cells)
            assert cells["open"] == first["open"].replace('"unet"', f'"{method}"')
            continue
        if not card(method).network:  # it has no training, no masks and no maps to show; what it shares is the same to the word
            assert {"cohort-text", "cohort", "tables", "notes"} <= set(cells)
            common = (set(first) & set(cells)) - own
            assert {key: cells[key] for key in common} == {key: first[key] for key in common}
            assert f'from_namespace("{method}", globals())' in cells["open"]
            continue
        assert set(first) <= set(cells)
        assert {key: cells[key] for key in first if key not in own} == {key: first[key] for key in first if key not in own}
        named = "method," if method in SHARED else f'"{method}",'
        assert cells["open"].replace(named, "METHOD") == first["open"].replace('"unet",', "METHOD")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_thin_and_stripped(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        tags = cell.metadata.get("tags", [])
        if "parameters" not in tags:
            assert len(cell.source.splitlines()) <= 15, f"cell {cell.id} belongs in the library"
        if "keep_output" in tags:
            assert cell.source.startswith("# NBVAL_CHECK_OUTPUT")
            assert cell.outputs, f"cell {cell.id} is checked against its output, which is stripped: it could not fail"
        else:
            assert not cell.outputs
            assert cell.execution_count is None
