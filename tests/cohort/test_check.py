"""A cohort as a whole: every problem of every case, whatever is wrong with the others."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from damage import edit, edit_table

from workbench.cohort.check import check_cohort
from workbench.cohort.folds import make_folds
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.errors import Problem, WorkbenchError


def test_a_sound_cohort_has_no_problems(folder: Path) -> None:
    assert check_cohort(folder) == []
    make_folds(Cohort.open(folder), 3)
    assert check_cohort(Cohort.open(folder), workers=3) == []


def test_the_fixture_of_all_tests_is_sound(tiny_cohort: Cohort) -> None:
    assert [p for p in check_cohort(tiny_cohort) if p.severity == "error"] == []


def test_the_same_image_under_two_names(folder: Path) -> None:
    data = gzip.decompress((folder / "p0/t1.nii.gz").read_bytes())
    (folder / "p0/t2.nii.gz").write_bytes(gzip.compress(data, 1))  # other bytes, same image
    (folder / "p2/t1.nii.gz").write_bytes(gzip.compress(data, 1))
    within, between = check_cohort(folder)
    assert (within.case, within.channel, within.severity) == ("p0", "t2", "error")
    assert "t1 of the same case" in within.message
    assert (between.case, between.channel) == ("p2", "t1")
    assert "p0/t1.nii.gz" in between.message
    assert "another subject (p0)" in between.message


def test_equal_empty_masks_and_brain_masks_are_no_copies(folder: Path) -> None:
    for case in ("p0", "p1"):
        edit(folder / case / "seg.nii.gz", lambda a: a * 0)
    assert {p.message for p in check_cohort(folder)} == {"the mask is empty"}


def test_a_patient_in_two_folds(folder: Path) -> None:
    make_folds(Cohort.open(folder), 3)
    value = json.loads((folder / "folds.json").read_text())
    value["folds"][0], value["folds"][1] = ["p0", "p1"], ["p1"]
    value["folds"][2] = ["p2"]
    (folder / "folds.json").write_text(json.dumps(value))
    (problem,) = check_cohort(folder)
    assert problem.file == "folds.json"
    assert "patient p1 is in fold 0 and fold 1" in problem.message


def test_damaged_folds(folder: Path) -> None:
    (folder / "folds.json").write_text("{")
    (problem,) = check_cohort(folder)
    assert problem.severity == "error"
    assert "folds.json" in problem.message


def test_missing_modality_column(folder: Path) -> None:
    edit_table(folder, lambda t: t.drop(columns="t2"))
    (problem,) = check_cohort(folder)
    assert (problem.channel, problem.severity) == ("t2", "error")


def test_modality_nobody_has_and_path_outside(folder: Path) -> None:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(t2=None, t1=table["t1"].where(table["case"] != "p0", "../cohort/p0/t1.nii.gz"))

    edit_table(folder, change)
    found = {(p.severity, p.case, p.channel): p.message for p in check_cohort(folder)}
    assert "no case has the modality t2" in found.pop(("warning", "", "t2"))
    assert "leaves the image root" in found.pop(("error", "p0", "t1"))
    assert found == {}


def test_a_fault_of_the_check_itself_hides_no_other_case(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.cohort import check

    ordinary = check.inspect_case

    def broken(cohort: Cohort, row: pd.Series):
        if row["case"] == "p0":
            raise RuntimeError("surprise")
        return ordinary(cohort, row)

    monkeypatch.setattr(check, "inspect_case", broken)
    (folder / "p2/t1.nii.gz").unlink()
    found = check_cohort(folder)
    assert [(p.case, p.severity) for p in found] == [("p0", "error"), ("p2", "error")]
    assert "RuntimeError: surprise" in found[0].message


def test_no_cohort(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="is not a cohort"):
        check_cohort(tmp_path)


@pytest.mark.real_data
def test_real_data_has_warnings_only(real_data: Path, tmp_path: Path) -> None:
    def imported(name: str, modalities: str, **options: str) -> list[Problem]:
        images = {m: f"*/{m}.nii.gz" for m in modalities.split()}
        return check_cohort(import_cohort("generic", real_data / name, tmp_path / name, images=images, **options))  # type: ignore[arg-type]

    seg = {"segmentation": "*/seg.nii.gz"}
    glioma = imported("glioma", "t1c flair", brain_mask="*/brainmask.nii.gz", labels="brats2015", **seg)
    assert [(p.severity, p.channel) for p in glioma] == [("warning", "segmentation")] * 3
    assert all("float32" in p.message for p in glioma)
    (grid,) = imported("stroke", "dwi adc flair", labels="lesion", **seg)
    assert (grid.severity, grid.channel) == ("warning", "flair")
    assert imported("ms", "t1 t2", labels="lesion", **seg) == []
    assert imported("glioma_unlabelled", "t1 t1c t2 flair") == []
