"""What lies in a folder of images: which files count, in which order, and which are repeats."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.cohort.discovery import CaseFiles, nifti_stem, walk_files


@pytest.mark.parametrize(
    ("name", "stem"),
    [("t1.nii.gz", "t1"), ("a.b.nii", "a.b"), ("t1.nii.gz.part", None), ("t1.NII", None), ("t1.mha", None), (".nii", "")],
)
def test_the_stem_of_a_nifti_file(name: str, stem: str | None) -> None:
    assert nifti_stem(name) == stem


def test_hidden_files_are_no_images_and_the_order_is_fixed(tmp_path: Path) -> None:
    for name in ("b/t1.nii", "a/x/t2.nii", "a/t1.nii", "a/._t1.nii", ".trash/t1.nii", "c.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    assert list(walk_files(tmp_path)) == ["c.nii", "a/t1.nii", "a/x/t2.nii", "b/t1.nii", "linked/t1.nii"]


def test_the_first_of_several_files_counts_and_the_rest_are_repeats() -> None:
    files = CaseFiles()
    for case, column, path in (
        ("b", "t1", "b/t1_run2.nii"), ("b", "t1", "b/t1_run1.nii"), ("b", "t1", "b/t1_run3.nii"), ("b", "t2", "b/t2.nii"),
        ("a", "t2", "a/t2.nii"), ("a", "dwi", "a/dwi.nii"),
    ):  # fmt: skip
        files.add(case, column, path)
    table = files.table(("t1", "t2"))
    assert list(table.columns) == ["case", "t1", "t2", "repeats"]
    assert table.astype(object).where(table.notna(), None).to_numpy().tolist() == [
        ["a", None, "a/t2.nii", None],
        ["b", "b/t1_run1.nii", "b/t2.nii", "t1=b/t1_run2.nii;t1=b/t1_run3.nii"],
    ]
    assert CaseFiles().table(("t1",)).empty
