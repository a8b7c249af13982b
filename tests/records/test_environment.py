"""What a run was computed with: complete, cheap, free of what is volatile; and versions of changed code told apart."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from workbench import __version__
from workbench.records.environment import (
    ENVIRONMENT_FILE,
    differences,
    environment,
    note_environment,
    read_code_version,
    read_environments,
)


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def test_the_environment_names_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = environment()
    assert found["packages"]["torch"]
    assert found["packages"]["numpy"]
    assert found["python"].startswith("CPython 3.")
    assert found["cpu"]
    assert found["cores"]["logical"] >= 1
    assert isinstance(found["gpus"], list)
    assert found["variables"]["OMP_NUM_THREADS"] == "3", "variables are read afresh each time"
    assert json.loads(json.dumps(found)) == found


def test_differences_name_what_differs_and_nothing_else() -> None:
    first = {"since": "a", "cpu": "x", "packages": {"torch": "2.12", "numpy": "2.4"}, "gpus": [{"name": "A", "driver": "1"}]}
    second = {"since": "b", "cpu": "x", "packages": {"torch": "2.13", "numpy": "2.4"}, "gpus": [], "threads": 2}
    assert differences(first, first) == {}
    assert differences(first, second) == {
        "packages.torch": ("2.12", "2.13"),
        "gpus.0.name": ("A", "-"),
        "gpus.0.driver": ("1", "-"),
        "threads": ("-", "2"),
    }


def test_an_environment_is_noted_once_and_again_where_it_changed(tmp_path: Path) -> None:
    assert read_environments(tmp_path) == []
    note_environment(tmp_path, device="cpu", threads=1)
    note_environment(tmp_path, device="cpu", threads=1)
    assert [entry["threads"] for entry in read_environments(tmp_path)] == [1]
    note_environment(tmp_path, device="cpu", threads=2)  # resumed elsewhere
    note_environment(tmp_path, device="cpu", threads=1)
    assert [entry["threads"] for entry in read_environments(tmp_path)] == [1, 2, 1]
    assert read_environments(tmp_path)[0]["code_version"].startswith(__version__)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "{}"])
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ENVIRONMENT_FILE).write_text(text)
    assert read_environments(tmp_path) == []


def test_code_versions_tell_states_of_a_checkout_apart(tmp_path: Path) -> None:
    code = tmp_path / "workbench" / "method.py"
    code.parent.mkdir()
    code.write_text("a = 1\n")
    (tmp_path / "README.md").write_text("first\n")
    assert read_code_version(tmp_path) == __version__, "installed, not a checkout"
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit = read_code_version(tmp_path)
    assert commit.startswith(f"{__version__} (")
    assert "changes" not in commit
    (tmp_path / "README.md").write_text("second\n")
    assert read_code_version(tmp_path) == commit, "the documentation decides no result"
    versions = {commit}
    code.write_text("a = 'a secret'\n")
    versions.add(read_code_version(tmp_path))
    code.write_text("a = 3\n")
    versions.add(read_code_version(tmp_path))
    git(tmp_path, "add", ".")
    versions.add(read_code_version(tmp_path))  # staging changes nothing
    (code.parent / "new.py").write_text("b = 1\n")
    versions.add(read_code_version(tmp_path))
    (code.parent / "new.py").write_text("b = 2\n")
    versions.add(read_code_version(tmp_path))
    assert len(versions) == 5
    assert all("secret" not in version and len(version) < 60 for version in versions)
    assert sum("+changes." in version for version in versions) == 4
    (code.parent / "new.py").unlink()
    code.write_text("a = 1\n")
    assert read_code_version(tmp_path) == commit
