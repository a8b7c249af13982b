from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.check import check_cohort
from workbench.cohort.folds import make_folds
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort, CohortInfo
from workbench.errors import Problem, WorkbenchError

SHAPE = (24, 30, 20)
AFFINE = np.array([[-5.0, 0, 0, 60], [0, -5.0, 0, 75], [0, 0, 6.0, -60], [0, 0, 0, 1]])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "cohort"
    random = np.random.default_rng(0)
    rows = []
    for index in range(3):
        case = f"p{index}"
        row: dict[str, object] = {"case": case, "subject": case}
        for name in ("t1", "t2"):
            image = random.normal(100, 10, SHAPE).astype(np.float32)
            image[:, :8] = 0
            save(folder / case / f"{name}.nii.gz", image)
            row[name] = f"{case}/{name}.nii.gz"
        labels = np.zeros(SHAPE, np.uint8)
        labels[8:12, 14:18, 9:12] = 2
        labels[9, 15, 9 + index] = 1
        labels[10, 15, 10] = 4
        save(folder / case / "seg.nii.gz", labels)
        brain = np.zeros(SHAPE, np.uint8)
        brain[:, 8:] = 1
        save(folder / case / "brain.nii.gz", brain)
        rows.append(row | {"segmentation": f"{case}/seg.nii.gz", "brain_mask": f"{case}/brain.nii.gz"})
    info = CohortInfo(name="made up", modalities=("t1", "t2"), label_convention="brats2021")
    Cohort.create(folder, info, pd.DataFrame(rows))
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "cohort"))


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray | None], affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    array = np.asanyarray(image.dataobj).copy()
    changed = change(array)
    save(path, array if changed is None else changed, image.affine if affine is None else affine)


def put(array: np.ndarray, value: float) -> None:
    array[0, 0, 0] = value


def shifted(mm: float) -> np.ndarray:
    moved = AFFINE.copy()
    moved[1, 3] += mm
    return moved


def edit_table(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(folder / "cases.parquet")).to_parquet(folder / "cases.parquet", index=False)


def test_a_sound_cohort_has_no_problems(folder: Path) -> None:
    assert check_cohort(folder) == []
    make_folds(Cohort.open(folder), 3)
    assert check_cohort(Cohort.open(folder), workers=3) == []


def test_the_fixture_of_all_tests_is_sound(tiny_cohort: Cohort) -> None:
    assert [p for p in check_cohort(tiny_cohort) if p.severity == "error"] == []


def seg(case: Path) -> Path:
    return case / "seg.nii.gz"


ENEMIES: dict[str, tuple[str, str, str, Callable[[Path], None]]] = {
    "4-D": ("t2", "4-D", "error", lambda f: edit(f / "t2.nii.gz", lambda a: np.stack([a, a], -1))),
    "NaN": ("t2", "1 of 14400 voxels are NaN", "error", lambda f: edit(f / "t2.nii.gz", lambda a: put(a, np.nan))),
    "infinite": ("t1", "NaN or infinite", "error", lambda f: edit(f / "t1.nii.gz", lambda a: put(a, -np.inf))),
    "all zero": ("t2", "all voxels are 0", "error", lambda f: edit(f / "t2.nii.gz", lambda a: a * 0)),
    "constant": ("t2", "same value, 7", "error", lambda f: edit(f / "t2.nii.gz", lambda a: a * 0 + 7)),
    "missing": ("t1", "does not exist", "error", lambda f: (f / "t1.nii.gz").unlink()),
    "not an image": ("t1", "not compressed", "error", lambda f: (f / "t1.nii.gz").write_text("no image at all")),
    "truncated": ("t2", "truncated", "error", lambda f: (f / "t2.nii.gz").write_bytes((f / "t2.nii.gz").read_bytes()[:9000])),
    "another affine": ("t2", "up to 9.0 mm apart", "error", lambda f: edit(f / "t2.nii.gz", lambda a: a, shifted(9))),
    "another grid": ("t2", "another grid", "warning", lambda f: edit(f / "t2.nii.gz", lambda a: a[:, :, :15])),
    "elsewhere": ("t2", "wholly outside", "error", lambda f: edit(f / "t2.nii.gz", lambda a: a[:, :, :15], shifted(900))),
    "hardly overlapping": ("t2", "only", "warning", lambda f: edit(f / "t2.nii.gz", lambda a: a[:, :, :15], shifted(100))),
    "label 7": ("segmentation", "7 (1 voxels)", "error", lambda f: edit(seg(f), lambda a: put(a, 7))),
    "label 3": ("segmentation", "has only 0, 1, 2, 4", "error", lambda f: edit(seg(f), lambda a: put(a, 3))),
    "half a label": ("segmentation", "1.5 (1 voxels)", "error", lambda f: edit(seg(f), lambda a: np.where(a == 4, 1.5, a))),
    "NaN label": ("segmentation", "NaN", "error", lambda f: edit(seg(f), lambda a: np.where(a == 4, np.nan, a))),
    "float labels": ("segmentation", "float32, but are whole", "warning", lambda f: edit(seg(f), lambda a: a.astype("f4"))),
    "empty mask": ("segmentation", "mask is empty", "warning", lambda f: edit(seg(f), lambda a: a * 0)),
    "mask elsewhere": ("segmentation", "grid of no image", "error", lambda f: edit(seg(f), lambda a: a, shifted(9))),
    "mask of another size": ("segmentation", "grid of no image", "error", lambda f: edit(seg(f), lambda a: a[:-1])),
    "no brain": ("brain_mask", "empty", "error", lambda f: edit(f / "brain.nii.gz", lambda a: a * 0)),
    "all brain": ("brain_mask", "whole grid", "warning", lambda f: edit(f / "brain.nii.gz", lambda a: a * 0 + 1)),
    "grey brain": ("brain_mask", "not binary", "warning", lambda f: edit(f / "brain.nii.gz", lambda a: a.astype("f4") * 0.8)),
    "metres": ("t1", "suspicious spacing", "warning", lambda f: edit(f / "t1.nii.gz", lambda a: a, AFFINE * 3)),
}  # fmt: skip


@pytest.mark.parametrize("enemy", list(ENEMIES))
def test_enemy_is_named_and_hides_nobody(folder: Path, enemy: str) -> None:
    channel, words, severity, strike = ENEMIES[enemy]
    strike(folder / "p1")
    edit(folder / "p2" / "t1.nii.gz", lambda a: a * 0)  # a second, ordinary fault that must be found as well
    found = check_cohort(folder)
    here = [p for p in found if p.case == "p1"]
    match = [p for p in here if words in p.message and p.severity == severity and p.channel == channel]
    assert match, here
    assert match[0].file.startswith("p1/")
    assert match[0].remedy
    assert any(p.case == "p2" and "all voxels are 0" in p.message for p in found)
    assert not [p for p in found if p.case == "p0"]
    if severity == "warning" and channel != "t1":
        assert not [p for p in here if p.severity == "error"], here


def test_rounded_affines_are_one_grid(folder: Path) -> None:
    edit(folder / "p1" / "t2.nii.gz", lambda a: a, shifted(0.01))
    assert check_cohort(folder) == []


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


def test_case_without_an_image(folder: Path) -> None:
    edit_table(folder, lambda t: t.assign(t1=t["t1"].where(t["case"] != "p1"), t2=t["t2"].where(t["case"] != "p1")))
    found = [p for p in check_cohort(folder) if p.severity == "error"]
    assert [(p.case, p.message) for p in found] == [("p1", "the case has no image in any of t1, t2")]


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


def test_file_named_as_another_modality(folder: Path) -> None:
    for name, other in (("t1", "x"), ("t2", "t1"), ("x", "t2")):
        (folder / f"p1/{name}.nii.gz").rename(folder / f"p1/{other}.nii.gz")
    edit_table(
        folder,
        lambda t: t.assign(
            t1=t["t1"].where(t["case"] != "p1", "p1/t2.nii.gz"), t2=t["t2"].where(t["case"] != "p1", "p1/t1.nii.gz")
        ),
    )
    found = check_cohort(folder)
    assert [(p.severity, p.case, p.channel) for p in found] == [("warning", "p1", "t1"), ("warning", "p1", "t2")]
    assert "its name says t2" in found[0].message


def test_label_beyond_the_label_set_of_the_case(folder: Path) -> None:
    # label 4 of BraTS 2024 is a cavity, which annotators of a 'glioma' set cannot have drawn
    edit_table(folder, lambda t: t.assign(label_convention=["brats2021", "brats2024", "brats2021"], labels="glioma"))
    (problem,) = check_cohort(folder)
    assert (problem.case, problem.channel) == ("p1", "segmentation")
    assert "canonical label 4" in problem.message


def test_a_detailed_mask_may_be_read_as_one_class_but_a_binary_one_holds_no_more(folder: Path) -> None:
    edit_table(folder, lambda t: t.assign(labels=t["labels"].where(t["case"] != "p1", "lesion")))
    assert check_cohort(folder) == []
    edit_table(folder, lambda t: t.assign(label_convention=[None, "lesion", None]))
    (problem,) = check_cohort(folder)
    assert "the mask holds 2 (46 voxels), 4 (1 voxels)" in problem.message


def test_no_brain_mask_and_no_background(folder: Path) -> None:
    edit_table(folder, lambda t: t.assign(brain_mask=None))
    assert check_cohort(folder) == []  # a background of zeros is as good as a mask
    edit(folder / "p1" / "t1.nii.gz", lambda a: a + 1)
    (problem,) = check_cohort(folder)
    assert (problem.severity, problem.case, problem.channel) == ("warning", "p1", "t1")
    assert "no brain mask" in problem.message


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
