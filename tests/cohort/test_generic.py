from __future__ import annotations

from pathlib import Path

import pytest

from workbench.cohort.generic import discover, glob_pattern
from workbench.errors import InputError, ParameterError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("glob", "path", "case"),
    [
        ("*/flair.nii.gz", "p1/flair.nii.gz", "p1"),
        ("*/flair.nii.gz", "a/p1/flair.nii.gz", None),  # one star is one name
        ("site_?/*_flair.nii.gz", "site_a/p1_flair.nii.gz", "p1"),
        ("site_[ab]/*_flair.nii.gz", "site_c/p1_flair.nii.gz", None),
        ("site_[!ab]/*_flair.nii.gz", "site_c/p1_flair.nii.gz", "p1"),
        ("**/*_t1.nii.gz", "x/y/p1_t1.nii.gz", "p1"),
        ("**/*_t1.nii.gz", "p1_t1.nii.gz", "p1"),
        ("sub-*/anat/*_T1w.nii.gz", "sub-7/anat/sub-7_acq-2_T1w.nii.gz", "7"),
        ("*/t1+c.nii.gz", "p1/t1+c.nii.gz", "p1"),  # characters that mean something in a regular expression
        ("*/t1+c.nii.gz", "p1/t11c.nii.gz", None),
        ("./*.nii", "p1.nii", "p1"),
    ],
)
def test_first_star_is_the_case(glob: str, path: str, case: str | None) -> None:
    match = glob_pattern(glob).fullmatch(path)
    assert (match["case"] if match else None) == case


@pytest.mark.parametrize("glob", ["p1/flair.nii.gz", "/data/*/flair.nii.gz", "../*/flair.nii.gz", "**/flair.nii.gz"])
def test_bad_globs_are_named(glob: str) -> None:
    with pytest.raises(ParameterError, match="glob"):
        glob_pattern(glob)


def test_discovery_nulls_repeats_and_masks_without_images(tmp_path: Path) -> None:
    touch(
        tmp_path, "p2/t1_run2.nii.gz", "p2/t1_run1.nii.gz", "p2/seg.nii.gz", "p10/t1_run1.nii", "p10/flair.nii.gz",
        "p3/seg.nii.gz", "p2/._t1_run0.nii.gz", "p2/t1_run1.json", ".hidden/t1_run1.nii.gz",
    )  # fmt: skip
    found = discover(tmp_path, {"t1": "*/t1*", "flair": "*/flair.nii.gz"}, segmentation="*/seg.nii.gz")
    table = found.cases.set_index("case")
    assert list(table.index) == ["p10", "p2"]
    assert found.modalities == ("t1", "flair")
    assert table.loc["p2", "t1"] == "p2/t1_run1.nii.gz"
    assert table.loc["p2", "repeats"] == "t1=p2/t1_run2.nii.gz"
    assert table["flair"].isna().tolist() == [False, True]
    assert table["segmentation"].isna().tolist() == [True, False]
    assert table["subject"].tolist() == ["p10", "p2"]
    assert len(found.remarks) == 1
    assert "p3" in found.remarks[0]


def test_suffix_is_no_part_of_the_case(tmp_path: Path) -> None:
    touch(tmp_path, "t1/p1.nii.gz", "t2/p1.nii")
    assert discover(tmp_path, {"t1": "t1/*", "t2": "t2/*"}).cases["case"].tolist() == ["p1"]


def test_every_glob_without_a_file_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1.nii.gz", "p1/t2.mgz")
    with pytest.raises(InputError) as caught:
        discover(tmp_path, {"t1": "*/t1.nii.gz", "t2": "*/t2.*", "flair": "*/FLAIR.nii.gz"})
    first, second = caught.value.problems
    assert (first.channel, second.channel) == ("t2", "flair")
    assert "none is named as a NIfTI" in first.message
    assert "*/FLAIR.nii.gz" in second.message


@pytest.mark.parametrize("name", ["T1", "t1+t2", "site", "2d", ""])
def test_modality_names_must_fit_the_table(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "p1/t1.nii.gz")
    with pytest.raises(ParameterError, match=r"modality"):
        discover(tmp_path, {name: "*/t1.nii.gz"})


def test_no_modality_at_all(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="at least one modality"):
        discover(tmp_path, {})
