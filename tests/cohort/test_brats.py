from __future__ import annotations

from pathlib import Path

import pytest

from workbench.cohort.brats import BRATS2021, BRATS2023, BRATS2024, discover
from workbench.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_2023_patient_and_timepoint(tmp_path: Path) -> None:
    for case in ("BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS-GLI-00017-000"):
        touch(tmp_path, *(f"Train/{case}/{case}-{suffix}.nii.gz" for suffix in ("t1n", "t1c", "t2w", "t2f", "seg")))
    touch(tmp_path, "Valid/BraTS-GLI-00020-000/BraTS-GLI-00020-000-t2f.nii.gz")
    found = discover(tmp_path, BRATS2023)
    table = found.cases.set_index("case")
    assert table["subject"].tolist() == ["BraTS-GLI-00005"] * 2 + ["BraTS-GLI-00017", "BraTS-GLI-00020"]
    assert table["timepoint"].tolist() == ["000", "001", "000", "000"]
    row = table.loc["BraTS-GLI-00005-001"]
    folder = "Train/BraTS-GLI-00005-001/BraTS-GLI-00005-001"
    assert [row[c] for c in ("t1", "t1c", "t2", "flair", "segmentation")] == [
        f"{folder}-{suffix}.nii.gz" for suffix in ("t1n", "t1c", "t2w", "t2f", "seg")
    ]
    last = table.loc["BraTS-GLI-00020-000"]
    assert last[["t1", "t1c", "t2", "segmentation"]].isna().all()
    assert (found.labels, found.modalities) == ("brats2023", ("t1", "t1c", "t2", "flair"))
    assert found.remarks == []


def test_2021_case_is_the_subject(tmp_path: Path) -> None:
    for case in ("BraTS2021_00002", "BraTS20_Training_001"):
        touch(tmp_path, *(f"{case}/{case}_{suffix}.nii.gz" for suffix in ("t1", "t1ce", "t2", "flair", "seg")))
    table = discover(tmp_path, BRATS2021).cases
    assert table["subject"].tolist() == table["case"].tolist() == ["BraTS2021_00002", "BraTS20_Training_001"]
    assert table["t1c"].str.endswith("_t1ce.nii.gz").all()
    assert table["timepoint"].isna().all()


def test_post_treatment_time_points_ask_for_the_2024_labels(tmp_path: Path) -> None:
    case = "BraTS-GLI-00005-100"
    touch(tmp_path, f"{case}/{case}-t1n.nii.gz", f"{case}/{case}-seg.nii.gz")
    (remark,) = discover(tmp_path, BRATS2023).remarks
    assert "brats2024" in remark


def test_2024_patient_time_points_and_labels(tmp_path: Path) -> None:
    cases = ("BraTS-GLI-00005-100", "BraTS-GLI-00005-101", "BraTS-GLI-00033-100")
    for case in cases:
        touch(tmp_path, *(f"training_data1_v2/{case}/{case}-{suffix}.nii.gz" for suffix in ("t1n", "t1c", "t2w", "t2f", "seg")))
    found = discover(tmp_path, BRATS2024)
    assert found.cases["case"].tolist() == list(cases)
    assert found.cases["subject"].tolist() == ["BraTS-GLI-00005"] * 2 + ["BraTS-GLI-00033"]
    assert found.cases["timepoint"].tolist() == ["100", "101", "100"]
    assert (found.labels, found.remarks) == ("brats2024", [])


def test_each_edition_counts_its_own_time_points() -> None:
    before, after = "BraTS-GLI-00005-000/BraTS-GLI-00005-000-t1n.nii.gz", "BraTS-GLI-00005-100/BraTS-GLI-00005-100-t1n.nii.gz"
    assert [naming.count([before, after, after]) for naming in (BRATS2021, BRATS2023, BRATS2024)] == [0, 1, 2]


def test_files_named_otherwise_are_left_out_and_told(tmp_path: Path) -> None:
    touch(tmp_path, "a-001/a-001-t1n.nii.gz", "atlas/mean-t1n.nii.gz", "copy/a-001-t1n.nii.gz")
    found = discover(tmp_path, BRATS2023)
    assert found.cases["case"].tolist() == ["a-001"]
    assert found.cases["t1"].tolist() == ["a-001/a-001-t1n.nii.gz"]
    assert found.cases["repeats"].tolist() == ["t1=copy/a-001-t1n.nii.gz"]
    assert "atlas/mean-t1n.nii.gz" in found.remarks[0]


def test_nothing_found_says_what_is_there(tmp_path: Path) -> None:
    touch(tmp_path, "p1/flair.nii.gz")
    with pytest.raises(InputError, match=r"1 NIfTI files, such as p1/flair\.nii\.gz"):
        discover(tmp_path, BRATS2021)
