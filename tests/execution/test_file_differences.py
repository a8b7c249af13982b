"""What differs between the same file of two runs, and how large that is; by numbers that can be worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.errors import RunError
from workbench.execution.file_differences import TOLERANCES, UNITS, Difference, compare_files, masks, tables


def save_labels(path: Path, labels: np.ndarray, edge: float = 2.0) -> Path:
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.diag([edge, 2.0, 2.0, 1.0])), path)
    return path


def test_masks_differ_by_their_share_of_the_voxels_in_either(tmp_path: Path) -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[1:3, 1, 1] = 1
    other = labels.copy()
    other[2, 1, 1], other[4, 3, 2] = 0, 2
    first, second = save_labels(tmp_path / "a.nii.gz", labels), save_labels(tmp_path / "b.nii.gz", other)
    (found,) = masks(first, second)
    assert (found.kind, found.size, found.where) == ("masks", pytest.approx(2 / 3), "2 voxels, first (2, 1, 1)")
    assert masks(first, first) == []
    (found,) = masks(first, save_labels(tmp_path / "c.nii.gz", labels, edge=2.5))
    assert found == Difference("", math.inf, "another grid")


def test_tables_are_the_same_in_any_order_and_numbers_differ_by_their_metric(tmp_path: Path) -> None:
    rows = [{"case": case, "metric": metric, "value": 4.0} for case in "ab" for metric in ("dice", "hd95")]
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    pd.DataFrame(rows).to_csv(first, index=False)
    pd.DataFrame(rows[::-1]).to_csv(second, index=False)
    assert compare_files(first, second, tables, TOLERANCES) is None
    changed = pd.DataFrame(rows)
    changed["value"] += [0.0, 0.0, 0.25, 1.5]
    changed.to_csv(second, index=False)
    assert sorted((found.kind, found.size, found.where) for found in tables(first, second)) == [
        ("distance", 1.5, "b, hd95"), ("overlap", 0.25, "b, dice"),
    ]  # fmt: skip
    worst = compare_files(first, second, tables, TOLERANCES)
    assert worst is not None
    assert worst.kind == "overlap", "1.5 mm of 5 mm are less than 0.25 of 0.02"
    pd.DataFrame(rows[:3]).to_csv(second, index=False)
    assert tables(first, second) == [Difference("", math.inf, "other rows: b, hd95")]


def test_a_share_of_what_is_tolerated() -> None:
    assert Difference("masks", 0.1, "").excess({"masks": 0.05}) == pytest.approx(2)
    assert Difference("masks", 0.0, "").excess({"masks": 0.0}) == 0
    assert Difference("masks", 1e-9, "").excess({"masks": 0.0}) == math.inf
    assert Difference("", 1e-9, "").excess(TOLERANCES) == math.inf, "other rows admit of no tolerance"
    assert set(UNITS) == {*TOLERANCES, ""}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    first, second = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    save_labels(first, np.ones((3, 3, 3)))
    second.write_bytes(b"torn")
    with pytest.raises(RunError, match=r"a\.nii\.gz and .*b\.nii\.gz cannot be compared"):
        compare_files(first, second, masks, TOLERANCES)
