"""The dashboard reads: nothing in it can change a run, a cohort or anything else on disk."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"
WRITES = {
    "write_text", "write_bytes", "write_json", "write_parquet", "write_csv", "to_csv", "to_parquet", "to_json",
    "to_pickle", "to_excel", "to_filename", "savez", "savefig", "dump", "mkdir", "makedirs", "touch", "unlink", "rmdir",
    "rmtree", "rename", "replace_file", "chmod", "symlink_to", "hardlink_to", "copy2", "copyfile", "copytree", "move",
    "remove", "removedirs", "truncate", "atomic_path", "system", "Popen", "check_call", "check_output", "execv",
    "spawn", "add_user", "cookie_secret", "NamedTemporaryFile", "mkstemp", "mkdtemp",
}  # fmt: skip
"""Names of what writes, removes or starts another process."""


def writes(source: str) -> list[str]:
    """Calls that write, by name; `open` with a mode that does."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [
            argument.value
            for argument in [*node.args, *(word.value for word in node.keywords)]
            if isinstance(argument, ast.Constant)
        ]
        if name == "rename" and {word.arg for word in node.keywords} & {"columns", "index"}:
            continue  # of a table
        if name in WRITES or (name == "open" and any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)):
            found.append(f"{name} in line {node.lineno}")
    return found


@pytest.mark.parametrize("path", sorted(APP.glob("*.py")), ids=lambda path: path.name)
def test_no_page_writes(path: Path) -> None:
    assert writes(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line", ["p.write_text('')", "open(p, 'w')", "p.open(mode='ab')", "shutil.rmtree(p)", "subprocess.Popen(c)"]
)
def test_writing_would_be_seen(line: str) -> None:
    assert writes(line)
