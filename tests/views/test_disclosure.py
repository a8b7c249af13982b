"""No folder of the server on any page."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.views.disclosure import without_folders


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a working folder in it; runs and cohorts lie elsewhere, in a folder with a space."""
    for folder in ("home/project", "large disk/runs", "large disk/cohorts", "other/secret"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "large disk/runs"))
    monkeypatch.setenv("WORKBENCH_COHORTS", str(tmp_path / "large disk/cohorts"))
    monkeypatch.chdir(tmp_path / "home/project")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{}/large disk/runs/demo/unet does not exist", "runs/demo/unet does not exist"),
        ("no run of {}/large disk/runs", "no run of runs"),
        ("look into {}/large disk/runs.", "look into runs."),
        ("'{}/large disk/cohorts/my study/cohort.json' is damaged", "'cohorts/my study/cohort.json' is damaged"),
        ("{}/home/project/weights/a.pt", "./weights/a.pt"),
        ("{}/home/.ssh/id", "~/.ssh/id"),
        ("{}/home", "~"),
        ("{}/other/secret/case.nii.gz: cut short", "case.nii.gz: cut short"),
        ("was it moved? {}/other/secret/", "was it moved? secret/"),
        ("[Errno 2] No such file: '{}/other/se cret/x y.json'", "[Errno 2] No such file: 'x y.json'"),
        ("PosixPath('{}/other/secret')", "PosixPath('secret')"),
        ("a={}/other/a;b={}/other/b", "a=a;b=b"),
        ("PATH: {}/other/a:{}/other/b", "PATH: b"),
        ("//server/share/patients/x", "x"),
        ("file:///srv/patients/x.nii", "x.nii"),
        ("{}/large disk/runs2/x", "large disk/runs2/x"),
        ("<{}/other/secret>", "<secret>"),
        ("first {}/other/a\nsecond {}/large disk/runs/b", "first a\nsecond runs/b"),
    ],
)
def test_a_folder_of_the_server_is_named_or_gone(house: Path, text: str, shown: str) -> None:
    said = without_folders(text.replace("{}", str(house)))
    assert said == shown
    assert str(house) not in said
    assert without_folders(said) == said


@pytest.mark.parametrize(
    "text",
    ["", "T1 / T2", "mm/s", "1/2", "and/or", "./runs/x", "../x/y", "~/x/y", "runs/demo/unet", "</div>", "12/05/2024", "a/b/c",
     "/app", "https://arxiv.org/abs/2405.10246", "see http://127.0.0.1:5006/app?page=cases, ws://h/a/ws", "C:\\x", "x -> y"],
)  # fmt: skip
def test_what_is_no_folder_stays(house: Path, text: str) -> None:
    assert without_folders(text) == text


def test_a_folder_behind_a_link_is_known_by_both_names(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (house / "link").symlink_to(house / "large disk/runs")
    monkeypatch.setenv("WORKBENCH_RUNS", str(house / "link"))
    assert without_folders(f"{house}/link/a and {house}/large disk/runs/b") == "runs/a and runs/b"


def test_relative_folders_are_those_of_the_working_folder(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_RUNS")
    (house / "way").symlink_to(house / "home/project")
    monkeypatch.setenv("PWD", str(house / "way"))
    assert without_folders(f"{house}/home/project/runs/a, {house}/way/runs/b") == "runs/a, runs/b"


def test_a_store_of_another_folder_names_it(house: Path) -> None:
    assert without_folders(f"{house}/other/secret/demo", runs=house / "other/secret") == "runs/demo"


def test_a_home_that_is_the_root_hides_nothing_by_its_name(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert without_folders("/srv/a/b and /c") == "b and /c"
