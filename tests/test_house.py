"""The house itself: light import, one way through, modules of a readable size, the same dependencies for pip and conda."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for room in ("workbench", "app", "tests") for path in (ROOT / room).rglob("*.py") if "node_modules" not in path.parts
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_import_workbench_is_light() -> None:
    heavy = run("import sys, workbench; print(sorted({'torch', 'monai', 'panel', 'pandas', 'numpy'} & set(sys.modules)))")
    assert heavy.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    ["app.main", "app.shell", "workbench.records.index", "workbench.views.figures.result_stills", "workbench.cohort.check"],
)
def test_torch_free_rooms_do_not_load_torch(module: str) -> None:
    loaded = run(f"import sys, importlib; importlib.import_module('{module}'); print({{'torch', 'monai'}} & set(sys.modules))")
    assert loaded.strip().splitlines()[-1] == "set()"


@pytest.mark.parametrize("configuration", ["pyproject.toml", ".importlinter-acyclic.ini"])
def test_layers(configuration: str) -> None:
    """One way through the house; and no circle, not even through imports for types, which the layers do not count."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", configuration]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stdout[-3000:]


def test_modules_are_of_a_readable_size() -> None:
    long = {str(path.relative_to(ROOT)): n for path in SOURCES if (n := len(path.read_text().splitlines())) > 500}
    assert not long


def test_rooms_are_of_a_readable_size() -> None:
    rooms = Counter(
        str(path.parent.relative_to(ROOT)) for path in SOURCES if path.name != "__init__.py" and "tests" not in path.parts
    )
    assert not {room: n for room, n in rooms.items() if n > 25}


def test_every_file_of_the_library_is_installed_with_it() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["workbench"]
    installed = {path for pattern in patterns for path in (ROOT / "workbench").glob(pattern)}
    others = {path for path in (ROOT / "workbench").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others
    assert others == installed


def test_only_experiments_knows_an_experiment() -> None:
    """What a run does takes a `RunSetup`, or just what it uses."""
    library = [path for path in SOURCES if {"workbench", "app"} & set(path.relative_to(ROOT).parts[:1])]
    assert len(library) > 300
    takes = [path for path in library if re.search(r":\s*[\"']?Experiment\b", path.read_text(encoding="utf-8"))]
    assert not [path for path in takes if path.parent.name != "experiments"]


def _has_logic(path: Path) -> bool:
    """More than declarations: a function of several statements, a branch, a loop."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(len(node.body) > 1 for node in functions) or any(isinstance(node, ast.If | ast.For) for node in nodes)


TESTED_TOGETHER = {
    "facts.py": "tests/models/test_method_facts.py",  # what methods are, as data
    "diagram.py": "tests/models/test_diagram.py",  # their diagrams, as data
    "niivue.py": "tests/browser/test_cases_page.py",
    "main.py": "tests/browser/test_app.py",
    "figures.py": "tests/browser/test_app.py",
}
"""Modules that no test file of their name tests, and the one that does."""


def test_the_tests_of_a_module_have_its_name() -> None:
    assert all((ROOT / place).is_file() for place in TESTED_TOGETHER.values())
    missing = []
    for path in SOURCES:
        room, *inside = path.relative_to(ROOT).parts
        if room == "tests" or path.name == "__init__.py" or path.name in TESTED_TOGETHER or not _has_logic(path):
            continue
        folder = (ROOT / "tests").joinpath(*(["app"] if room == "app" else []), *inside[:-1])
        if not (folder / f"test_{path.name}").is_file():
            missing.append(str(path.relative_to(ROOT)))
    assert not missing


SHOWS_HTML = {
    "HTML", "Markdown", "Alert", "Str", "DataFrame", "JSON", "Tabulator", "MultiChoice", "CrossSelector", "StaticText",
    "TooltipIcon", "HTMLBasePane", "Div", "PreText", "Paragraph", "DataTable", "ReactiveHTML", "Card", "Accordion",
}  # fmt: skip
"""What Panel and Bokeh have that can show text as HTML (with `pn.`, `pn.pane.`, `pn.widgets.` or imported from them)."""


def test_only_the_panes_of_text_can_show_html() -> None:
    """Foreign text is shown by `workbench.views.panes`, whose panes escape it; nothing else of the app can show HTML."""
    found = []
    for path in [*(ROOT / "app").glob("*.py"), *(ROOT / "workbench" / "views").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in SHOWS_HTML and ast.unparse(node).startswith(("pn.", "panel.")):
                found.append((path.name, ast.unparse(node)))
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("panel", "bokeh"):
                found += [(path.name, alias.name) for alias in node.names if alias.name in SHOWS_HTML]
    assert {name for name, _ in found} == {"panes.py"}, [pair for pair in found if pair[0] != "panes.py"]


def test_html_is_made_of_literals() -> None:
    """`Html(...)` trusts its argument: it is a literal of the source, and text goes in by `format`, which escapes."""
    wrong, made = [], 0
    for path in (path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("workbench", "app")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("Html", "Markup"):
                made += 1
                argument = node.args[0] if len(node.args) == 1 else None
                choices = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
                if not all(isinstance(choice, ast.Constant) for choice in choices):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert made > 40
    assert not wrong


def test_no_room_without_a_name() -> None:
    assert not [path for path in SOURCES if path.stem in {"utils", "util", "helpers", "helper", "common", "misc"}]


def test_constraints_hold_exact_public_versions() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), "only NAME==VERSION, no local version"
    assert "torch==2.13.0" in lines


def test_every_pin_has_its_hashes() -> None:
    pins = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")}
    entries = re.findall(
        r"^([^\s#]+==[^\s;]+)[^\n]*\\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", (ROOT / "hashes.txt").read_text(), re.M
    )
    assert {_pin(pin) for pin, _ in entries} == {_pin(pin) for pin in pins}


def _pin(line: str) -> tuple[str, str]:
    return _name(line), line.partition("==")[2]


def test_constraints_cover_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [spec for name, specs in project["optional-dependencies"].items() if name != "all" for spec in specs]
    named = {_name(spec) for spec in [*project["dependencies"], *extras]}
    pinned = {_name(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert named <= pinned


def _name(spec: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", spec).group().lower().replace("_", "-").replace(".", "-")  # type: ignore[union-attr]


def test_conda_environment_is_the_same() -> None:
    """environment.yml adds nothing of its own: python and pip, then the package with all extras under the same constraints."""
    text = (ROOT / "environment.yml").read_text()
    assert "--constraint constraints.txt" in text
    assert "--editable .[all]" in text
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"python{required}" in text
    assert len(re.findall(r"^\s+- ", text, re.M)) == 6  # channel, python, pip, pip:, and its two lines
