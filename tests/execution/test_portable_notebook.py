"""A notebook executed by a real kernel, with every kind of output: no folder of this machine is in it, nor in its report."""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from workbench.execution import notebook
from workbench.execution.html import write_report
from workbench.execution.portable_notebook import write_portable
from workbench.records.run_folder import RunFolder

SPEC = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
SOURCES = (
    "import json, os, pathlib, sys, tempfile, warnings\n"
    "from IPython.display import HTML, Markdown, display\n"
    "print(cohort, os.getcwd(), sys.prefix, json.__file__, pathlib.Path.home() / 'x', tempfile.gettempdir())\n"
    "print('elsewhere: /da' + 'ta/projects/secret/scan.nii.gz')\n"
    "warnings.warn(cohort)\n"
    "display(HTML(f'<a href=\"file://{cohort}/a.png\">{cohort}</a></div>'), Markdown(f'at {cohort}'))\n"
    "pathlib.Path(cohort, 'one')",
    "json.loads('{')",
)


def folders(*more: Path) -> list[str]:
    named = [
        str(Path.cwd()),
        sys.prefix,
        str(Path(json.__file__).parents[1]),
        str(Path(notebook.__file__).parents[2]),
        *map(str, more),
    ]
    return [f for name in named for f in (name, os.path.realpath(name)) if f.strip("/")] + [f"{Path.home()}/"]


def test_no_output_traceback_or_parameter_of_an_executed_notebook_names_a_folder(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "e", SPEC)
    cells = [nbformat.v4.new_code_cell("cohort = ''", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in SOURCES]
    made = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}}
    )
    nbformat.write(made, tmp_path / "made.ipynb")
    asked = SimpleNamespace(
        method="unet", model_fields_set={"cohort"}, cohort=str(tmp_path / "patients of alice"), runs=str(tmp_path)
    )
    run.claim()
    with pytest.raises(notebook.RunFailedError, match="JSONDecodeError"):
        notebook._execute(tmp_path / "made.ipynb", run, asked, 0.0)  # type: ignore[arg-type]
    write_report(run)
    kept = run.path("notebook.ipynb").read_text()
    assert "patients of alice/one" in kept, "the name of what was asked for stays"
    assert kept.count("JSONDecodeError") > 1
    assert "</a></div>" in kept, "markup is not taken for a path"
    assert "scan.nii.gz" in kept
    assert not run.path(".notebook.partial.ipynb").exists()
    for text in (kept, run.path("report.html").read_text()):
        for folder in folders(tmp_path):
            assert folder not in text, text[max(0, text.find(folder) - 200) :][:400]
        assert "/data/projects" not in text
        assert f"{tempfile.gettempdir()}/" not in text


def test_pictures_and_addresses_stay_as_they_are(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "e", SPEC)
    picture = base64.b64encode(bytes(range(256)) * 300).decode() + "/tmp/abc/def"
    data = {"image/png": picture, "text/html": f'<img src="data:image/png;base64,{picture}"> https://example.org/tmp/x'}
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", data=data)])
    partial = tmp_path / "partial.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), partial)
    write_portable(partial, run, {})
    assert nbformat.read(run.path("notebook.ipynb"), as_version=4).cells[0].outputs[0].data == data
    assert not partial.exists()
