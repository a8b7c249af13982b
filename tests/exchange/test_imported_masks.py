"""Other people's masks: found by a pattern of names."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import InputError, ParameterError
from workbench.exchange.imported_masks import find_masks, name_pattern


def test_patterns_of_names() -> None:
    assert name_pattern("*.nii.gz").fullmatch("A-1.nii.gz")["case"] == "A-1"
    assert name_pattern("{case}/seg_*.nii").fullmatch("A/seg_final.nii")["case"] == "A"
    assert not name_pattern("{case}.nii").fullmatch("A/b.nii")
    assert not name_pattern("*.nii").fullmatch("Axnii")
    for pattern in ("mask.nii", "{case}_{case}.nii"):
        with pytest.raises(ParameterError):
            name_pattern(pattern)


def test_masks_are_found_by_their_case_and_one_with_two_files_is_named(tmp_path: Path) -> None:
    for name in ("A/seg.nii", "B/seg.nii", "B/seg.nii.gz", "C/t1.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, problems = find_masks(tmp_path, "{case}/seg.nii*")
    assert found == {"A": tmp_path / "A" / "seg.nii", "B": tmp_path / "B" / "seg.nii"}
    (problem,) = problems
    assert problem.case == "B"
    assert "two files: seg.nii and B/seg.nii.gz" in problem.message
    with pytest.raises(InputError, match=r"no file matches '\*\.nii\.gz'.*the folder holds A, B, C"):
        find_masks(tmp_path, "*.nii.gz")
